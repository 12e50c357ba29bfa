"""Which code runs: the commit of its checkout, or the one that an installed package was built from.

Imports the standard library only, as the build asks it too.
"""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
#: Environment variable that tells a process which code it runs.
COMMIT_VARIABLE = "CSCDARTS_COMMIT"
#: Stands in a built package, and says what it was built from; no checkout has it.
BUILT = "built.json"

#: Folders that packages are installed into.
_INSTALLED = ("site-packages", "dist-packages")
#: Variables by which git would answer for another repository than the one that a folder lies in; hooks set them.
_ELSEWHERE = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX",
     "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CEILING_DIRECTORIES"}
)  # fmt: skip


@dataclass(frozen=True)
class Code:
    """Which code runs: the one answer that records, grids and cluster jobs share.

    Attributes:
        commit: full hash; "" where it is unknown.
        dirty: whether the files differ from the commit, untracked ones that git does not ignore included; None where
            the commit is unknown.
        changed: the files that differ, as far as they are known.
        root: the tree that holds the package, in its checkout; None without one, as in an installed package.
        problem: why git does not tell the state of a checkout that is there; "" otherwise.
    """

    commit: str = ""
    dirty: bool | None = None
    changed: tuple[str, ...] = ()
    root: Path | None = None
    problem: str = ""

    @property
    def frozen(self) -> str:
        """The value of `CSCDARTS_COMMIT` that lets another process record this code; "" where it is unknown."""
        return self.commit + ("+dirty" if self.dirty else "")


def read_code(package: Path = PACKAGE) -> Code:
    """The state of the checkout that `package` lies in, or what a built package says of itself.

    A commit is taken for the package's own only if git tracks the package: one that is installed, or lies somewhere
    inside another project's repository, has the commit that its build wrote down, or none.

    Args:
        package: the folder of an importable package; what lies beside it belongs to the tree.
    """
    root = package.parent
    if (package / BUILT).is_file():
        return _built(package)
    if root.name in _INSTALLED:
        return Code()  # even where somebody tracks a whole virtual environment: its commits are not this code's
    try:
        _git(root, "rev-parse", "--git-dir")
    except _GitError as error:
        # Without a checkout there is nothing to ask; one that git will not read (another owner, no git) is a problem.
        inside = any((folder / ".git").exists() for folder in (root, *root.parents))
        return Code(problem=str(error)) if inside else Code()
    try:
        if not _git(root, "ls-files", "--", package.name):
            return Code()
        commit = _git(root, "rev-parse", "HEAD").strip()
        listed = _git(root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal", "--", ".")
        unseen = _unseen_changes(root)
    except _GitError as error:
        return Code(problem=str(error))
    changed = tuple(dict.fromkeys([*(entry[3:] for entry in listed.split("\0") if entry), *unseen]))
    return Code(commit, bool(changed), changed, root)


def written_code(code: Code, root: Path, folders: Iterable[str]) -> str:
    """The content of `BUILT` for a package that is built from some code.

    Args:
        root: holds the files as they are handed on.
        folders: those under it whose files are the package's.
    """
    files = {name: _sha256(root / name) for name in _files(root, folders)}
    value = {"commit": code.commit, "changed": list(code.changed), "folders": list(folders), "files": files}
    return json.dumps(value, indent=1) + "\n"


def _built(package: Path) -> Code:
    """What was written down when a package was built, held against its files as they are now."""
    try:
        value = json.loads((package / BUILT).read_text(encoding="utf-8"))
        commit, changed, files = str(value["commit"]), [str(name) for name in value["changed"]], dict(value["files"])
        now = set(_files(package.parent, value["folders"]))
        changed += sorted(name for name in now ^ set(files) if name not in changed)
        changed += [name for name in sorted(now & set(files)) if _sha256(package.parent / name) != files[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Code(problem=f"{package / BUILT} cannot be used: {error}")
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        return Code()
    return Code(commit, bool(changed), tuple(dict.fromkeys(changed)))


def _files(root: Path, folders: Iterable[str]) -> list[str]:
    """What some folders hold, by path below `root`, without what Python or the build leaves there."""
    found = (path for folder in folders for path in (root / folder).rglob("*") if path.is_file())
    names = (path.relative_to(root) for path in found)
    return sorted(
        name.as_posix() for name in names if "__pycache__" not in name.parts and name.name not in (BUILT, ".DS_Store")
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _unseen_changes(root: Path) -> list[str]:
    """Tracked files that git was told not to look at (`assume-unchanged`, `skip-worktree`) and that differ."""
    flagged = [entry[2:] for entry in _git(root, "ls-files", "-v", "-z", "--", ".").split("\0")
               if entry[:1] in ("h", "s", "S")]  # fmt: skip
    kept = [name for name in flagged if (root / name).is_file()]
    if not kept:
        return []
    staged = {}
    for entry in _git(root, "ls-files", "-s", "-z", "--", *kept).split("\0"):
        words, _, name = entry.partition("\t")
        if name:
            staged[name] = words.split()[1]
    return [name for name in kept if _git(root, "hash-object", "--", name).strip() != staged.get(name)]


def running_code() -> Code:
    """The code that this process runs: `CSCDARTS_COMMIT` where it is set (see `Code.frozen`), else the checkout's
    state.

    A job that runs from a snapshot has no checkout, and a worker keeps the code that it loaded, whatever is committed
    since. A value that is no commit says nothing.
    """
    frozen = os.environ.get(COMMIT_VARIABLE, "").strip()
    commit = frozen.removesuffix("+dirty")
    if re.fullmatch(r"[0-9a-f]{7,64}", commit):
        return Code(commit, frozen.endswith("+dirty"))
    if frozen:
        return Code(problem=f"{COMMIT_VARIABLE} is {frozen[:80]!r}, which is no commit")
    return read_code()


class _GitError(Exception):
    """Git did not answer; says why."""


def _git(root: Path, *words: str) -> str:
    """What git says of the repository that a folder lies in, whatever other repository the environment names.

    Errors:
        _GitError: git does not answer.
    """
    variables = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, timeout=60, check=False,
            env={**variables, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise _GitError(f"git does not run: {error}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise _GitError((said or [f"git ends with code {done.returncode}"])[0])
    return done.stdout.decode("utf-8", errors="surrogateescape")
