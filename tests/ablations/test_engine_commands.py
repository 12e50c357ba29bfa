"""The engine's commands: known answers through the command line, evidence for every switch, sentences for bad input."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ablations.cli import main
from cscdarts.spaces.known import KNOWN_GENOTYPES


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(words)
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from ablations.cli import _run; _run(['--help'], False); "
        "heavy = {'torch', 'pandas', 'mlflow', 'numpy', 'sklearn', 'submitit'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ablate" in done.stdout


@pytest.mark.parametrize(
    ("name", "params"),
    [("DARTS_V1", 3.169414), ("DARTS_V2", 3.349342), ("PC_DARTS_cifar", 3.634678), ("PC_DARTS_image", 3.721510)],
)
def test_cost_of_known_genotypes(capsys: pytest.CaptureFixture[str], name: str, params: float) -> None:
    words = ("cost", "--genotype", name, "--channels", "36", "--cells", "20", "--classes", "10", "--json")
    code, out, _ = call(capsys, *words)
    found = json.loads(out)
    assert code == 0
    assert found["params_m"] == params
    assert found["macs_m"] > 500


def test_a_genotype_is_a_name_a_folder_a_file_or_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = str(KNOWN_GENOTYPES["DARTS_V2"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "genotype.json").write_text(json.dumps({"space": "darts", "text": text, "epoch": 1}))
    (tmp_path / "cell.txt").write_text(text)
    ways = (
        "DARTS_V2",
        str(tmp_path / "run"),
        str(tmp_path / "run" / "genotype.json"),
        str(tmp_path / "cell.txt"),
        text,
    )
    answers = {call(capsys, "cost", "--genotype", way, "--json")[1] for way in ways}
    assert len(answers) == 1
    assert json.loads(answers.pop())["params_m"] == 3.349342


def test_cost_of_a_supernet_has_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "cost",
        "--space",
        "darts",
        "--split-ratio",
        "0.25",
        "--identity",
        "none",
        "--channels",
        "16",
        "--cells",
        "8",
    )
    code, out, _ = call(capsys, *words, "--batch", "2", "--json")
    found = json.loads(out)
    assert code == 0
    assert {"params_m", "macs_m", "memory_access_mb", "saved_mb"} <= set(found)
    assert round(found["params_m"], 3) == 0.300
    assert found["saved_mb"] > 0


def test_saved_bytes_grow_with_the_batch_and_fall_with_the_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    def saved(ratio: str, batch: str) -> float:
        words = ("cost", "--space", "nasbench201", "--split-ratio", ratio, "--channels", "8", "--cells", "1")
        found: float = json.loads(call(capsys, *words, "--batch", batch, "--json")[1])["saved_mb"]
        return found

    assert saved("1", "4") == pytest.approx(2 * saved("1", "2"), rel=0.05)
    assert saved("1/4", "4") < saved("1/2", "4") < saved("1", "4")


def test_explain_names_evidence_for_twenty_switches(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "config", "--explain")
    assert code == 0
    assert out.count("evidence") == 20
    assert "20. seeds" in out
    rows = json.loads(call(capsys, "config", "--explain", "--json")[1])
    assert {row["level"] for row in rows} == {"known", "inferred", "unknown"}


def test_config_prints_every_setting_and_the_hash(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "config", "--protocol", "cifar10", "--preset", "pcdarts", "--set", "profile=pcdarts")
    assert code == 0
    for line in ("supernet.split_ratio = 1/4", "search.batch_size = 256", "search.lr = 0.1", "labels.method = pcdarts"):
        assert line in out.splitlines()
    assert "hash = " in out
    assert "deviation" in call(capsys, "config", "--presets")[1]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("cost", "--genotype", "nonsense"), "genotype"),
        (("cost", "--batch", "0"), "--batch"),
        (("cost", "--image-size", "30"), "multiple of 4"),
        (("cost", "--split-ratio", "7"), "split_ratio"),
        (("cost", "--genotype", "DARTS_V2", "--fit-macs", "0.001"), "fit_macs"),
        (("config", "--preset", "magic"), "pcdarts"),
        (("config", "--protocol", "mnist"), "cifar10"),
        (("config", "--set", "identty=cell"), "identity"),
        (("search", "--scale", "huge"), "smoke"),
        (("search", "--out", "/proc/nowhere"), "--out"),
        (
            ("search", "--set", "data.dataset=image-folder", "--data-root", "/nowhere"),
            "There is no /nowhere. Name a folder",
        ),
        (("search", "--device", "quantum"), "runtime.device"),
        (("search", "--set", "data.image_size=10"), "multiple of 4"),
        (("mlflow", "--port", "70000"), "port"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, *words)
    assert code == 2
    assert named in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("runs/search/*")), "nothing half-written"


def test_a_port_in_use_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "Run a grid first" in call(capsys, "mlflow")[2]
    (tmp_path / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = call(capsys, "mlflow", "--port", str(taken.getsockname()[1]))
    assert code == 2
    assert "in use" in err


def test_what_was_trained_stays_when_a_later_stage_refuses(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search of hours in a folder of its own is not thrown away for an error of the user's in its retraining."""
    import ablations.run.stages as stages
    from cscdarts.errors import UserError

    def refuse(*_: object) -> None:
        raise UserError("genotype", "a cell", "another", "Give another.")

    monkeypatch.setattr(stages, "ENGINE", {**stages.ENGINE, "check": lambda *_: None, "retrain": refuse})
    words = ("search", "--scale", "smoke", "--device", "cpu", "--set", "search.epochs=1", "--out")
    tiny = ("--set", "data.search_fraction=0.05", "--set", "search.batch_size=16")
    code, _, err = call(capsys, *words, str(tmp_path / "kept"), *tiny)
    assert code == 2
    assert f"genotype: 'a cell' is not valid; allowed: another. Give another. (see {tmp_path / 'kept'})" in err
    assert list((tmp_path / "kept").rglob("search.json"))
    # Without a search there is nothing worth keeping.
    code, _, err = call(capsys, *words, str(tmp_path / "gone"), *tiny, "--preset", "random")
    assert code == 2
    assert "(see" not in err
    assert not (tmp_path / "gone").exists()
