"""One run: search, derive, check, retrain. Each stage skips itself when its output is there; torch is imported here
only.

What stops a run is recorded beside it in `failure.json`, with its kind, so that a status needs no log reading.
"""

import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.run.sharing import Busy, parts, pause, taken
from ablations.run.visible import await_cell, lasting_damage
from benchmarks.sources import covers
from cscdarts.errors import NumericalError, Stopped, UserError
from cscdarts.records.ownership import foreign
from cscdarts.records.run_folder import STAGE_OUTPUTS, RunFolder, read_record, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import build
from cscdarts.spaces import load_plugin
from slurm.control import Control, Stopping
from slurm.jobs import DISK_FULL, Cause, cause_of_limit

if TYPE_CHECKING:
    from slurm.job import Outcome

STAGES = ("search", "derive", "check", "retrain")
#: Stages that one job holds when a run is spread over several: the check is cheap and wants the supernet at hand.
GROUPS: Mapping[str, tuple[str, ...]] = {"search": ("search", "derive", "check"), "retrain": ("retrain",)}
#: Stage -> the file (without suffix) that it leaves.
OUTPUTS = {"search": "search", "derive": "genotype", "check": "check", "retrain": "result"}

#: Stages that only the leading one of several processes runs.
LED_ONLY = ("derive", "check")

Stage = Callable[[RunConfig, RunFolder, Control, Callable[[str], None]], None]


def stages_of(config: RunConfig) -> tuple[str, ...]:
    """The stages that a config has: only cells that a benchmark holds can be looked up, and retraining can be left
    out."""
    left_out = {
        "check": not covers(config.runtime.benchmark, config.supernet),
        "retrain": not config.runtime.retrain,
    }
    return tuple(stage for stage in STAGES if not left_out.get(stage, False))


def missing_stages(config: RunConfig, folder: RunFolder) -> tuple[str, ...]:
    """The stages whose output is not there yet."""
    return tuple(stage for stage in stages_of(config) if not has_output(folder, stage))


def has_output(folder: RunFolder, stage: str) -> bool:
    """Whether a stage's output is there; of several searches each one's."""
    if stage == "search":
        return all((place / STAGE_OUTPUTS["search"]).exists() for place in folder.search_folders())
    return folder.has(OUTPUTS[stage])


def _search(config: RunConfig, folder: RunFolder, control: Control, report: Callable[[str], None]) -> None:
    """One search; `run_stages` calls it for each of several."""
    from cscdarts.training.search import search

    search(config, folder, control.should_stop, report)


def _derive(config: RunConfig, folder: RunFolder, control: Control, report: Callable[[str], None]) -> None:
    from cscdarts.training.cell_choice.derive import derive

    report(f"derived {derive(config, folder, control.should_stop, report)}")


def _check(config: RunConfig, folder: RunFolder, control: Control, report: Callable[[str], None]) -> None:
    from benchmarks.checks.run import check_run

    with control.without_steps():
        check_run(folder, config.runtime.benchmark)


def _retrain(config: RunConfig, folder: RunFolder, control: Control, report: Callable[[str], None]) -> None:
    from cscdarts.training.retrain import retrain

    retrain(config, folder, control.should_stop, report)


ENGINE: Mapping[str, Stage] = {"search": _search, "derive": _derive, "check": _check, "retrain": _retrain}


def run_task(folder: Path, arguments: Mapping[str, Any], control: Control) -> "Outcome":
    """Run a task's stages with the engine; see `run_stages`."""
    outcome = run_stages(folder, arguments, control, ENGINE, _prepare)
    if outcome == "done" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from cscdarts.training.distributed import leave_world

        leave_world()
    return outcome


def run_stages(
    path: Path,
    arguments: Mapping[str, Any],
    control: Control,
    engine: Mapping[str, Stage],
    prepare: Callable[[RunConfig, RunFolder, int | None, str], None],
) -> "Outcome":
    """Run the stages of one run that are still missing.

    Args:
        path: the run folder.
        arguments: `config` (the full config as plain data), `stages` (names), `since` (when it was submitted, seconds
            since the epoch: a failure that names this one was recorded by this submission and is not tried again),
            `known` (time of the failure that was there at the submission, for records that name none; may be left out),
            `threads` (or None),
            `plugins` (files or modules that register what the config names; see `cscdarts.spaces.registry`), `store`
            (path from the run folder to the folder of `searches/` and `retrainings/`; two levels up unless given),
            `alone` (whether the caller says itself what has failed).
        control: asked at every step whether to stop.
        engine: stage -> function.
        prepare: called once before the first stage, with the number of threads and the scheduler's id of the job.

    Returns:
        `done`, `failed` (see `failure.json`), `skipped` when an earlier stage's output is not there, or `busy` when
        another process works on the same search or retraining: all that comes before is done.

    Errors:
        Stopping: the state is saved and the work is to be taken up again later.
    """
    for source in arguments.get("plugins", ()):
        load_plugin(source)
    config, folder = build(arguments["config"]), RunFolder(path)
    try:
        if "search" not in arguments["stages"]:
            await_cell(folder, control, lambda failure: _of_this_submission(failure, arguments))
        damage = lasting_damage(folder, control)
    except Stopped:
        raise Stopping from None
    leads = int(os.environ.get("RANK", "0")) == 0
    problem = foreign(folder, config) if damage is None else f"is damaged: {damage}"
    if problem is not None:
        # Another's folder is left as it is: what is wrong stands in the worker's own output and in the run's state.
        print(f"{path.name}: {path} {problem}", file=sys.stderr, flush=True)
        return "failed"
    failure = read_record(folder.file("failure.json"))
    if failure is not None and _of_this_submission(failure, arguments) and failure["stage"] in arguments["stages"]:
        return "failed"
    wanted = [stage for stage in arguments["stages"] if stage in missing_stages(config, folder)]
    if not wanted:
        return "done"
    if wanted[0] == "retrain" and not folder.has("genotype"):
        return "skipped"

    def report(line: str) -> None:
        if leads:
            folder.log(line)
            folder.beat()
            print(f"{path.name} {line}", flush=True)

    check_failed = False
    stage = wanted[0]
    try:
        if leads:
            folder.create(config, arguments.get("store", "../.."))
        prepare(config, folder, arguments.get("threads"), control.job)
        for stage in wanted:
            if not leads and stage in LED_ONLY:
                _await(folder, OUTPUTS[stage], control)
                continue
            try:
                for part, key in parts(config, folder, stage):
                    with taken(folder, stage, key, control, report) as mine:
                        if mine:
                            report(f"{stage}: begins")
                            started = time.monotonic()
                            engine[stage](part, folder, control, report)
                            report(f"{stage}: done in {time.monotonic() - started:.1f} s")
                if stage == "derive":
                    folder.note_cell(config)
            except Busy:
                raise
            except Exception as error:
                # A look-up that fails must not keep the run from its own result.
                if stage != "check" or isinstance(error, Stopped):
                    raise
                record_failure(folder, stage, error, arguments["since"], not arguments.get("alone", False))
                check_failed = True
    except Busy as busy:
        with contextlib.suppress(OSError):
            report(f"{stage}: {busy}")
        return "busy"
    except Stopped:
        with contextlib.suppress(OSError):
            report(f"{stage}: stopped, {control.reason}; it goes on from its checkpoint")
        raise Stopping from None
    except Exception as error:
        if not leads:
            raise
        record_failure(folder, stage, error, arguments["since"], not arguments.get("alone", False))
        return "failed"
    failure = read_record(folder.file("failure.json"))
    if failure is not None and failure["stage"] not in missing_stages(config, folder):
        folder.file("failure.json").unlink(missing_ok=True)
        check_failed = False  # what failed came after its output was written
    return "failed" if check_failed else "done"


def known_failure(path: Path) -> float | None:
    """The time that a run's failure notes, for `known` of `run_stages`; None where it has none that can be read."""
    with contextlib.suppress(UserError, OSError):
        failure = read_record(path / "failure.json")
        return None if failure is None else float(failure["time"])
    return None


def _await(folder: RunFolder, output: str, control: Control) -> None:
    """Wait, in a process that does not lead, for what the leading process writes."""
    while not folder.has(output):
        if folder.file("failure.json").exists():
            raise RuntimeError(f"the leading process failed before it wrote {output}.json")
        pause(control)


def record_end(path: Path, arguments: Mapping[str, Any], cause: Cause, output: str) -> None:
    """Record a failure that a run could not: it hangs, or its process is gone. What it has recorded itself stays.

    Args:
        path, arguments: of its task.
        output: what its process was at, or said last.
    """
    folder, config = RunFolder(path), build(arguments["config"])
    with contextlib.suppress(UserError, OSError):
        if _of_this_submission(read_record(folder.file("failure.json")), arguments):
            return
    missing: list[str] = []
    with contextlib.suppress(UserError, OSError):
        missing = [stage for stage in missing_stages(config, folder) if stage in arguments["stages"]]
    _write_failure(folder, (missing or arguments["stages"])[0], cause.kind, cause.sentence, output, arguments["since"])


def _of_this_submission(failure: Any, arguments: Mapping[str, Any]) -> bool:
    """Whether a failure was recorded by the submission that a task is of. Records of 0.1.0 tell by their time only."""
    if not isinstance(failure, dict):
        return False
    if "since" in failure:
        return bool(failure["since"] == arguments["since"])
    when = failure.get("time")
    return isinstance(when, int | float) and bool(when >= arguments["since"]) and when != arguments.get("known")


def record_failure(folder: RunFolder, stage: str, error: BaseException, since: float, say: bool = True) -> None:
    """Write `failure.json` for an exception and say it in the log, and on standard error if `say`."""
    text = "".join(traceback.format_exception(error))
    last, limit = str(error).strip().splitlines(), cause_of_limit(error, folder.path)
    message = f"{type(error).__name__}: {last[-1] if last else ''}"
    if limit is not None:
        message = limit.sentence
    elif kind_of(error) == "disk":
        message = f"{DISK_FULL.sentence} ({message})"
    elif isinstance(error, UserError) and last:
        message = last[0]
    _write_failure(folder, stage, kind_of(error), message.strip(), text, since, say)


def kind_of(error: BaseException) -> str:
    """The kind of failure an exception stands for: user, memory, disk, numerical, timeout or error."""
    if isinstance(error, UserError):
        return "user"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "memory"
    if isinstance(error, RuntimeError) and ("out of memory" in str(error) or "can't allocate memory" in str(error)):
        return "memory"
    if (limit := cause_of_limit(error)) is not None:
        return limit.kind
    # torch writes checkpoints in C++, whose errors carry no number.
    if isinstance(error, RuntimeError) and ("No space left" in str(error) or "file write failed" in str(error)):
        return "disk"
    if isinstance(error, ArithmeticError | NumericalError):
        return "numerical"
    if isinstance(error, TimeoutError):
        return "timeout"
    return "error"


def _write_failure(
    folder: RunFolder, stage: str, kind: str, message: str, text: str, since: float, say: bool = True
) -> None:
    # Which submission it belongs to is told by `since`, so that no two clocks need agree; the time is for people.
    value = {
        "stage": stage, "kind": kind, "message": message, "traceback": text, "time": time.time(), "since": since,
    }  # fmt: skip
    if say:
        _say(f"{folder.path.name} {stage}: failed ({kind}): {message}")
    try:
        write_json(folder.file("failure.json"), value)
        folder.log(f"{stage}: failed ({kind}): {message}")
    except (OSError, UserError) as error:
        # A full disk: the job's own error file, which may lie elsewhere, is where status looks next.
        _say(f"failure.json could not be written: {error}\n{json.dumps(value)}")


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # the job's output may lie on the disk that is full
        print(line, file=sys.stderr, flush=True)


def _prepare(config: RunConfig, folder: RunFolder, threads: int | None, job: str) -> None:
    """Record the surroundings and set the number of threads."""
    from cscdarts.records.code import COMMIT_VARIABLE, running_code
    from cscdarts.records.environment import describe, record_environment
    from cscdarts.training.distributed import World, resolve_device
    from cscdarts.training.resumable import configure_process

    configure_process(config, threads)
    if int(os.environ.get("RANK", "0")) == 0:
        device = resolve_device(config.runtime.device, World())
        code = running_code()
        if code.frozen:
            # A worker runs the code that it loaded when it started, whatever is committed while it takes run after run.
            os.environ.setdefault(COMMIT_VARIABLE, code.frozen)
        now = describe(str(device), config.runtime.deterministic, config.runtime.kernels)
        record_environment(folder.path, now, job)
