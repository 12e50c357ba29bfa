"""The code of a grid: commit, refusal of a dirty tree, the difference kept, a snapshot that later edits do not
reach."""

import subprocess
from pathlib import Path

import pytest

from cscdarts.records import environment
from cscdarts.records.environment import Code, read_code
from slurm.errors import ClusterError
from slurm.freeze import difference, require_clean, snapshot, store_difference


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
    code = read_code(tree / "engine")
    assert code.commit == _git(tree, "rev-parse", "HEAD").strip()
    assert not code.dirty
    require_clean(code, allow_dirty=False)
    assert store_difference(code, tmp_path / "code") is None
    assert not (tmp_path / "code").exists()


def test_ignored_files_do_not_make_it_dirty(tree: Path) -> None:
    (tree / "ignored").write_text("x")
    assert not read_code(tree / "engine").dirty


def test_a_dirty_tree_is_refused_unless_allowed_and_then_kept(tree: Path, tmp_path: Path) -> None:
    (tree / "engine" / "__init__.py").write_text("X = 2\n")
    (tree / "engine" / "new.py").write_text("Y = 3\n")
    code = read_code(tree / "engine")
    with pytest.raises(ClusterError, match=r"differs from its commit: engine/__init__.py.*--allow-dirty"):
        require_clean(code, allow_dirty=False)
    require_clean(code, allow_dirty=True)
    path = store_difference(code, tmp_path / "code")
    assert path is not None
    again = tmp_path / "again"
    subprocess.run(["git", "clone", "-q", str(tree), str(again)], check=True)
    subprocess.run(["git", "-C", str(again), "apply", str(path)], check=True)
    assert (again / "engine" / "__init__.py").read_text() == "X = 2\n"
    assert (again / "engine" / "new.py").read_text() == "Y = 3\n"


def test_a_snapshot_is_not_reached_by_later_edits(tree: Path, tmp_path: Path) -> None:
    path = snapshot(read_code(tree / "engine"), tmp_path / "code")
    (tree / "engine" / "__init__.py").write_text("X = 9\n")
    assert (path / "engine" / "__init__.py").read_text() == "X = 1\n"
    assert snapshot(read_code(tree / "engine"), tmp_path / "code") != path


def test_a_snapshot_of_a_dirty_tree_holds_the_difference_and_is_renewed(tree: Path, tmp_path: Path) -> None:
    (tree / "engine" / "__init__.py").write_text("X = 2\n")
    (tree / "engine" / "new.py").write_text("Y = 3\n")
    path = snapshot(read_code(tree / "engine"), tmp_path / "code")
    assert (path / "engine" / "__init__.py").read_text() == "X = 2\n"
    assert (path / "engine" / "new.py").read_text() == "Y = 3\n"
    assert snapshot(read_code(tree / "engine"), tmp_path / "code") == path
    (tree / "engine" / "new.py").write_text("Y = 4\n")
    renewed = snapshot(read_code(tree / "engine"), tmp_path / "code")
    assert renewed != path, "jobs in the queue still run from the older one"
    assert (path / "engine" / "new.py").read_text() == "Y = 3\n"
    assert (renewed / "engine" / "new.py").read_text() == "Y = 4\n"


def test_outside_of_a_checkout(tmp_path: Path) -> None:
    code = read_code(tmp_path / "engine")
    assert (code.commit, code.dirty, code.problem) == ("", None, ""), "unknown, which is not clean"
    require_clean(code, allow_dirty=False)
    assert store_difference(code, tmp_path / "code") is None
    with pytest.raises(ClusterError, match="needs code in a git checkout: this code was installed without one"):
        snapshot(code, tmp_path / "code")
    assert difference(tmp_path) == ""
    assert not (tmp_path / "code").exists()


def test_the_commit_of_somebody_elses_repository_is_not_ours(tree: Path) -> None:
    # As `pip install` into an environment inside a project of the user's.
    package = tree / "environment" / "site-packages" / "engine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("X = 1\n")
    assert read_code(package) == Code()
    (tree / ".gitignore").write_text("environment\n")
    assert read_code(package) == Code()


def test_a_copy_that_another_repository_tracks_is_told_by_its_commit_and_its_own_files(
    tree: Path, tmp_path: Path
) -> None:
    package = tree / "vendored" / "engine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("X = 1\n")
    _git(tree, "add", ".")
    _git(tree, "commit", "-q", "-m", "second")
    (tree / "engine" / "__init__.py").write_text("changed beside the copy\n")
    code = read_code(package)
    assert (code.commit, code.dirty) == (_git(tree, "rev-parse", "HEAD").strip(), False)
    (package / "__init__.py").write_text("X = 2\n")
    copy = snapshot(read_code(package), tmp_path / "code")
    assert (copy / "engine" / "__init__.py").read_text() == "X = 2\n"


def test_a_checkout_that_git_refuses_is_unknown_and_needs_leave(tree: Path, tmp_path: Path) -> None:
    (tree / ".git" / "HEAD").write_text("nonsense")
    code = read_code(tree / "engine")
    assert (code.commit, code.dirty) == ("", None)
    assert "not a git repository" in code.problem
    with pytest.raises(ClusterError, match=r"not a git repository.*--allow-dirty"):
        require_clean(code, allow_dirty=False)
    require_clean(code, allow_dirty=True)
    assert store_difference(code, tmp_path / "code") is None
    with pytest.raises(ClusterError, match="not a git repository"):
        snapshot(code, tmp_path / "code")


def test_without_git_a_checkout_is_unknown(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tree))
    code = read_code(tree / "engine")
    assert (code.commit, code.dirty) == ("", None)
    assert "git does not run" in code.problem


def test_a_record_and_a_grid_tell_the_same_code(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An untracked file makes both dirty; a frozen commit is what a job records, not what a driver submits."""
    (tree / "engine" / "new.py").write_text("Y = 3\n")
    monkeypatch.setattr(environment, "read_code", lambda: read_code(tree / "engine"))
    monkeypatch.delenv("CSCDARTS_COMMIT", raising=False)
    commit = _git(tree, "rev-parse", "HEAD").strip()
    assert (environment.describe("cpu")["commit"], environment.describe("cpu")["dirty"]) == (commit, True)
    assert read_code(tree / "engine").changed == ("engine/new.py",)
    monkeypatch.setenv("CSCDARTS_COMMIT", environment.running_code().frozen)
    (tree / "engine" / "new.py").unlink()
    assert (environment.running_code().commit, environment.running_code().dirty) == (commit, True)
