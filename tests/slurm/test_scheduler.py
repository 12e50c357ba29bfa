"""What squeue and sacct print, read; SLURM's commands faked by scripts where one has to fail."""

import os
from pathlib import Path

import pytest

from slurm.backends.slurm.scheduler import JobState, SlurmScheduler, expand, parse_sacct, parse_squeue
from slurm.errors import ClusterError


def test_expand() -> None:
    assert expand("12") == ["12"]
    assert expand("12_3") == ["12_3"]
    assert expand("12_[3-5,8%2]") == ["12_3", "12_4", "12_5", "12_8"]
    assert expand("12_[0]") == ["12_0"]


def test_sacct_lines() -> None:
    text = "7_0|COMPLETED|0:0\n7_1|CANCELLED by 0|0:0\n7_2|NODE_FAIL|0:0\n7_2|COMPLETED|0:0\n7_[3-4%2]|PENDING|0:0\n"
    found = parse_sacct(text)
    assert found["7_0"] == JobState("COMPLETED", "0:0", False)
    assert found["7_1"].state == "CANCELLED"
    assert found["7_2"].state == "COMPLETED", "the last life of a requeued job counts"
    assert found["7_4"].state == "PENDING"


def test_squeue_lines() -> None:
    found = parse_squeue("7_0|RUNNING|None\n7_1|PENDING|Dependency\n8|COMPLETED|None\n\n")
    assert found == {"7_0": JobState("RUNNING", "", True), "7_1": JobState("PENDING", "Dependency", True)}


def _script(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scripts that stand for SLURM's commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "sacct", "scontrol", "scancel", "srun"):
        _script(folder, name, f'echo "{name} $@" >> {tmp_path}/calls')
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_the_queue_outranks_accounting_and_is_asked_once(tools: Path, tmp_path: Path) -> None:
    _script(tools, "sacct", f"echo sacct $@ >> {tmp_path}/calls; echo '7_0|NODE_FAIL|0:0'; echo '7_1|FAILED|1:0'")
    _script(tools, "squeue", f"echo squeue $@ >> {tmp_path}/calls; echo '7_0|PENDING|BeginTime'")
    states = SlurmScheduler().states(["7_0", "7_1", "9"])
    assert states["7_0"] == JobState("PENDING", "BeginTime", True)
    assert states["7_1"] == JobState("FAILED", "1:0", False)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 2
    assert "-j 7,9 " in calls[0]


def test_a_job_that_left_the_queue_is_no_error_but_a_dead_controller_is(tools: Path) -> None:
    _script(tools, "sacct", "echo '7|COMPLETED|0:0'")
    _script(tools, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert SlurmScheduler().states(["7"])["7"].state == "COMPLETED"
    # Else a grid whose controller is away would look lost.
    _script(tools, "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(ClusterError, match="Unable to contact"):
        SlurmScheduler().states(["7"])


def test_no_accounting_is_said_at_the_start(tools: Path) -> None:
    _script(tools, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    with pytest.raises(ClusterError, match=r"without accounting.*Slurm accounting storage is disabled"):
        SlurmScheduler().check()


def test_a_missing_command_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="sbatch"):
        SlurmScheduler().check()


def test_a_controller_that_is_down_is_said(tools: Path) -> None:
    _script(tools, "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(ClusterError, match="Unable to contact slurm controller"):
        SlurmScheduler().check()


def test_releasing_what_has_ended_is_no_error_but_a_dead_controller_is(tools: Path) -> None:
    _script(tools, "scontrol", "echo 'Job has already finished for job 9' >&2; exit 1")
    SlurmScheduler().release(["9"])
    _script(tools, "scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(ClusterError, match="Unable to contact"):
        SlurmScheduler().release(["9"])


def test_limits_are_read(tools: Path) -> None:
    _script(tools, "scontrol", "echo 'MaxArraySize            = 501'")
    assert SlurmScheduler().limit("MaxArraySize", 7) == 501
    assert SlurmScheduler().limit("MaxNothing", 7) == 7
