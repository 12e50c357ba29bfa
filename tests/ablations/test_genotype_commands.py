"""What commands that take a genotype share: the same reading, sentences for what each does not allow, drawings."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ablations.cli import main
from ablations.commands.cells.check import _with_identity
from cscdarts.spaces.known import KNOWN_CELLS, KNOWN_GENOTYPES
from reports.figures.genotype import layout

CELL = str(KNOWN_GENOTYPES["PDARTS"])
NB201 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|"


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_cost_tells_which_cell_it_took(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(
        f"epoch 0\ngenotype = {KNOWN_GENOTYPES['DARTS_V1']}\nepoch 1\ngenotype = {CELL}\n", encoding="utf-16"
    )
    code, out, err = call(capsys, "cost", "--genotype", log, "--json")
    assert code == 0
    assert json.loads(out)["params_m"] == 3.433798
    assert err == "cscdarts: took the last of 2 cells: line 4, epoch 1\n"


def test_standard_input_reaches_every_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (("cost", "--genotype", "-"), ("check", "-"), ("draw", "-", "--out", tmp_path / "cell.svg")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"best: {NB201}".encode())))
        code, out, err = call(capsys, *words)
        assert (code, err) == (0, "")
        assert out


def test_forms_that_other_repositories_print(capsys: pytest.CaptureFixture[str], shared: Path) -> None:
    """The six forms are one cell. Their file calls it DARTS_V2; gene by gene it is SNAS, which has 2.661382 M
    parameters."""
    paragraphs = (shared / "cases" / "genotypes.txt").read_text().strip().split("\n\n")[1:]
    assert len(paragraphs) == 6
    for paragraph in paragraphs:
        words = ("cost", "--genotype", paragraph, "--channels", 36, "--cells", 20, "--classes", 10, "--json")
        code, out, _ = call(capsys, *words)
        found = json.loads(out)
        assert code == 0
        assert found["genotype"] == str(KNOWN_GENOTYPES["SNAS"])
        assert found["params_m"] == 2.661382


@pytest.mark.parametrize("form", ["(3, 3, 4, 0, 3, 4)", "11", f"Structure(4 nodes with {NB201})", NB201])
def test_check_reads_a_cell_in_every_form(capsys: pytest.CaptureFixture[str], form: str) -> None:
    code, out, _ = call(capsys, "check", form, "--json")
    assert code == 0
    assert json.loads(out)["index"] == 11


def test_an_index_is_a_cell_for_cost_too(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "cost", "--genotype", "11", "--json")
    assert code == 0
    assert json.loads(out)["genotype"] == NB201
    assert err == ""


@pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
@pytest.mark.parametrize("cell", ["PDARTS", "ENAS", "FairDARTS_a", NB201])
def test_drawing_twice_gives_the_same_bytes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, ending: str, cell: str
) -> None:
    first, second = tmp_path / f"first.{ending}", tmp_path / f"second.{ending.upper()}"
    for path in (first, second):
        code, out, _ = call(capsys, "draw", cell, "--out", path)
        assert code == 0
        assert out.startswith(f"{path}\n")
    start = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[ending]
    assert first.read_bytes().startswith(start)
    assert first.read_bytes() == second.read_bytes()


def test_a_drawing_is_the_same_in_another_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = f"from ablations.cli import main; main(['draw', 'SNAS', '--out', {str(tmp_path / 'other.svg')!r}])"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    call(capsys, "draw", "SNAS", "--out", tmp_path / "here.svg")
    assert (tmp_path / "other.svg").read_bytes() == (tmp_path / "here.svg").read_bytes()


def test_a_drawing_says_its_cells_in_words(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, out, _ = call(capsys, "draw", "DARTS_V2", "--out", tmp_path / "cell.svg", "--title", "DARTS, second order")
    assert "normal cell: k−2 to 0 sep 3×3; k−1 to 0 sep 3×3;" in out
    assert "reduction cell: k−2 to 0 max 3×3;" in out


@pytest.mark.parametrize("name", KNOWN_GENOTYPES)
def test_no_label_of_a_drawing_hides_another(name: str) -> None:
    for cell in layout(KNOWN_GENOTYPES[name]):
        tops = [arc.top for arc in cell.arcs if arc.op != "none"]
        assert len(set(tops)) == len(tops)
        assert max(height for _, height in tops) <= cell.height


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("draw", "PDARTS", "--out", "cell.gif"),
            "--out: 'cell.gif' is not valid; allowed: a file that ends in .svg, .pdf or .png.",
        ),
        (("draw", "PDARTS", "--out", "cell"), "a file that ends in .svg, .pdf or .png"),
        (("draw", "PDARTS", "--out", "folder.svg"), "A folder has this name."),
        (("draw", "nonsense", "--out", "cell.svg"), "genotype: 'nonsense' is not valid"),
        (("draw", "-1", "--out", "cell.svg"), "No such option"),
        (("check", "PDARTS"), "The benchmarks hold no other cells"),
        (("check", CELL), "The benchmarks hold no other cells"),
        (("check", "15625"), "RUN|ARCH: '15625' is not valid; allowed: a run folder, a cell of the nasbench201 space"),
        (
            ("cost", "--genotype", CELL.replace("normal_concat=range(2, 6)", "normal_concat=[]")),
            "genotype.normal_concat: []",
        ),
        (
            ("cost", "--genotype", CELL.replace("('sep_conv_3x3', 3)", "('sep_conv_3x3', 1.9)")),
            "genotype.normal[5]: 1.9",
        ),
        (("cost", "--genotype", "runs/nowhere/log.txt"), "There is no runs/nowhere/log.txt. Check the path."),
    ],
)  # fmt: skip
def test_refusals_are_one_sentence_and_leave_nothing(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.svg").mkdir()
    code, out, err = call(capsys, *words)
    assert (code, out) == (2, "")
    assert sentence in err
    assert "unexpected" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["folder.svg"]


def test_known_cells_are_listed_with_their_sources(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "cost", "--known")
    assert code == 0
    assert len(out.splitlines()) == 1 + len(KNOWN_CELLS)
    assert "chenxin061/pdarts:genotypes.py" in out
    rows = json.loads(call(capsys, "cost", "--known", "--json")[1])
    assert rows["MdeNAS"]["printed_params_m"] == 3.78
    assert rows["PDARTS"]["genotype"] == CELL


@pytest.mark.parametrize(("test", "words"), [(91.25, "test % cifar10 91.25"), (None, "validation % cifar10 89.50")])
def test_the_cell_with_its_identity_is_told_by_what_the_benchmark_has(test: float | None, words: str) -> None:
    found = {"exact": True, "index": 7, "datasets": {"cifar10": {"valid_acc": 89.5, "test_acc": test}}}
    assert _with_identity(found).endswith(f"(the same network), cell 7: {words}")
