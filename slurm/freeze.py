"""The code that a grid runs, kept: refusal of a changed tree, the difference to its commit, and a snapshot to run from.

What the commit is and which files differ is told by the caller; git is called here only for their content.
"""

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from slurm.errors import ClusterError


class SourceTree(Protocol):
    """What is known of the tree that holds the code."""

    @property
    def root(self) -> Path | None:
        """The tree in its checkout; None where there is none."""
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
    """Refuse a tree whose commit does not tell what will run. An installed package outside of any checkout is taken.

    Errors:
        ClusterError: the tree has changes, or git does not tell, and that was not allowed.
    """
    if allow_dirty:
        return
    if code.problem:
        fix = "Let git read it, or pass --allow-dirty to run code of unknown state."
        raise ClusterError(
            "source tree", code.problem, "a checkout that git reads", fix,
            f"The state of the source tree is unknown ({code.problem}). {fix}",
        )  # fmt: skip
    if code.changed:
        shown = ", ".join(code.changed[:3]) + (" ..." if len(code.changed) > 3 else "")
        fix = "Commit, or pass --allow-dirty to store the difference."
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
    text = difference(code.root)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{code.commit[:12]}.diff"
    path.write_text(text, encoding="utf-8")
    return path


def difference(root: Path) -> str:
    """The tree's difference to its commit as a patch that `git apply` takes."""
    parts = [_git(root, "diff", "--binary", "--relative", "HEAD") or ""]
    for name in (_git(root, "ls-files", "--others", "--exclude-standard", "-z") or "").split("\0"):
        if name:
            # Exit code 1 says that the files differ, which is the point.
            done = subprocess.run(
                ["git", "-C", str(root), "diff", "--binary", "--no-index", "--", "/dev/null", name],
                capture_output=True,
                text=True,
                check=False,
            )
            parts.append(done.stdout)
    return "".join(parts)


def snapshot(code: SourceTree, folder: Path) -> Path:
    """Unpack the commit, and the difference if there is one, under `folder`; jobs that run from it see no later edit.

    Errors:
        ClusterError: this is no git checkout.
    """
    if not code.commit or code.root is None:
        found = code.problem or "this code was installed without one"
        sentence = f"--snapshot needs code in a git checkout: {found}. Run without --snapshot."
        raise ClusterError("--snapshot", found, "code in a git checkout", "Run without --snapshot.", sentence)
    patch = difference(code.root) if code.changed else ""
    # One folder per difference: jobs in the queue may still run from an earlier one.
    suffix = f"-{hashlib.sha256(patch.encode()).hexdigest()[:8]}" if patch else ""
    target = (folder / f"{code.commit[:12]}{suffix}").absolute()
    marker = target / ".complete"
    if marker.exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(["git", "-C", str(code.root), "archive", code.commit], capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(target)], input=archive.stdout, check=True)
    if patch:
        subprocess.run(
            ["git", "apply", "--unsafe-paths", f"--directory={target}", "-"],
            input=patch.encode(),
            cwd="/",
            check=True,
        )
    marker.touch()
    return target


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
