"""What a run ran on: commit, versions, hardware. Everything a reader needs to doubt a number."""

import contextlib
import importlib.metadata
import os
import platform
import re
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder, read_record, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import Stage

PACKAGE = Path(__file__).resolve().parents[1]
#: Environment variable that tells a process which code it runs.
COMMIT_VARIABLE = "CSCDARTS_COMMIT"

#: Folders that packages are installed into.
_INSTALLED = ("site-packages", "dist-packages")
#: Variables by which git would answer for another repository than the one that a folder lies in; hooks set them.
_ELSEWHERE = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX",
     "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CEILING_DIRECTORIES"}
)  # fmt: skip

_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scikit-learn",
    "pydantic",
    "nats-bench",
    "nas-bench-201",
    "mlflow",
    "submitit",
)


def describe(device: str, deterministic: bool | None = None, kernels: str | None = None) -> dict[str, Any]:
    """The content of `environment.json`.

    Args:
        device: the torch device the run uses, resolved.
        deterministic: whether deterministic kernels were asked for on CUDA; None where nobody said.
        kernels: `runtime.kernels`, recorded as what it comes to on the device: `cpu`, `portable` or `plain`.
    """
    import torch

    code = running_code()
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") and torch.cuda.is_available() else None
    return {
        "commit": code.commit or None,
        "dirty": code.dirty,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if gpu else None,
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "device": device,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        # The CPU's kernels are deterministic whatever was asked for.
        "deterministic": True if device == "cpu" else deterministic,
        "kernels": ("cpu" if device == "cpu" else "portable") if kernels == "auto" else kernels,
        "hostname": socket.gethostname(),
        "started_at": time.time(),
    }


def record_environment(folder: Path, now: Mapping[str, Any], job: str = "") -> None:
    """Write `environment.json`: the present start, the time of the first one, and each start's host, hardware and job.

    Args:
        folder: of a run or of a stage.
        now: as `describe` gives it.
        job: the scheduler's id, or "".
    """
    earlier = read_record(folder / "environment.json") or {}
    start = {key: now.get(key) for key in ("hostname", "cpu", "gpu", "commit", "started_at")}
    value = {
        **now,
        "first_started_at": earlier.get("first_started_at", now.get("started_at")),
        "starts": [*earlier.get("starts", []), {**start, "job": job} if job else start],
    }
    write_json(folder / "environment.json", value)


def hardware(environment: dict[str, Any]) -> str:
    """One line that names the hardware, for tags and tables."""
    return str(environment.get("gpu") or f"{environment.get('cpu')} ({environment.get('threads')} threads)")


def code_text(environment: Mapping[str, Any]) -> str:
    """The code version in an `environment.json` as `Code.frozen` writes it; "" where it is unknown."""
    commit = str(environment.get("commit") or "")
    return commit + ("+dirty" if commit and environment.get("dirty") else "")


def stage_environments(folder: RunFolder, config: RunConfig) -> dict[str, dict[str, Any]]:
    """The recorded surroundings of a run's `search` and `retraining`, of each that computes something: drawing a random
    cell and being given one do not."""
    stages: dict[str, tuple[Stage, bool]] = {
        "search": ("search", config.search.trains_supernet),
        "retraining": ("retrain", config.runtime.retrain),
    }
    found = {}
    for name, (stage, computes) in stages.items():
        with contextlib.suppress(UserError):
            value = read_record(folder.stage_folder(stage) / "environment.json") if computes else None
            if value is not None:
                found[name] = value
    return found


def surroundings(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What a run's numbers hang on beside its settings, for tags and tables; "" where it is not recorded.

    Args:
        stages: stage as people name it -> content of its `environment.json`.

    Returns:
        `threads`, `processes`, `device` (its kind), `deterministic` (yes or no) and `kernels`; where the stages differ,
        each:
        `2 in search, 1 in retraining`.
    """
    found = {}
    for name in ("threads", "processes", "device", "deterministic", "kernels"):
        values = {stage: _told(record.get(name)) for stage, record in stages.items()}
        known = {stage: value for stage, value in values.items() if value}
        same = len(set(known.values())) <= 1
        found[name] = next(iter(known.values()), "") if same else ", ".join(f"{v} in {s}" for s, v in known.items())
    return found


def _told(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    return str(value).partition(":")[0]


@dataclass(frozen=True)
class Code:
    """Which code runs: the one answer that records, grids and cluster jobs share.

    Attributes:
        commit: full hash; "" where it is unknown.
        dirty: whether the files differ from the commit, untracked ones that git does not ignore included; None where
            the commit is unknown.
        changed: the files that differ, as far as they are known.
        root: the tree that holds the package, in its checkout; None without one.
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
    """The state of the checkout that `package` lies in.

    A commit is taken for the package's own only if git tracks the package: one that is installed, or lies somewhere
    inside another project's repository, has no commit.

    Args:
        package: the folder of an importable package; what lies beside it belongs to the tree.
    """
    root = package.parent
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


def cpu_name() -> str:
    """The processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
