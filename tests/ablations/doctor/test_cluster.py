"""The doctor on a real SLURM, and on one that hangs."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

import pytest

from ablations.doctor.finding import Finding, Piece
from ablations.doctor.question import Question
from ablations.doctor.subjects import cluster, profile
from slurm.backends.slurm.scheduler import COMMANDS
from tests.support.harness.grids import write_grid
from tests.support.harness.slurm_site import Site, beside, queued_names

on_slurm = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.usefixtures("slurm"),
    pytest.mark.xdist_group("slurm"),
    beside,
]


def findings(pieces: Iterable[Piece]) -> list[Finding]:
    return [one for one in pieces if isinstance(one, Finding)]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The commands of a cluster, each of which hangs until it is written anew."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in (*COMMANDS, "sinfo", "sacctmgr"):
        answer(folder, name, "sleep 60")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def answer(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(stat.S_IRWXU)


def test_a_cluster_that_hangs_is_bad_where_runs_are_to_go_there_and_weak_elsewhere(
    fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "ASK_S", 0.3)
    for backend, level in (("slurm:cpu", "bad"), ("local", "weak")):
        for check in (cluster.controller, cluster.accounting, cluster.partitions):
            (found,) = findings(check(Question(backend=backend)))
            assert found.level == level
            assert "no answer within 0.3 s" in found.sentence
            assert found.way_out


def test_limits_on_numbers_of_jobs_bind_a_grid(fake: Path, tmp_path: Path) -> None:
    grid = write_grid(tmp_path / "g.py", [""] * 12)
    answer(fake, "scontrol", "echo 'MaxArraySize = 5'; echo 'MaxJobCount = 1000'")
    answer(fake, "squeue", "echo 1; echo 2")
    answer(fake, "sacctmgr", "true")
    asked = Question(grid, "smoke", runs=str(tmp_path / "runs"), backend="slurm:cpu")
    (found,) = findings(profile.numbers(asked))
    assert (found.level, found.sentence) == ("good", "12 runs to do: 24 jobs, arrays of at most 5.")
    answer(fake, "sacctmgr", '[ "$4" = qos ] && echo "short|9|01:00:00" || echo "lab||10||short,long|short"')
    found, longest = findings(profile.numbers(asked))
    assert found.level == longest.level == "bad"
    assert "more than 9 (MaxSubmitJobsPerUser of QOS short)" in found.sentence
    assert found.way_out == "--slurm runs_per_job=3"
    assert longest.way_out == "--slurm time_min=60"
    (fits,) = findings(profile.numbers(Question(**{**vars(asked), "overrides": ("runs_per_job=3", "time_min=60")})))
    assert fits.level == "good"
    answer(fake, "scontrol", "echo 'MaxJobCount = 10'")
    found, *_ = findings(profile.numbers(Question(**{**vars(asked), "overrides": ("qos=long",)})))
    assert "more than 8 (the cluster's MaxJobCount" in found.sentence
    *_, problem = findings(profile.numbers(Question(**{**vars(asked), "overrides": ("qos=none", "runs_per_job=9")})))
    assert "does not have the QOS none; it has long, short" in problem.sentence


class TestOnSlurm:
    pytestmark = on_slurm

    def test_it_tells_what_the_cluster_gives_and_what_it_would_refuse_and_submits_nothing(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, source = site.grid(["", ""])
        monkeypatch.chdir(site.path)
        checks = {**cluster.CHECKS, **profile.CHECKS}.values()

        def asked(*overrides: str) -> dict[str, list[str]]:
            question = Question(source, "smoke", backend="slurm:single-node", overrides=overrides)
            told: dict[str, list[str]] = {"good": [], "weak": [], "bad": []}
            for one in (found for check in checks for found in findings(check(question))):
                told[one.level].append(one.sentence)
            return told

        told = asked()
        assert told["bad"] == []
        for start in (
            "Accounting answers", "Partition main (the default)", "2 runs to do: 2 jobs", "retrain: a job would start",
        ):  # fmt: skip
            assert any(one.startswith(start) for one in told["good"]), told
        # Other tests take nodes out of service meanwhile.
        assert any("of partition main fit" in one for one in (*told["good"], *told["weak"]))
        told = asked("gpus_per_node=9", "partition=urgent")
        assert any("9 GPUs on one node, and the largest of partition urgent has" in one for one in told["bad"])
        assert any("sbatch would refuse it" in one for one in told["bad"])
        assert queued_names(site.path) == set()
        assert not (site.path / "runs").exists()
