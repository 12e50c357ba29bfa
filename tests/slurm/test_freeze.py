"""The code of a grid: commit, refusal of a dirty tree, the difference kept, a snapshot that later edits do not reach."""

import subprocess
from pathlib import Path

import pytest

from slurm.errors import ClusterError
from slurm.freeze import difference, read_code, require_clean, snapshot, store_difference


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.org", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "a tree"
    (root / "engine").mkdir(parents=True)
    (root / "engine" / "__init__.py").write_text("X = 1\n")
    (root / "pyproject.toml").write_text("[project]\n")
    (root / ".gitignore").write_text("ignored\n")
    _git(root, "init", "-q")
    _git(root, "add", ".")
    _git(root, "commit", "-q", "-m", "first")
    return root


def test_a_clean_tree(tree: Path, tmp_path: Path) -> None:
    code = read_code(tree)
    assert code.commit == _git(tree, "rev-parse", "HEAD").strip()
    assert not code.dirty
    require_clean(code, allow_dirty=False)
    assert store_difference(code, tmp_path / "code", tree) is None
    assert not (tmp_path / "code").exists()


def test_ignored_files_do_not_make_it_dirty(tree: Path) -> None:
    (tree / "ignored").write_text("x")
    assert not read_code(tree).dirty


def test_a_dirty_tree_is_refused_unless_allowed_and_then_kept(tree: Path, tmp_path: Path) -> None:
    (tree / "engine" / "__init__.py").write_text("X = 2\n")
    (tree / "engine" / "new.py").write_text("Y = 3\n")
    code = read_code(tree)
    with pytest.raises(ClusterError, match=r"engine/__init__.py.*clean git checkout.*--allow-dirty"):
        require_clean(code, allow_dirty=False)
    require_clean(code, allow_dirty=True)
    path = store_difference(code, tmp_path / "code", tree)
    assert path is not None
    again = tmp_path / "again"
    subprocess.run(["git", "clone", "-q", str(tree), str(again)], check=True)
    subprocess.run(["git", "-C", str(again), "apply", str(path)], check=True)
    assert (again / "engine" / "__init__.py").read_text() == "X = 2\n"
    assert (again / "engine" / "new.py").read_text() == "Y = 3\n"


def test_a_snapshot_is_not_reached_by_later_edits(tree: Path, tmp_path: Path) -> None:
    path = snapshot(read_code(tree), tmp_path / "code", tree)
    (tree / "engine" / "__init__.py").write_text("X = 9\n")
    assert (path / "engine" / "__init__.py").read_text() == "X = 1\n"
    assert snapshot(read_code(tree), tmp_path / "code", tree) != path


def test_a_snapshot_of_a_dirty_tree_holds_the_difference_and_is_renewed(tree: Path, tmp_path: Path) -> None:
    (tree / "engine" / "__init__.py").write_text("X = 2\n")
    (tree / "engine" / "new.py").write_text("Y = 3\n")
    path = snapshot(read_code(tree), tmp_path / "code", tree)
    assert (path / "engine" / "__init__.py").read_text() == "X = 2\n"
    assert (path / "engine" / "new.py").read_text() == "Y = 3\n"
    assert snapshot(read_code(tree), tmp_path / "code", tree) == path
    (tree / "engine" / "new.py").write_text("Y = 4\n")
    renewed = snapshot(read_code(tree), tmp_path / "code", tree)
    assert renewed != path, "jobs in the queue still run from the older one"
    assert (path / "engine" / "new.py").read_text() == "Y = 3\n"
    assert (renewed / "engine" / "new.py").read_text() == "Y = 4\n"


def test_outside_of_a_checkout(tmp_path: Path) -> None:
    code = read_code(tmp_path)
    assert (code.commit, code.dirty) == ("", False)
    with pytest.raises(ClusterError, match="git checkout"):
        snapshot(code, tmp_path / "code", tmp_path)
    assert difference(tmp_path) == ""
