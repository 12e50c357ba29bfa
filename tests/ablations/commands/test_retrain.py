"""`cscdarts retrain`: any cell, wherever it comes from, is trained without a search, and the answer says which."""

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from ablations.cli import main
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.keys import retraining_key
from cscdarts.spaces.known import KNOWN_GENOTYPES
from tests.support.records import written

CELL = str(KNOWN_GENOTYPES["PDARTS"])
NB201 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|"
#: No epoch: the network is built, tested once and recorded.
QUICK = ("--scale", "smoke", "--set", "evaluation.epochs=0", "--device", "cpu")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def retrained(capsys: pytest.CaptureFixture[str], cell: object, *words: object) -> dict[str, Any]:
    code, out, err = call(capsys, "retrain", "--genotype", cell, *QUICK, "--json", *words)
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)  # nothing but the answer
    return found


def test_a_known_cell_by_its_name(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    found = retrained(capsys, "PDARTS", "--protocol", "cifar10")
    assert set(found) == {"genotype", "hash", "folder", "values", "data"}
    assert found["genotype"] == CELL
    assert found["folder"] == f"runs/retrain/{found['hash']}"
    folder = RunFolder(here / found["folder"])
    assert written(folder.file("result.json"))["values"]["test_error_pct"] == found["values"]["test_error_pct"]
    assert found["data"]["dataset"] == "digits"
    record = written(folder.file("genotype.json"))
    assert (record["text"], record["rule"]) == (CELL, "given")
    config = folder.config()
    assert config.hash == found["hash"]
    assert config.identity_in("eval") == "none"
    assert (config.labels.method, str(config.supernet.split_ratio)) == ("cell PDARTS", "1")
    assert not folder.file("alphas.jsonl").exists()


def test_the_same_command_answers_again_without_training(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    first = retrained(capsys, "SNAS")
    result = RunFolder(here / first["folder"]).file("result.json")
    before = result.stat().st_mtime_ns
    assert retrained(capsys, str(KNOWN_GENOTYPES["SNAS"])) == first
    assert result.stat().st_mtime_ns == before


def test_people_are_told_error_and_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "retrain", "--genotype", "ENAS", *QUICK, "--out", "mine")
    assert code == 0
    values = written(RunFolder(Path("mine")).file("result.json"))["values"]
    assert f"test error   {values['test_error_pct']:.2f} %" in out
    assert f"parameters   {values['params_m']:.6f} M" in out
    assert "run folder   mine" in out


@pytest.mark.parametrize("way", ["name", "text", "file", "line", "stdin", "run"])
def test_one_cell_from_everywhere_is_one_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, here: Path, way: str
) -> None:
    log = here / "log.txt"
    log.write_text(f"epoch 0\ngenotype = {CELL}\nepoch 1\ngenotype = {KNOWN_GENOTYPES['DARTS_V1']}\n")
    (here / "cell.txt").write_bytes(f"\N{ZERO WIDTH NO-BREAK SPACE}best = {CELL}\n".encode("utf-16-le"))
    (here / "run").mkdir()
    (here / "run" / "genotype.json").write_text(json.dumps({"space": "darts", "text": CELL, "epoch": 3}))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"found {CELL}".encode())))
    source = {"name": "p-darts", "text": CELL, "file": here / "cell.txt", "line": f"{log}:2", "stdin": "-"}
    found = retrained(capsys, source.get(way, here / "run"))
    assert found["genotype"] == CELL
    config = RunFolder(here / found["folder"]).config()
    monkeypatch.chdir(here)
    assert found["hash"] == config.hash
    assert config.search.genotype == CELL


def test_a_cell_of_the_nasbench201_space_takes_its_own_protocol(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    found = retrained(capsys, "11")
    config = RunFolder(here / found["folder"]).config()
    assert found["genotype"] == NB201
    assert (config.supernet.space, config.evaluation.lr, config.labels.method) == ("nasbench201", 0.1, "cell")
    # A benchmark holds the cell, so it is looked up as any run's is.
    assert written(RunFolder(here / found["folder"]).file("check.json"))["index"] == 11


def test_a_protocol_of_another_space_lends_its_data_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "retrain", "--genotype", "PDARTS", "--protocol", "quickstart", *QUICK, "--json")
    assert code == 0
    assert json.loads(out)["genotype"] == CELL
    assert "protocol quickstart is made for cells of the nasbench201 space" in err


def test_a_preset_builds_its_own_network(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    plain, csc = retrained(capsys, "PDARTS"), retrained(capsys, "PDARTS", "--preset", "csc")
    assert plain["hash"] != csc["hash"]
    assert csc["values"]["params_m"] > plain["values"]["params_m"]
    config = RunFolder(here / csc["folder"]).config()
    assert (config.identity_in("eval"), config.labels.method) == ("cell", "cell PDARTS in csc")
    assert config.search.strategy == "given"


def test_a_run_whose_network_has_an_identity_is_told_apart(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    csc = retrained(capsys, "PDARTS", "--preset", "csc")
    code, out, err = call(capsys, "retrain", "--genotype", csc["folder"], *QUICK, "--json")
    assert code == 0
    assert "that run's own network has identity=cell in evaluation, this one none; --preset csc" in err
    assert json.loads(out)["hash"] == retrained(capsys, "PDARTS")["hash"]
    again = retrained(capsys, here / csc["folder"], "--preset", "csc")
    assert again == csc


def test_a_run_of_another_version_still_gives_its_cell(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "run").mkdir()
    (here / "run" / "genotype.json").write_text(json.dumps({"space": "darts", "text": CELL, "epoch": 3}))
    (here / "run" / "config.json").write_text('{"field_of_another_version": 1}')
    assert retrained(capsys, here / "run")["genotype"] == CELL


def test_settings_and_seed_are_those_asked_for(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    found = retrained(capsys, "PDARTS", "--seed", 5, "--set", "evaluation.channels=4", "--set", "labels.note=a, b")
    config = RunFolder(here / found["folder"]).config()
    assert (config.seed, config.evaluation.seed, config.evaluation.channels) == (5, 5, 4)
    assert config.labels.note == "a, b"
    other = retrained(capsys, "PDARTS", "--set", "evaluation.channels=4")
    keys = [retraining_key(RunFolder(here / one["folder"]).config(), CELL).id for one in (found, other)]
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--genotype", "nonsense"), "genotype: 'nonsense' is not valid; allowed: one of DARTS_V1"),
        (("--genotype", "missing/log.txt"), "There is no missing/log.txt"),
        (("--genotype", CELL[:-30]), "cut off"),
        (("--genotype", "PDARTS", "--protocol", "cifar"), "protocol: 'cifar' is not valid"),
        (("--genotype", "PDARTS", "--scale", "big"), "--scale"),
        (("--genotype", "PDARTS", "--preset", "nothing"), "preset: 'nothing' is not valid"),
        (("--genotype", "PDARTS", "--set", "search.genotype=ENAS"), "Give the cell with --genotype."),
        (("--genotype", "PDARTS", "--set", "search.strategy=gradient"), "cscdarts search looks for one"),
        (("--genotype", "PDARTS", "--set", "space=nasbench201"), "The space is the cell's."),
        (("--genotype", "PDARTS", "--set", "runtime.retrain=false"), "there is nothing to do"),
        (("--genotype", "PDARTS", "--set", "evaluation.channels=many"), "evaluation.channels"),
        (("--genotype", "PDARTS", "--set", "evaluation.batch_size=5000"), "at most the 1,437 training images"),
        (("--genotype", "PDARTS", "--device", "abacus"), "abacus"),
        (("--genotype", "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"), "cut off from the input"),
        (("--genotype", re.sub("'[a-z]+_[a-z0-9_]+'", "'none'", CELL)), "cut off from the input"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], here: Path, words: tuple[str, ...], sentence: str
) -> None:
    code, out, err = call(capsys, "retrain", "--scale", "smoke", "--json", *words)
    assert code == 2
    assert out == ""
    assert sentence in err
    assert len([line for line in err.splitlines() if line.startswith("cscdarts: ")]) == 1
    assert not list((here / "runs").rglob("*.json"))


def test_a_cell_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "retrain")
    assert code == 2
    assert "--genotype" in err


@pytest.mark.parametrize("command", ["cost", "check", "draw", "retrain"])
def test_every_command_that_takes_a_cell_lists_its_forms(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = call(capsys, command, "--help")
    text = " ".join(out.split())
    assert code == 0
    for form in ("as repositories print", "FILE:NAME", "FILE:LINE", "log, notebook, JSON or YAML", "standard input"):
        assert form in text
    assert ("known name" in text) == (command != "check")  # no benchmark holds a known cell
    assert ("run folder" in text) or ("RUN is" in text)


@pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
def test_the_cell_of_a_run_is_drawn_as_by_its_name(capsys: pytest.CaptureFixture[str], here: Path, ending: str) -> None:
    run = here / "run"
    run.mkdir()
    (run / "genotype.json").write_text(json.dumps({"space": "darts", "text": CELL, "epoch": 3}))
    drawn = []
    for number, source in enumerate((run, run / "genotype.json", "PDARTS", CELL)):
        out = here / f"{number}.{ending}"
        assert call(capsys, "draw", source, "--out", out)[0] == 0
        drawn.append(out.read_bytes())
    assert len(set(drawn)) == 1
