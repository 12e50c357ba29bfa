"""Tasks for tests of the job layer, called by import path."""

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slurm.control import Control, Stopping
from slurm.jobs import Cause


def count(folder: Path, arguments: Mapping[str, Any], control: Control) -> str:
    """Count to `arguments["to"]` in a file, a step each `pace` seconds; save and stop when asked."""
    path = folder / "count.json"
    done = json.loads(path.read_text()) if path.exists() else 0
    for number in range(done, arguments["to"]):
        if control.should_stop():
            raise Stopping
        time.sleep(arguments["pace"])
        path.write_text(json.dumps(number + 1))
    return "done"


def stuck(folder: Path, arguments: Mapping[str, Any], control: Control) -> str:
    """Begin, and never step again."""
    control.should_stop()
    (folder / "began").touch()
    while True:
        time.sleep(1)


def fail(folder: Path, arguments: Mapping[str, Any], control: Control) -> str:
    """Fail in the way tasks do: an outcome, no exception."""
    return "failed"


def killed(folder: Path, arguments: Mapping[str, Any], control: Control) -> str:
    """End as a process does that the system kills."""
    print("the last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), arguments.get("signal", signal.SIGKILL))
    while not control.should_stop():
        time.sleep(0.02)
    raise Stopping


def on_gpu(folder: Path, arguments: Mapping[str, Any], control: Control) -> str:
    """Note the GPU and the time from begin to end; count meanwhile."""
    began = time.monotonic()
    outcome = count(folder, arguments, control)
    found = {"gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "began": began, "ended": time.monotonic()}
    (folder / "gpu.json").write_text(json.dumps(found))
    return outcome


def ranks(folder: Path, arguments: Mapping[str, Any], control: Control) -> str:
    """Write what `torch.distributed` would read."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    (folder / f"rank{os.environ.get('RANK')}.json").write_text(json.dumps({n: os.environ.get(n) for n in names}))
    return "done"


def surroundings(folder: Path, arguments: Mapping[str, Any], control: Control) -> str:
    """Write where this process found the product's packages, which job it takes itself for, and its variables."""
    import ablations
    import reports
    import slurm

    found = {
        "files": [str(module.__file__) for module in (slurm, ablations, reports)],
        "job": control.job,
        "claim": json.loads((folder / "claim").read_text()),
        "variables": dict(os.environ),
    }
    (folder / "surroundings.json").write_text(json.dumps(found))
    return "done"


def hung(folder: Path, arguments: Mapping[str, Any], cause: Cause, output: str) -> None:
    """Record what the task could not."""
    (folder / "hung.txt").write_text(cause.sentence)


def work(job_file: str) -> None:
    """Run the pickled job of a file, as a scheduler's process would."""
    import pickle

    print(pickle.loads(Path(job_file).read_bytes())(), flush=True)
    # What an interpreter that takes its time to shut down would go through.
    time.sleep(float(os.environ.get("LINGER_S", "0")))
