"""The code that a grid runs: its commit, whether the tree was clean, the difference if not, and a snapshot to run from."""

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from slurm.errors import ClusterError

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Code:
    """State of the source tree.

    Attributes:
        commit: full hash; "" outside of a git checkout (an installed wheel).
        changed: files that differ from the commit, untracked ones included.
    """

    commit: str
    changed: tuple[str, ...]

    @property
    def dirty(self) -> bool:
        """Whether the commit does not tell the code."""
        return bool(self.changed)


def read_code(root: Path = ROOT) -> Code:
    """The state of the checkout that holds this package."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None or not (root / "pyproject.toml").exists():
        return Code("", ())
    changed = _git(root, "status", "--porcelain", "--untracked-files=normal") or ""
    return Code(commit.strip(), tuple(line[3:] for line in changed.splitlines()))


def require_clean(code: Code, allow_dirty: bool) -> None:
    """Refuse a tree whose commit does not tell what will run.

    Errors:
        ClusterError: the tree has changes and they were not allowed.
    """
    if code.dirty and not allow_dirty:
        shown = ", ".join(code.changed[:3]) + (" ..." if len(code.changed) > 3 else "")
        raise ClusterError(
            "source tree", shown, "a clean git checkout", "Commit, or pass --allow-dirty to store the difference."
        )


def store_difference(code: Code, folder: Path, root: Path = ROOT) -> Path | None:
    """Write the difference to the commit (new files included) under `folder`; None for a clean tree."""
    if not code.dirty:
        return None
    text = difference(root)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{code.commit[:12]}.diff"
    path.write_text(text, encoding="utf-8")
    return path


def difference(root: Path = ROOT) -> str:
    """The tree's difference to its commit as a patch that `git apply` takes."""
    parts = [_git(root, "diff", "--binary", "HEAD") or ""]
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


def snapshot(code: Code, folder: Path, root: Path = ROOT) -> Path:
    """Unpack the commit, and the difference if the tree is dirty, under `folder`; jobs that run from it see no later edit.

    Errors:
        ClusterError: this is no git checkout.
    """
    if not code.commit:
        raise ClusterError("--snapshot", str(root), "a git checkout", "Run without --snapshot.")
    patch = difference(root) if code.dirty else ""
    # One folder for each difference: jobs in the queue may still run from an earlier one.
    suffix = f"-{hashlib.sha256(patch.encode()).hexdigest()[:8]}" if patch else ""
    target = (folder / f"{code.commit[:12]}{suffix}").absolute()
    marker = target / ".complete"
    if marker.exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(["git", "-C", str(root), "archive", code.commit], capture_output=True, check=True)
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
