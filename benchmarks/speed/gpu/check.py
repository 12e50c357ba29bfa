"""The check of a GPU, one command of at most eight minutes: `make gpu-check`.

Each part runs in a process of its own with a time box: what it has found stays when it fails or runs out of time, and
no part takes another down. One table says what holds; all numbers go into one JSON file. No network is needed.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks.speed.gpu import runs, steps
from benchmarks.speed.gpu.setting import Finding, Setting
from cscdarts.errors import UserError
from cscdarts.records.environment import describe

RECORD = Path("benchmarks/records/gpu-check.json")
#: Part -> its function and its share of the time, seconds of eight minutes in all.
PARTS: dict[str, tuple[Callable[[Setting], Iterator[Finding]], int]] = {
    "equality": (steps.equality, 60),
    "resume": (runs.resume, 35),
    "precision": (steps.precision, 20),
    "memory": (steps.memory, 45),
    "seconds": (steps.seconds, 90),
    "compiling": (steps.compiling, 75),
    "search": (runs.search, 50),
    "retraining": (runs.retraining, 35),
    "long-search": (runs.long_search, 60),
}
#: Seconds that a part's process may take to end after its time: then it is killed.
_GRACE_S = 8.0


def run_part(name: str, setting: Setting, take: Callable[[Finding], None]) -> None:
    """Run a part here; a failure is a finding too, the last one."""
    try:
        for finding in PARTS[name][0](setting):
            take(finding)
            if setting.left() < 0:
                take(Finding(name, "out of time", "in time", False))
                return
    except Exception as error:  # whatever it is, the next part goes on
        first = (str(error).splitlines() or [""])[0]
        take(Finding(name, f"{type(error).__name__}: {first[:200]}", "no failure", False))


def _apart(name: str, device: str, tiny: bool, place: Path, seconds: float) -> list[dict[str, Any]]:
    """Run a part in a process of its own, and read what it found line by line."""
    lines = place / f"{name}.jsonl"
    words = [sys.executable, "-m", "cscdarts._harness", "-m", "benchmarks.speed.gpu.check", "--only", name]
    words += [
        "--lines",
        str(lines),
        "--device",
        device,
        "--place",
        str(place),
        "--seconds",
        str(seconds),
        *(["--tiny"] if tiny else []),
    ]
    reason = ""
    try:
        done = subprocess.run(words, timeout=seconds + _GRACE_S, check=False, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            reason = f"ended with exit code {done.returncode}: {last[:200]}"
    except subprocess.TimeoutExpired:
        reason = f"out of time after {seconds:.0f} s"
    found = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    return [*found, asdict(Finding(name, reason, "no failure", False))] if reason else found


@click.command()
@click.option("--device", type=click.Choice(("cuda", "cpu")), default="cuda", show_default=True)
@click.option("--tiny", is_flag=True, help="Sizes that a CPU goes through in a minute: only that the check works.")
@click.option("--part", "parts", multiple=True, type=click.Choice(tuple(PARTS)), help="What to check. [all]")
@click.option("--seconds", type=float, default=470, show_default=True, help="For everything together.")
@click.option("--out", type=click.Path(path_type=Path), default=RECORD, show_default=True, help="The JSON file.")
@click.option("--only", hidden=True, type=click.Choice(tuple(PARTS)))
@click.option("--lines", hidden=True, type=click.Path(path_type=Path))
@click.option("--place", hidden=True, type=click.Path(path_type=Path))
def gpu_check(
    device: str, tiny: bool, parts: tuple[str, ...], seconds: float, out: Path, only: str | None, lines: Path | None,
    place: Path | None,
) -> None:  # fmt: skip
    """Check on a GPU what could only be predicted without one: equality, resuming, precisions, memory, seconds."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device", device, "cpu --tiny here", "torch sees no CUDA device.")
    if only is not None:
        assert lines is not None
        assert place is not None
        setting = Setting(device, tiny, place, time.monotonic() + seconds)
        with lines.open("a", buffering=1) as file:
            run_part(only, setting, lambda finding: _write(file, finding))
        return
    found = check(device, tiny, parts or tuple(PARTS), seconds)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1))
    failed = sum(one["holds"] is False for one in found["findings"])
    holding = sum(one["holds"] is True for one in found["findings"])
    click.echo(f"{holding} hold, {failed} do not; {found['seconds']:.0f} s; written to {out}")
    sys.exit(1 if failed else 0)


def check(device: str, tiny: bool, parts: Iterable[str], seconds: float) -> dict[str, Any]:
    """Run parts one after the other, each in a process, print the table as it grows, and give all as plain data."""
    begin, findings = time.monotonic(), []
    chosen = list(parts)
    whole = sum(PARTS[name][1] for name in chosen)
    click.echo(f"{'holds':6s} {'what':78s} {'asked':14s} found")
    with tempfile.TemporaryDirectory() as place:
        for name in chosen:
            left = seconds - (time.monotonic() - begin)
            # What earlier parts did not use is shared among the later ones.
            share = left * PARTS[name][1] / whole
            whole -= PARTS[name][1]
            started = time.monotonic()
            for one in _apart(name, device, tiny, Path(place), share):
                findings.append({"part": name, **one})
                click.echo(row(one))
            click.echo(f"       ({name}: {time.monotonic() - started:.0f} s)", err=True)
    return {
        "environment": describe(device),
        "command": f"python -m benchmarks.speed.gpu.check --device {device}{' --tiny' if tiny else ''}",
        "seconds": time.monotonic() - begin,
        "findings": findings,
    }


def row(finding: dict[str, Any]) -> str:
    """A finding as a line of the table; a dash where nothing is asked on this device."""
    word = {True: "yes", False: "NO", None: "–"}[finding["holds"]]
    return f"{word:6s} {finding['name']:78s} {finding['goal']:14s} {finding['value']}"


def _write(file: Any, finding: Finding) -> None:
    file.write(json.dumps(asdict(finding)) + "\n")


if __name__ == "__main__":
    try:
        gpu_check()
    except UserError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
