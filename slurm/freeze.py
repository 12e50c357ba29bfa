"""The code that a grid runs, kept: refusal of a changed tree, the difference to its commit, and a snapshot to run from.

What the commit is and which files differ is told by the caller; git is called here only for their content.
"""

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from slurm.errors import ClusterError

#: A patch in the plain form: the user's colours, prefixes and converters would make one that cannot be applied.
_DIFF = (
    "-c", "core.quotepath=true", "diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv",
    "--src-prefix=a/", "--dst-prefix=b/",
)  # fmt: skip
#: What hooks set, and what would name another repository than the one that a folder lies in.
_ELSEWHERE = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX",
     "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_EXTERNAL_DIFF"}
)  # fmt: skip


class SourceTree(Protocol):
    """What is known of the tree that holds the code."""

    @property
    def root(self) -> Path | None:
        """The tree in its checkout; None where there is none, as for an installed package."""
        ...

    @property
    def commit(self) -> str:
        """Full hash; "" where it is unknown."""
        ...

    @property
    def changed(self) -> Sequence[str]:
        """Files that differ from the commit, untracked ones included."""
        ...

    @property
    def problem(self) -> str:
        """Why the state of a tree that lies in a checkout cannot be told; "" where it can."""
        ...


def require_clean(code: SourceTree, allow_dirty: bool) -> None:
    """Refuse code whose commit does not tell what will run.

    Errors:
        ClusterError: the tree has changes, or its commit or state is unknown, and that was not allowed.
    """
    if allow_dirty:
        return
    if code.problem:
        fix = "Let git read it, or pass --allow-dirty to run code of unknown state."
        raise ClusterError(
            "source tree", code.problem, "a checkout that git reads", fix,
            f"The state of the source tree is unknown ({code.problem}). {fix}",
        )  # fmt: skip
    if not code.commit:
        fix = "Run from a git checkout or a package built in one, or pass --allow-dirty to run code of unknown state."
        raise ClusterError(
            "source tree", "unknown", "code whose commit is known", fix,
            f"The commit of this code is unknown: it was neither installed from a checkout nor built in one. {fix}",
        )  # fmt: skip
    if code.changed:
        shown = ", ".join(code.changed[:3]) + (" ..." if len(code.changed) > 3 else "")
        shown = shown.encode(errors="surrogateescape").decode(errors="replace")
        fix = "Commit, or pass --allow-dirty to store the difference."
        if code.root is None:  # installed, so there is nothing to commit
            fix = "Install it anew from a clean build, or pass --allow-dirty to run it as it is."
        raise ClusterError(
            "source tree",
            shown,
            "a clean git checkout",
            fix,
            f"The source tree differs from its commit: {shown}. {fix}",
        )


def store_difference(code: SourceTree, folder: Path) -> Path | None:
    """Write the difference to the commit (new files included) under `folder`; None for a clean or unknown tree."""
    if not code.changed or code.root is None:
        return None
    patch = difference(code.root)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{code.commit[:12]}.diff"
    path.write_bytes(patch)
    return path


def difference(root: Path) -> bytes:
    """The tree's difference to its commit as a patch that `git apply` takes, whatever the user's git is set to."""
    parts = [_git(root, *_DIFF, "--relative", "HEAD") or b""]
    for name in (_git(root, "ls-files", "--others", "--exclude-standard", "-z") or b"").split(b"\0"):
        if name:
            # Exit code 1 says that the files differ, which is the point.
            words = [*_DIFF, "--no-index", "--", "/dev/null", os.fsdecode(name)]
            done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=False, env=_variables())
            parts.append(done.stdout)
    return b"".join(parts)


def snapshot(code: SourceTree, folder: Path) -> Path:
    """Unpack the commit, and the difference if there is one, under `folder`; jobs that run from it see no later edit.

    Errors:
        ClusterError: this is no git checkout.
    """
    if not code.commit or code.root is None:
        found = code.problem or "this code was installed without one"
        sentence = f"--snapshot needs code in a git checkout: {found}. Run without --snapshot."
        raise ClusterError("--snapshot", found, "code in a git checkout", "Run without --snapshot.", sentence)
    patch = difference(code.root) if code.changed else b""
    # One folder per difference: jobs in the queue may still run from an earlier one.
    suffix = f"-{hashlib.sha256(patch).hexdigest()[:8]}" if patch else ""
    target = (folder / f"{code.commit[:12]}{suffix}").absolute()
    marker = target / ".complete"
    if marker.exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(
        ["git", "-C", str(code.root), "archive", code.commit], capture_output=True, check=True, env=_variables()
    )
    subprocess.run(["tar", "-x", "-C", str(target)], input=archive.stdout, check=True)
    if patch:
        subprocess.run(
            ["git", "apply", "--unsafe-paths", f"--directory={target}", "-"],
            input=patch,
            cwd="/",
            check=True,
            env=_variables(),
        )
    marker.touch()
    return target


def _git(root: Path, *arguments: str) -> bytes | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, env=_variables())
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def _variables() -> dict[str, str]:
    """The environment without what would name another repository than the tree's own."""
    return {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
