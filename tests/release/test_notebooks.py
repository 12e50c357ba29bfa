"""The notebooks of `examples/`, executed cell by cell in a folder of their own; none carries an output in git."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat as untyped_nbformat
import pytest
from nbclient import NotebookClient

from tests.support.report_store import SyntheticStore, quickstart_like

nbformat: Any = untyped_nbformat
ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
#: Among the names that a notebook imports there is one of ours: the public interface.
OURS = {"cscdarts", "ablations", "benchmarks", "reports", "slurm", "tests"}


def _sources(path: Path) -> Iterator[str]:
    for cell in nbformat.read(path, nbformat.NO_CONVERT).cells:
        if cell.cell_type == "code":
            yield cell.source


def _executed(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The notebook with its outputs; a warning in a cell is that cell's error."""
    own = folder / ".kernel"  # nothing of the user's is read or written
    own.mkdir()
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(own / name.lower()))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    book = nbformat.read(path, nbformat.NO_CONVERT)
    new = nbformat.v4.new_code_cell
    strict, usual = (new(f"import warnings; warnings.simplefilter('{action}')") for action in ("error", "default"))
    book.cells = [strict, *book.cells, usual]  # the kernel itself warns when it ends
    NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return book


def _shown(book: Any, kind: str) -> list[str]:
    found = [out for cell in book.cells if cell.cell_type == "code" for out in cell.outputs]
    return [str(out.data[kind]) for out in found if kind in out.get("data", {})]


def test_there_are_two() -> None:
    assert [path.name for path in NOTEBOOKS] == ["report.ipynb", "search.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_in_git_has_no_outputs(path: Path) -> None:
    book = nbformat.read(path, nbformat.NO_CONVERT)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None] == []
    assert set(book.metadata) == {"kernelspec", "language_info"}, "no machine's own words"
    assert [cell.id for cell in book.cells if cell.metadata] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_imports_the_public_interface_only(path: Path) -> None:
    named: set[str] = set()
    for node in ast.walk(ast.parse("\n".join(_sources(path)))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            named.add(node.module or "")
    assert {name for name in named if name.split(".")[0] in OURS} <= {"cscdarts"}


def test_a_report_becomes_a_figure_of_one_s_own(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reports.build import build_report

    store = SyntheticStore(tmp_path, empty_store)
    quickstart_like(store, seeds=2)
    store.finish()
    build_report(["quickstart"], tmp_path / "report", formats=("csv",), uri=store.uri)
    book = _executed(ROOT / "examples" / "report.ipynb", tmp_path, monkeypatch)
    tables = _shown(book, "text/html")
    assert any("test_error_pct_sd" in table for table in tables)
    assert any("1/4" in table and "none" in table for table in tables)
    assert len(_shown(book, "image/png")) == 1
    assert (tmp_path / "foretold.pdf").read_bytes().startswith(b"%PDF")


def test_a_search_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = _executed(ROOT / "examples" / "search.ipynb", tmp_path, monkeypatch)
    folder = tmp_path / "search-step-by-step"
    assert (folder / "genotype.json").is_file()
    assert (folder / "result.json").is_file()
    said = "".join(out.text for cell in book.cells if cell.cell_type == "code" for out in cell.outputs if "text" in out)
    assert "search epoch 2/2" in said
    assert "test error" in said
    assert any("test_error_pct" in text for text in _shown(book, "text/plain"))
    assert len(_shown(book, "image/png")) == 1
