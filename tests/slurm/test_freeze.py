"""The code of a grid: commit, refusal of a dirty tree, the difference kept, a snapshot that later edits do not
reach."""

import subprocess
from pathlib import Path

import pytest

from cscdarts.records import code as code_module
from cscdarts.records import environment
from cscdarts.records.code import Code, read_code, running_code
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
    with pytest.raises(ClusterError, match=r"commit of this code is unknown.*--allow-dirty"):
        require_clean(code, allow_dirty=False)
    require_clean(code, allow_dirty=True)
    assert store_difference(code, tmp_path / "code") is None
    with pytest.raises(ClusterError, match="needs code in a git checkout: this code was installed without one"):
        snapshot(code, tmp_path / "code")
    assert difference(tmp_path) == b""
    assert not (tmp_path / "code").exists()


def test_the_commit_of_somebody_elses_repository_is_not_ours(tree: Path) -> None:
    # As `pip install` into an environment inside a project of the user's.
    package = tree / "environment" / "site-packages" / "engine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("X = 1\n")
    assert read_code(package) == Code()
    (tree / ".gitignore").write_text("environment\n")
    assert read_code(package) == Code()


def test_an_environment_that_somebody_tracks_is_no_checkout_of_ours(tree: Path) -> None:
    for folder in ("site-packages", "dist-packages"):
        package = tree / "lib" / folder / "engine"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("X = 1\n")
    _git(tree, "add", "-f", ".")
    _git(tree, "commit", "-q", "-m", "with its environment")
    for folder in ("site-packages", "dist-packages"):
        assert read_code(tree / "lib" / folder / "engine") == Code()


def test_variables_that_name_another_repository_change_nothing(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As inside a git hook, or with a bare repository of settings in the home folder."""
    other = tmp_path / "other"
    (other / "engine").mkdir(parents=True)
    (other / "engine" / "__init__.py").write_text("other\n")
    _git(other, "init", "-q")
    _git(other, "add", ".")
    _git(other, "commit", "-q", "-m", "other")
    wanted = read_code(tree / "engine")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert read_code(tree / "engine") == wanted
    assert (snapshot(wanted, tmp_path / "code") / "engine" / "__init__.py").read_text() == "X = 1\n"


def test_another_owners_checkout_is_unknown(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own switch for its tests
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    code = read_code(tree / "engine")
    assert (code.commit, code.dirty) == ("", None)
    assert "dubious ownership" in code.problem
    with pytest.raises(ClusterError, match=r"dubious ownership.*--allow-dirty"):
        require_clean(code, allow_dirty=False)


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_changes_that_git_was_told_not_to_see_are_seen(tree: Path, flag: str) -> None:
    _git(tree, "update-index", flag, "engine/__init__.py")
    assert read_code(tree / "engine").dirty is False
    (tree / "engine" / "__init__.py").write_text("X = 2\n")
    assert _git(tree, "status", "--porcelain") == ""
    assert read_code(tree / "engine").changed == ("engine/__init__.py",)


def test_a_difference_is_a_patch_whatever_git_is_set_to(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "gitconfig"
    config.write_text(
        "[color]\n ui = always\n[diff]\n noprefix = true\n external = /bin/false\n mnemonicPrefix = true\n"
        "[core]\n quotepath = false\n[status]\n showUntrackedFiles = no\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    (tree / "engine" / "__init__.py").write_bytes("X = 'é'\n".encode("latin-1"))
    (tree / "engine" / "nöch.py").write_text("Y = 'ü'\n")
    code = read_code(tree / "engine")
    assert set(code.changed) == {"engine/__init__.py", "engine/nöch.py"}
    path = snapshot(code, tmp_path / "code")
    assert (path / "engine" / "__init__.py").read_bytes() == "X = 'é'\n".encode("latin-1")
    assert (path / "engine" / "nöch.py").read_text() == "Y = 'ü'\n"
    assert store_difference(code, tmp_path / "kept") is not None


@pytest.mark.parametrize("value", ["main", "v1.0", "$(date)", "6E12952", "abc", "g6e12952", "+dirty", "a" * 65])
def test_a_variable_that_is_no_commit_says_nothing(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSCDARTS_COMMIT", value)
    code = running_code()
    assert (code.commit, code.dirty) == ("", None)
    assert "is no commit" in code.problem
    monkeypatch.setenv("CSCDARTS_COMMIT", "6e12952+dirty")
    assert (running_code().commit, running_code().dirty) == ("6e12952", True)


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
    monkeypatch.setattr(code_module, "read_code", lambda: read_code(tree / "engine"))
    monkeypatch.delenv("CSCDARTS_COMMIT", raising=False)
    commit = _git(tree, "rev-parse", "HEAD").strip()
    assert (environment.describe("cpu")["commit"], environment.describe("cpu")["dirty"]) == (commit, True)
    assert read_code(tree / "engine").changed == ("engine/new.py",)
    monkeypatch.setenv("CSCDARTS_COMMIT", running_code().frozen)
    (tree / "engine" / "new.py").unlink()
    assert (running_code().commit, running_code().dirty) == (commit, True)
