"""Fixtures that several areas share."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared research notes and published numbers; skips where it is not at hand."""
    path = Path(os.environ.get("CSCDARTS_SHARED") or Path(__file__).parents[2] / "shared")
    if not path.is_dir():
        pytest.skip(f"no shared folder at {path}; set CSCDARTS_SHARED")
    return path


@pytest.fixture(scope="session")
def slurm() -> None:
    """A usable SLURM cluster with accounting; skips with the reason where there is none."""
    for command in ("sbatch", "squeue", "sacct", "scontrol"):
        if shutil.which(command) is None:
            pytest.skip(f"no SLURM here: {command} is missing (make slurm-up)")
    for command in (["sinfo", "-h"], ["sacct", "-n", "-X", "-o", "JobID"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip(f"SLURM does not answer: {command[0]} took more than 30 s (make slurm-up)")
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
            pytest.skip(f"SLURM does not run: {command[0]}: {reason} (make slurm-up)")


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> "object":
    """`ablations.driver.Functions` that call the tiny engine of `harness_engine`, importable by workers and jobs."""
    from ablations.driver import Functions

    folders = [str(Path(__file__).parents[1]), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", ":".join(part for part in folders if part))
    return Functions("harness_engine:run_task")
