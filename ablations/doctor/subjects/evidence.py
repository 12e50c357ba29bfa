"""What a bundle holds beside the findings: facts of this machine, the grid, what became of its runs, why some failed,
the profile and the script as it would be. Each text goes through the redactor afterwards."""

import contextlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from ablations.doctor.finding import Attachment, Finding, Named, as_json
from ablations.doctor.packages import installed
from ablations.doctor.privacy.scripts import shown_profile, told
from ablations.doctor.question import Question, states_of
from ablations.doctor.subjects import cluster, machine, store
from ablations.doctor.subjects.profile import groups_of
from ablations.drive.tell.show import states_record
from ablations.drive.tell.words import label
from ablations.run.state import RunState
from slurm.backends.slurm.journal import Journal

#: Runs whose logs are taken, the last lines of each, characters of a line, bytes that are read from a log's end.
MOST_RUNS, LAST_LINES, LONGEST_LINE, TAIL_BYTES = 20, 200, 1000, 400_000
#: Bytes of a record that is taken whole.
_MOST_BYTES = 200_000
#: Variables whose names are told: ours, and those of what we lean on.
_OURS = ("CSCDARTS_", "MLFLOW_", "SLURM_", "SBATCH_", "CUDA_", "NCCL_", "OMP_", "MKL_", "TORCH_", "PYTORCH_", "PYTHON",
         "LC_", "LANG", "TERM", "TMPDIR", "XDG_")  # fmt: skip


def facts(_: Question) -> Iterator[Attachment]:
    """What a run would record of its surroundings, and what it would inherit."""
    surroundings: dict[str, object] = {}
    try:
        from cscdarts.records.environment import describe

        surroundings = describe("cpu")
    except Exception as error:  # a torch that cannot be imported is a finding
        surroundings = {"torch": f"not to be had: {type(error).__name__}: {error}"}
    names = sorted(name for name in os.environ if name.startswith(_OURS))
    free, by = machine.available_bytes()
    yield as_json("facts.json", {
        **{key: value for key, value in surroundings.items() if key != "started_at"},
        "executable": sys.executable, "memory_available_bytes": free, "memory_bound_by": by,
        "cgroup_memory": machine.cgroup_memory(), "cgroup_cores": machine.cgroup_cores(),
        "variables": {name: os.environ[name] if told(name) else "set, not shown" for name in names},
    })  # fmt: skip


def packages(_: Question) -> Iterator[Attachment]:
    """What `pip list` says."""
    yield Attachment("packages.txt", "".join(f"{name}=={version}\n" for name, version in installed().items()))


def grid(question: Question) -> Iterator[Attachment]:
    """The grid as it was read: its choice and its runs. Its file is the user's own text and stays out."""
    found = question.grid()
    if found is None:
        return
    runs = [{"hash": point.hash, "run": label(point)} for point in found.points]
    choice = {key: value for key, value in found.manifest(None).items() if key not in ("runs", "commit")}
    yield as_json("grid.json", {**choice, "shipped": found.shipped, "asked": question.assignments, "runs": runs})


def states(question: Question) -> Iterator[Attachment | Named]:
    """What became of each run; of those that did not end well, the records and the end of the log."""
    driver = question.driver()
    if driver is None:
        return
    found = states_of(driver, time.time())
    yield as_json("status.json", states_record(driver.grid, found, ""))
    broken = [state for state in found if state.status in ("failed", "damaged", "lost")]
    errors = _last_errors(driver.folder) if broken else {}
    for state in broken[:MOST_RUNS]:
        yield from _of_run(driver.folder / state.hash, state, errors.get(state.hash))
    if len(broken) > MOST_RUNS:
        yield Attachment("runs/more.txt", f"{len(broken) - MOST_RUNS} more runs did not end well.\n")


def _last_errors(folder: Path) -> dict[str, Path]:
    """Run -> the standard error of its last job on a cluster that has begun, by the journal of submissions."""
    last: dict[str, Path] = {}
    for one in Journal(folder / "submissions.jsonl").read():
        for job, tasks in zip(one.jobs, one.tasks, strict=False):
            path = folder / "jobs" / f"{job}_0_log.err"
            last.update(dict.fromkeys(tasks, path) if path.is_file() else {})
    return last


def _of_run(folder: Path, state: RunState, error: Path | None) -> Iterator[Attachment | Named]:
    yield Named("host", tuple(_hosts(_read(folder / "environment.json") or "", state)))
    name = f"runs/{state.hash}"
    for record in ("config.json", "environment.json", "failure.json"):
        if (text := _read(folder / record)) is not None:
            yield Attachment(f"{name}/{record}", _without_note(text) if record == "config.json" else text)
    if (tail := tail_lines(folder / "log.txt")) is not None:
        yield Attachment(f"{name}/log.txt", tail)
    if error is not None and (tail := tail_lines(error)) is not None:
        yield Attachment(f"{name}/job.err", tail)


def _hosts(environment: str, state: RunState) -> set[str]:
    """Where a run has been at work, by its record."""
    found = {state.host}
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        content = json.loads(environment)
        found |= {str(one.get("hostname") or "") for one in (content, *content.get("starts", []))}
    return found - {""}


def _without_note(text: str) -> str:
    """A run's config without the user's own words."""
    try:
        config = json.loads(text)
        config["labels"]["note"] = ""
    except (ValueError, LookupError, TypeError):
        return json.dumps("not to be read as a config")
    return json.dumps(config)


def _read(path: Path) -> str | None:
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return json.dumps(f"not to be read: {error.strerror}")


def tail_lines(path: Path) -> str | None:
    """The last lines of a log; None where there is none."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            lines = deque(file.read().decode("utf-8", errors="replace").splitlines(), LAST_LINES)
    except OSError as error:
        return f"not to be read: {error.strerror}\n"
    return "".join(f"{line[:LONGEST_LINE]}\n" for line in lines)


def profile(question: Question) -> Iterator[Attachment | Named]:
    """The profile, and the script of a job as it would be: with what may hold secrets left out of both."""
    if not question.profile:
        return
    from slurm.backends.slurm.profile import Profile, load_profile

    whole = load_profile(question.profile, question.overrides)
    yield Named("account", tuple(name for name in (whole.account,) if name))
    values = shown_profile(whole.model_dump(mode="json", exclude_none=True))
    yield as_json("profile.json", values)
    from slurm.backends.slurm.submit import sbatch_script

    shown = Profile.model_validate({**values, "account": whole.account})
    for group, own in groups_of(shown).items():
        script = sbatch_script(own, Path(question.runs) / "GRID" / "jobs", f"cscdarts-{group}", 1, 1, None)
        yield Attachment(f"job-{group.replace(' ', '-')}.sbatch", script)


def of_cluster(question: Question) -> Iterator[Attachment | Named | Finding]:
    """The cluster's settings."""
    yield from cluster.record(question)


CHECKS = {
    "facts of this machine": facts, "installed packages": packages, "the grid": grid, "states of the runs": states,
    "the profile": profile, "the cluster": of_cluster, "the store's schema": store.record,
}  # fmt: skip
