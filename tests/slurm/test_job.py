"""One job in a process of its own: claims, signals, requeue, hangs, orders to stop, the end of its driver."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slurm.backends.slurm.host import HOST, SlurmHost
from slurm.host import NoHost, Rank
from slurm.job import CLAIM, MAX_STARTS_WITHOUT_STEP, REQUEUED, Job, Task
from slurm.lock import Lock, this_process

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `scontrol` that notes its calls; the environment of a SLURM job."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol.calls\n')
    (folder / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    return tmp_path / "scontrol.calls"


def _task(folder: Path, function: str = "count", to: int = 3, pace: float = 0.0) -> Task:
    return Task(
        folder.name,
        str(folder),
        f"tests.support.harness.tasks:{function}",
        "tests.support.harness.tasks:hung",
        {"to": to, "pace": pace},
    )


def _start(tmp_path: Path, job: Job) -> "subprocess.Popen[str]":
    path = tmp_path / f"job{time.monotonic_ns()}.pkl"
    path.write_bytes(pickle.dumps(job))
    code = f"from tests.support.harness import tasks; tasks.work({str(path)!r})"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    )


def _finish(process: "subprocess.Popen[str]", seconds: float = 60) -> tuple[int, str]:
    out, _ = process.communicate(timeout=seconds)
    return process.returncode, out


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this did not happen"
        time.sleep(0.02)


def test_tasks_in_order_and_claims_given_back(tmp_path: Path) -> None:
    code, out = _finish(_start(tmp_path, Job((_task(tmp_path / "a"), _task(tmp_path / "b")))))
    assert (code, out.strip()) == (0, "{'a': 'done', 'b': 'done'}")
    assert [(tmp_path / name / "count.json").read_text() for name in "ab"] == ["3", "3"]
    assert not list(tmp_path.glob(f"*/{CLAIM}"))


def test_a_task_held_elsewhere_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    lock = Lock(tmp_path / "a" / CLAIM)
    assert lock.acquire("another worker")
    code, out = _finish(_start(tmp_path, Job((_task(tmp_path / "a"), _task(tmp_path / "b")))))
    assert (code, out.strip()) == (0, "{'a': 'held', 'b': 'done'}")
    assert lock.refresh()
    lock.release()


def test_a_job_all_of_whose_tasks_failed_fails(tmp_path: Path) -> None:
    code, out = _finish(_start(tmp_path, Job((_task(tmp_path / "a", "fail"),))))
    assert code == 1
    assert "RuntimeError: failed: a" in out
    code, out = _finish(_start(tmp_path, Job((_task(tmp_path / "a", "fail"), _task(tmp_path / "b")))))
    assert (code, out.strip()) == (0, "{'a': 'failed', 'b': 'done'}")


def test_the_signal_before_a_limit_saves_and_requeues(tmp_path: Path, scontrol: Path) -> None:
    job = Job((_task(tmp_path / "a", to=1000, pace=0.05), _task(tmp_path / "b")), HOST)
    process = _start(tmp_path, job)
    _until(lambda: (tmp_path / "a" / "count.json").exists())
    process.send_signal(signal.SIGUSR2)
    code, out = _finish(process)
    assert code == 75, out
    assert "stopping: signal SIGUSR2" in out
    assert scontrol.read_text() == "requeue 70_3\n"
    assert (tmp_path / "a" / REQUEUED).exists()
    assert not (tmp_path / "a" / CLAIM).exists()
    assert not (tmp_path / "b").exists()
    # The next life of the job goes on, and takes its mark away.
    (tmp_path / "a" / "count.json").write_text("998")
    code, out = _finish(_start(tmp_path, job))
    assert (code, out.strip()) == (0, "{'a': 'done', 'b': 'done'}")
    assert not (tmp_path / "a" / REQUEUED).exists()


def test_any_number_of_requeues(tmp_path: Path, scontrol: Path) -> None:
    job = Job((_task(tmp_path / "a", to=1_000_000, pace=0.01),), HOST)
    for life in range(1, MAX_STARTS_WITHOUT_STEP + 3):
        process = _start(tmp_path, job)
        before = (tmp_path / "a" / "count.json").read_text() if life > 1 else ""
        _until(lambda: (tmp_path / "a" / "count.json").exists())
        _until(lambda: (tmp_path / "a" / "count.json").read_text() not in ("", before))  # noqa: B023
        process.send_signal(signal.SIGUSR2)
        assert _finish(process)[0] == 75
        assert len(scontrol.read_text().splitlines()) == life


def test_a_signal_after_the_work_is_done_changes_nothing(
    tmp_path: Path, scontrol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seen on a real cluster: the search was done, python was shutting down, and the job ended as failed.
    monkeypatch.setenv("LINGER_S", "2")
    process = _start(tmp_path, Job((_task(tmp_path / "a"),), HOST))
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "{'a': 'done'}"
    process.send_signal(signal.SIGUSR2)
    code, _ = _finish(process)
    assert code == 0
    assert not scontrol.exists()


def test_a_cancellation_saves_and_does_not_requeue(tmp_path: Path, scontrol: Path) -> None:
    process = _start(tmp_path, Job((_task(tmp_path / "a", to=1000, pace=0.05),), HOST))
    _until(lambda: (tmp_path / "a" / "count.json").exists())
    process.send_signal(signal.SIGTERM)
    code, out = _finish(process)
    assert code == 75, out
    assert not scontrol.exists()
    assert not (tmp_path / "a" / REQUEUED).exists()


def test_sigterm_followed_by_the_limits_signal_requeues(tmp_path: Path, scontrol: Path) -> None:
    process = _start(tmp_path, Job((_task(tmp_path / "a", to=1000, pace=0.5),), HOST))
    _until(lambda: (tmp_path / "a" / "count.json").exists())
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGUSR2)
    assert _finish(process)[0] == 75
    assert scontrol.read_text() == "requeue 70_3\n"


def test_a_requeue_that_fails_is_tried_again(tmp_path: Path, scontrol: Path) -> None:
    tool = tmp_path / "bin" / "scontrol"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {scontrol}\n[ $(wc -l < {scontrol}) -ge 2 ]\n')
    process = _start(tmp_path, Job((_task(tmp_path / "a", to=1000, pace=0.05),), HOST))
    _until(lambda: (tmp_path / "a" / "count.json").exists())
    process.send_signal(signal.SIGUSR2)
    code, out = _finish(process)
    assert code == 75
    assert scontrol.read_text().count("requeue 70_3") == 2
    assert "requeued job 70_3" in out


def test_a_hang_is_named_and_ends_the_job(tmp_path: Path, scontrol: Path) -> None:
    process = _start(tmp_path, Job((_task(tmp_path / "a", "stuck"),), HOST, stall_s=0.5))
    code, out = _finish(process)
    assert code == 1
    assert (tmp_path / "a" / "hung.txt").read_text() == "hung: no step for 0.0 min"
    assert "hung" in out
    assert not (tmp_path / "a" / CLAIM).exists()
    assert not scontrol.exists()


def test_what_never_makes_a_step_is_named_after_some_lives(tmp_path: Path, scontrol: Path) -> None:
    folder = tmp_path / "a"
    for life in range(1, MAX_STARTS_WITHOUT_STEP + 1):
        process = _start(tmp_path, Job((_task(folder, "stuck"),), HOST, grace_s=0.3))
        _until(lambda: (folder / "began").exists())
        (folder / "began").unlink()
        process.send_signal(signal.SIGUSR2)
        assert _finish(process)[0] == 1
        # A life may be cut short while it starts; only a row of them is a hang.
        assert (folder / "hung.txt").exists() == (life == MAX_STARTS_WITHOUT_STEP)
        assert len(scontrol.read_text().splitlines()) == min(life, MAX_STARTS_WITHOUT_STEP - 1)
    assert "no step within 0 s of signal SIGUSR2" in (folder / "hung.txt").read_text()


def test_a_start_with_steps_resets_the_count(tmp_path: Path, scontrol: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / REQUEUED).write_text(str(MAX_STARTS_WITHOUT_STEP - 1))
    process = _start(tmp_path, Job((_task(tmp_path / "a", to=1000, pace=0.05),), HOST))
    _until(lambda: (tmp_path / "a" / "count.json").exists())
    time.sleep(0.3)
    process.send_signal(signal.SIGUSR2)
    assert _finish(process)[0] == 75
    assert (tmp_path / "a" / REQUEUED).read_text() == "0"


def test_a_slow_step_goes_back_to_the_queue_instead(tmp_path: Path, scontrol: Path) -> None:
    process = _start(tmp_path, Job((_task(tmp_path / "a", to=1000, pace=3.0),), HOST, grace_s=0.5))
    _until(lambda: (tmp_path / "a" / "count.json").exists())
    time.sleep(0.2)
    process.send_signal(signal.SIGUSR2)
    code, out = _finish(process)
    assert code == 1, out
    assert scontrol.read_text() == "requeue 70_3\n"
    assert (tmp_path / "a" / REQUEUED).exists()
    assert not (tmp_path / "a" / "hung.txt").exists()


def test_an_order_to_stop(tmp_path: Path) -> None:
    job = Job((_task(tmp_path / "a", to=1000, pace=0.05),), stop_file=str(tmp_path / "stop"))
    process = _start(tmp_path, job)
    _until(lambda: (tmp_path / "a" / "count.json").exists())
    (tmp_path / "stop").touch()
    code, out = _finish(process)
    assert (code, out.strip()) == (0, "stopping: asked to stop")
    assert not (tmp_path / "a" / CLAIM).exists()


def test_a_worker_inside_a_scheduler_s_job_does_not_take_its_number(tmp_path: Path, scontrol: Path) -> None:
    """Two workers of one grid, started inside one array task: neither may pass for the other, nor requeue that task."""
    (tmp_path / "a").mkdir()
    other = Lock(tmp_path / "a" / CLAIM)
    assert other.acquire("run", SlurmHost().job)
    code, out = _finish(_start(tmp_path, Job((_task(tmp_path / "a"),))))
    assert (code, out.strip()) == (0, "{'a': 'held'}")
    assert other.refresh()
    # Nor does the array task itself, started once, take over from a process of its own that lives.
    code, out = _finish(_start(tmp_path, Job((_task(tmp_path / "a"),), HOST)))
    assert (code, out.strip()) == (0, "{'a': 'held'}")
    assert other.refresh()
    process = _start(tmp_path, Job((_task(tmp_path / "b", to=1000, pace=0.05),)))
    _until(lambda: (tmp_path / "b" / "count.json").exists())
    process.send_signal(signal.SIGUSR2)
    code, out = _finish(process)
    assert (code, out.strip()) == (0, "stopping: signal SIGUSR2")
    assert not scontrol.exists()


def test_a_job_s_next_life_takes_its_claim_over_and_no_other_does(
    tmp_path: Path, scontrol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left_by(job: str, life: int) -> None:
        (tmp_path / "a").mkdir(exist_ok=True)
        owner = replace(this_process("run", job, life), host="another-node")
        (tmp_path / "a" / CLAIM).write_text(json.dumps(vars(owner)))

    left_by("70_3", 0)
    assert _finish(_start(tmp_path, Job((_task(tmp_path / "a"),), HOST)))[1].strip() == "{'a': 'held'}"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert _finish(_start(tmp_path, Job((_task(tmp_path / "a"),))))[1].strip() == "{'a': 'held'}", "no job's worker"
    assert _finish(_start(tmp_path, Job((_task(tmp_path / "a"),), HOST)))[1].strip() == "{'a': 'done'}"
    left_by("70_4", 0)
    assert _finish(_start(tmp_path, Job((_task(tmp_path / "a"),), HOST)))[1].strip() == "{'a': 'held'}"


def test_a_lone_process_does_not_take_a_launcher_s_place_for_its_own(
    tmp_path: Path, scontrol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver under torchrun, or in a container of a site that sets these for all: its workers are alone."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "3")
    for host in ("", HOST):
        folder = tmp_path / f"lone{host != ''}"
        code, out = _finish(_start(tmp_path, Job((_task(folder, "ranks"),), host)))
        assert code == 0, out
        (path,) = folder.glob("rank*.json")
        assert set(json.loads(path.read_text()).values()) == {None}


def test_variables_of_a_job_are_set_and_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    job = Job((), variables={"CUDA_VISIBLE_DEVICES": "GPU-8932f937", "NOTHING": None})
    job()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-8932f937"
    Job((), variables={"CUDA_VISIBLE_DEVICES": None})()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_what_slurm_tells_a_process_of_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lone = {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "1"}
    assert (SlurmHost(lone).job, SlurmHost(lone).rank()) == ("77", Rank())
    assert SlurmHost({**lone, "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"}).job == "70_3"
    assert (SlurmHost(lone).life, SlurmHost({**lone, "SLURM_RESTART_COUNT": "2"}).life) == (0, 2)
    assert SlurmHost({**lone, "SLURM_RESTART_COUNT": "?"}).life is None
    assert NoHost().life is None
    answers = '#!/bin/sh\n[ "$2" = hostnames ] && printf "n3\\nn4\\n" || echo "NodeName=n3 NodeAddr=10.0.0.3 Port=1"\n'
    (tmp_path / "scontrol").write_text(answers)
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    several = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_JOB_NODELIST": "n[3-4]"}
    rank = SlurmHost({**lone, **several}).rank()
    assert rank == Rank(3, 1, 4, "10.0.0.3", 29577)
    assert not rank.leads
    assert rank.variables() == {
        "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "10.0.0.3", "MASTER_PORT": "29577"
    }  # fmt: skip
    assert NoHost().rank().variables() == {}
    monkeypatch.setenv("PATH", "/nowhere")  # a container has no scontrol
    assert SlurmHost({**lone, **several, "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.9"}).rank().address == "10.0.0.9"


def test_a_worker_ends_with_its_driver(tmp_path: Path) -> None:
    driver = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    process = _start(tmp_path, Job((_task(tmp_path / "a", to=1000, pace=0.05),), parent=driver.pid))
    _until(lambda: (tmp_path / "a" / "count.json").exists())
    driver.kill()
    driver.wait()
    code, out = _finish(process)
    assert (code, out.strip()) == (0, "stopping: the driver is gone")


def test_a_claim_taken_over_by_another_stops_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from slurm.control import Control

    control = Control(beat_s=0.01)
    lost = False

    with control.listening(), control.watching(lambda: not lost, lambda sentence, stalled: None):
        time.sleep(0.3)
        assert not control.should_stop()
        lost = True
        _until(control.should_stop, 10)
    assert control.reason == "another process has taken the work over"


def test_a_beat_that_outlasts_its_block_stops_nothing() -> None:
    """The block ends, and the claim is given back, while the last beat is on its way: the next task goes on."""
    from slurm.control import Control

    control, begun, ended = Control(beat_s=0.01), threading.Event(), threading.Event()

    def beat() -> bool:
        begun.set()
        ended.wait(20)
        return False

    with control.listening():
        with control.watching(beat, lambda *_: None):
            assert begun.wait(20)
        ended.set()
    assert not control.should_stop()


def test_work_without_steps_may_take_its_time() -> None:
    from slurm.control import Control

    said: list[str] = []
    control = Control(stall_s=0.3)
    with control.listening(), control.watching(lambda: True, lambda sentence, stalled: said.append(sentence)):
        with control.without_steps():
            time.sleep(0.8)
        assert said == []
        _until(lambda: bool(said), 10)
    assert said[0].startswith("hung: no step")
