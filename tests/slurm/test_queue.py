"""The life of a grid on a fake cluster: submit, cancel, retry, edit, die in mid-submission; every run exactly once."""

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ablations.drive.backend import Options
from ablations.drive.driver import Driver, TaskFunctions, chosen_for_retry, counts
from ablations.drive.slurm import SlurmBackend
from ablations.grid.load import load_grid
from cscdarts.records.run_folder import RunFolder
from slurm.backends.slurm.fake import FakeCluster
from slurm.backends.slurm.journal import Journal
from slurm.backends.slurm.profile import Profile
from slurm.backends.slurm.queue import Queue
from slurm.backends.slurm.submit import Unreached
from slurm.errors import ClusterError
from slurm.job import Job
from tests.support.harness.fake_slurm import Grid, fake_grid, starts_on, submit, submits
from tests.support.harness.grids import write_grid


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    """Builds the backend of a grid on a given fake cluster."""
    return partial(fake_grid, tmp_path)


def test_a_chain_of_two_arrays_runs_every_run_once(grid: Grid) -> None:
    fake = FakeCluster()
    cluster = grid(fake, [""] * 4, parallel=3)
    assert len(submit(cluster)) == 4
    first, second = submits(fake)
    assert "-search x4 %3" in first
    assert "-retrain x4 %3 aftercorr:1" in second
    assert counts(cluster.states()) == {"pending": 4}
    assert fake.work() == 8
    assert counts(cluster.states()) == {"done": 4}
    assert starts_on(cluster) == [2] * 4, "one start per job"


def test_an_unchanged_grid_submits_nothing_at_any_stage(grid: Grid) -> None:
    fake = FakeCluster()
    cluster = grid(fake, [""] * 3)
    submit(cluster)
    assert submit(cluster) == []
    fake.work()
    assert submit(cluster) == []
    assert len(submits(fake)) == 2


def test_a_new_point_submits_that_one(grid: Grid) -> None:
    fake = FakeCluster()
    submit(grid(fake, ["", ""]))
    fake.work()
    cluster = grid(fake, ["", "", ""])
    assert submit(cluster) == [cluster.driver.grid.points[2].hash]
    assert "afterok:3" in submits(fake)[-1], "a single job is no array"
    fake.work()
    assert counts(cluster.states()) == {"done": 3}


def test_a_failed_search_starts_no_retraining_and_retry_runs_only_it(grid: Grid) -> None:
    fake = FakeCluster()
    cluster = grid(fake, ["", "raise", ""])
    submit(cluster)
    fake.work()
    states = cluster.states()
    assert [state.status for state in states] == ["done", "failed", "done"]
    assert "the loss went astray" in states[1].detail
    assert not RunFolder(cluster.driver.path(cluster.driver.grid.points[1])).has("result")
    assert submit(cluster) == []
    (cluster.driver.folder / "cure").touch()
    again = chosen_for_retry(cluster.states(), failed=True, lost=False, timeout=False)
    assert again == [cluster.driver.grid.points[1].hash]
    cluster.submit(again)
    assert cluster.states()[1].status == "pending"
    fake.work()
    assert counts(cluster.states()) == {"done": 3}
    assert starts_on(cluster) == [2, 3, 2]


def test_what_the_scheduler_killed_is_named_and_retried_by_its_cause(grid: Grid) -> None:
    fake = FakeCluster()
    cluster = grid(fake, [""] * 5)
    submit(cluster)
    for job, word in (("1_0", "TIMEOUT"), ("1_1", "OUT_OF_MEMORY"), ("1_2", "NODE_FAIL"), ("1_3", "CANCELLED")):
        fake.end(job, word)
    fake.work()
    states = cluster.states()
    assert [(s.status, s.kind) for s in states] == [
        ("failed", "timeout"), ("failed", "memory"), ("failed", "node"), ("cancelled", ""), ("done", "")
    ]  # fmt: skip
    hashes = [state.hash for state in states]
    assert chosen_for_retry(states, failed=False, lost=False, timeout=True) == hashes[:1]
    assert chosen_for_retry(states, failed=True, lost=False, timeout=False) == hashes[:3]
    assert chosen_for_retry(states, failed=False, lost=True, timeout=False) == hashes[3:4]
    cluster.submit(hashes[:4])
    fake.work()
    assert counts(cluster.states()) == {"done": 5}


def test_a_retraining_that_failed_is_submitted_without_its_search(grid: Grid) -> None:
    fake = FakeCluster()
    cluster = grid(fake, ["", ""])
    submit(cluster)
    fake.end("2_1", "TIMEOUT")
    fake.work()
    assert cluster.states()[1].kind == "timeout"
    cluster.submit([cluster.driver.grid.points[1].hash])
    assert "-retrain x1" in submits(fake)[-1]
    assert "after" not in submits(fake)[-1]
    fake.work()
    assert counts(cluster.states()) == {"done": 2}
    assert starts_on(cluster) == [2, 2]


def test_cancel_ends_what_lives_and_run_submits_it_again(grid: Grid) -> None:
    fake = FakeCluster()
    cluster = grid(fake, ["", "", ""])
    submit(cluster)
    one = cluster.driver.grid.points[0].hash
    assert cluster.cancel({one}) == 2
    assert [state.status for state in cluster.states()] == ["cancelled", "pending", "pending"]
    assert cluster.cancel() == 4
    assert cluster.cancel() == 0
    assert fake.work() == 0
    assert len(submit(cluster)) == 3
    fake.work()
    assert counts(cluster.states()) == {"done": 3}
    assert starts_on(cluster) == [2, 2, 2]


def test_large_grids_are_split_and_the_throttle_is_shared(grid: Grid) -> None:
    fake = FakeCluster()
    cluster = grid(fake, [""] * 10, max_array=4, parallel=7)
    submit(cluster)
    assert [call.split(" ", 2)[2] for call in submits(fake)] == [
        "x4 %2", "x4 %2 aftercorr:1", "x4 %2", "x4 %2 aftercorr:3", "x2 %2", "x2 %2 aftercorr:5"
    ]  # fmt: skip
    fake.work()
    assert counts(cluster.states()) == {"done": 10}


def test_fewer_slots_than_parts_run_the_parts_in_turn(grid: Grid) -> None:
    fake = FakeCluster()
    submit(grid(fake, [""] * 6, max_array=2, parallel=2))
    searches = [call for call in submits(fake) if "-search" in call]
    assert [call.partition("%")[2] for call in searches] == ["1", "1 afterany:1", "1 afterany:3"]


def test_several_runs_in_a_job_and_all_stages_in_a_job(grid: Grid) -> None:
    fake = FakeCluster()
    cluster = grid(fake, ["", "raise", "", "", ""], profile=Profile(runs_per_job=2, graph="single"))
    submit(cluster)
    (call,) = submits(fake)
    assert "-all x3" in call
    assert fake.work() == 3
    assert [state.status for state in cluster.states()] == ["done", "failed", "done", "done", "done"]
    assert starts_on(cluster) == [1] * 5


class _Killed(BaseException):
    """The driver dies here."""


@pytest.mark.parametrize("moment", range(1, 33))
def test_a_driver_that_dies_anywhere_in_a_submission_loses_nothing_and_doubles_nothing(
    grid: Grid, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    fake = FakeCluster()
    cluster = grid(fake, [""] * 5, max_array=3)
    step = 0

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        # Dies before or after each effect on the cluster and on the journal, one moment a test.
        def call(*arguments: Any, **keywords: Any) -> Any:
            nonlocal step
            step += 1
            if step == moment:
                raise _Killed
            value = function(*arguments, **keywords)
            step += 1
            if step == moment:
                raise _Killed
            return value

        return call

    with monkeypatch.context() as patch:
        for name in ("submit", "release"):
            patch.setattr(fake, name, dying(getattr(fake, name)))
        patch.setattr(Journal, "_append", dying(Journal._append))
        with pytest.raises(_Killed):
            submit(cluster)
    fake.work()
    second = grid(fake, [""] * 5, max_array=3)
    submit(second)
    fake.work()
    assert counts(second.states()) == {"done": 5}
    assert starts_on(second) == [2] * 5
    assert not any(state.live for state in fake.states_by_id.values())
    assert submit(second) == []


def test_a_refused_submission_withdraws_its_chain(grid: Grid) -> None:
    fake = FakeCluster(limit=6)
    cluster = grid(fake, [""] * 4)
    with pytest.raises(ClusterError, match="QOSMaxSubmitJobPerUserLimit"):
        submit(cluster)
    assert fake.work() == 0
    assert counts(cluster.states()) == {"new": 4}
    fake.limit = 100
    submit(cluster)
    fake.work()
    assert counts(cluster.states()) == {"done": 4}


class _Silent(FakeCluster):
    """Takes the second array of each chain, and says nothing."""

    silent = True

    def submit(
        self, jobs: Sequence[Job], profile: Profile, name: str, parallel: int, dependency: str | None
    ) -> list[str]:
        """See `FakeCluster`."""
        ids = super().submit(jobs, profile, name, parallel, dependency)
        if self.silent and dependency is not None:
            raise Unreached("sbatch", "Socket timed out", "a cluster that answers", "Is it up?")
        return ids


def test_jobs_that_a_silent_scheduler_took_are_found_by_name_and_withdrawn(grid: Grid) -> None:
    fake = _Silent()
    cluster = grid(fake, ["", ""])
    with pytest.raises(ClusterError, match="Socket timed out"):
        submit(cluster)
    assert fake.work() == 0, "nothing of a chain that is not whole may start"
    live = [one for one, state in fake.states_by_id.items() if state.live]
    assert len(live) == 2
    fake.silent = False
    assert cluster.queue.repair() == 1
    assert not any(fake.states_by_id[one].live for one in live)
    assert cluster.queue.repair() == 0
    submit(cluster)
    fake.work()
    assert counts(cluster.states()) == {"done": 2}


def test_another_login_node_sees_the_same(grid: Grid) -> None:
    fake = FakeCluster()
    first = grid(fake, ["", "raise", ""])
    submit(first)
    fake.end("1_2", "TIMEOUT")
    fake.work()
    second = grid(fake, ["", "raise", ""])
    assert second.states() == first.states()
    assert submit(second) == []


def test_jobs_hold_only_config_and_folder(grid: Grid) -> None:
    import pickle

    fake = FakeCluster()
    cluster = grid(fake, ["", ""])
    submit(cluster)
    for job in fake.jobs.values():
        assert len(pickle.dumps(job)) < 10_000
        (task,) = job.tasks
        assert json.loads(json.dumps(task.arguments)) == task.arguments
        assert Path(task.folder).is_absolute()


def test_a_torn_journal_line_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "submissions.jsonl")
    (one,) = journal.record_intent("t", ["all"], [["a"]], "cpu", time.time())
    with journal.path.open("a") as file:
        file.write('{"event": "submit')
    journal.record_jobs(one.token, ["7"])
    (read,) = journal.read()
    assert read.jobs == ("7",)


def test_of_runs_that_share_a_search_one_searches_and_the_others_wait(tmp_path: Path) -> None:
    """Two settings, each retrained three times: two searches at once, the other four runs after both have ended."""
    path = tmp_path / "mine.py"
    write_grid(path, ["", ""])
    path.write_text(
        path.read_text().replace("def grid(scale):", "def once(scale):")
        + "\n\ndef grid(scale):\n    for config in once(scale):\n"
        + "        for number in range(3):\n"
        + "            yield with_values(config, {'evaluation.seed': config.seed + 10 * number})\n"
    )
    functions = TaskFunctions("tests.support.harness.engine:run_task")
    driver = Driver(load_grid(str(path), "smoke"), tmp_path / "runs", functions)
    driver.folder.mkdir(parents=True)
    fake = FakeCluster()
    cluster = SlurmBackend(driver, Options(None), None, "fake", Queue(driver.folder, "test", fake, fake))
    assert len(submit(cluster)) == 6
    seen = submits(fake)
    assert [call.split()[2] for call in seen] == ["x2", "x2", "x4", "x4"]
    assert seen[2].endswith("afterany:1")
    assert "aftercorr:3" in seen[3]
    fake.work()
    assert counts(cluster.states()) == {"done": 6}
    searches = list((tmp_path / "runs" / "searches").glob("*/search-metrics.jsonl"))
    assert [len(found.read_text().splitlines()) for found in searches] == [2, 2]
    assert len(list((tmp_path / "runs" / "retrainings").iterdir())) == 6
