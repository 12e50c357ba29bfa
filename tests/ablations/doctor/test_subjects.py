"""What single checks make of what they find: limits of containers, file systems, stores, partitions."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from ablations.doctor.finding import Finding
from ablations.doctor.packages import Requirement, requirements, way_to_have
from ablations.doctor.question import Question
from ablations.doctor.subjects import data, disk, machine, store
from ablations.doctor.subjects.cluster import Node, parse_nodes, time_limit
from ablations.doctor.subjects.profile import fitting
from slurm.backends.slurm.profile import Profile
from tests.support.harness.grids import write_grid

SINFO = """main*|up|7-00:00:00|n1|8|16000|gpu:a100:2(S:0-1)|fast,big|idle
main*|up|7-00:00:00|n2|8|16000|gpu:a100:2|fast|down*
short|up|30:00|n1|8|16000|gpu:a100:2|fast|idle
closed|down|infinite|n3|64|1024000|(null)|(null)|drained
"""


def levels(found: object) -> list[str]:
    assert isinstance(found, list)
    return [one.level for one in found if isinstance(one, Finding)]


def test_the_nodes_of_a_cluster_are_read() -> None:
    first, second, short, closed = parse_nodes(SINFO)
    assert first == Node("main", True, True, 7 * 24 * 60, "n1", 8, 15.625, 2, frozenset({"a100"}),
                         frozenset({"fast", "big"}), True)  # fmt: skip
    assert (second.usable, short.minutes, short.default, closed.open, closed.gpus, closed.minutes) == (
        False, 30, False, False, 0, None,
    )  # fmt: skip
    assert [time_limit(text) for text in ("1-00:00:00", "UNLIMITED", "infinite", "2:00:00")] == [1440, None, None, 120]
    assert parse_nodes("broken\n") == []


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, ("good", "1 node of partition main fits such a job")),
        ({"partition": "none"}, ("bad", "no partition none; there are closed, main, short")),
        ({"partition": "short", "time_min": 60}, ("bad", "jobs of 60 min, and partition short allows 30")),
        ({"gpus_per_node": 4}, ("bad", "4 GPUs on one node, and the largest of partition main has 2")),
        ({"gres": "gpu:a100:3"}, ("bad", "3 GPUs on one node")),
        ({"mem_gb": 64}, ("bad", "64 GiB of memory on one node")),
        ({"runs_per_node": 2, "gpus_per_node": 2, "cpus_per_task": 8}, ("bad", "16 cores on one node")),
        ({"nodes": 3}, ("bad", "3 nodes, and partition main has 2 that fit")),
        ({"nodes": 2}, ("weak", "of the 2 nodes of partition main that fit, 1 in service")),
        ({"constraint": "fast&v100"}, ("bad", "has the feature v100")),
        ({"constraint": "fast"}, ("good", "fits such a job")),
    ],
)
def test_what_a_job_asks_for_is_held_against_the_partition(asked: dict[str, object], told: tuple[str, str]) -> None:
    found = list(fitting("search", Profile.model_validate({"time_min": 20, **asked}), parse_nodes(SINFO)))
    assert (found[0].level, told[1] in found[0].sentence) == (told[0], True), found
    assert found[0].level == "good" or found[0].way_out


def test_limits_of_control_groups_are_found_up_to_the_top(tmp_path: Path) -> None:
    own, root = tmp_path / "own", tmp_path / "cgroup"
    inner = root / "slice" / "job"
    inner.mkdir(parents=True)
    own.write_text("0::/slice/job\n")
    assert (machine.cgroup_memory(root, own), machine.cgroup_cores(root, own)) == ([], None)
    (inner / "memory.max").write_text("max\n")
    (root / "slice" / "memory.max").write_text("2147483648\n")
    (root / "slice" / "memory.current").write_text("1073741824\n")
    (inner / "cpu.max").write_text("150000 100000\n")
    (root / "cpu.max").write_text("max 100000\n")
    assert machine.cgroup_memory(root, own) == [(2**31, 2**30)]
    assert machine.cgroup_cores(root, own) == 1.5
    # In a container the path is the host's, and the limit stands at the top.
    own.write_text("0::/elsewhere/on/the/host\n")
    (root / "memory.max").write_text("1024\n")
    assert machine.cgroup_memory(root, own) == [(1024, 0)]
    # Version 1.
    own.write_text("4:memory:/old\n2:cpu,cpuacct:/old\n")
    for name, content in (("memory/old/memory.limit_in_bytes", "4096"), ("memory/old/memory.usage_in_bytes", "96"),
                          ("cpu/old/cpu.cfs_quota_us", "50000"), ("cpu/old/cpu.cfs_period_us", "100000")):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    assert (machine.cgroup_memory(root, own), machine.cgroup_cores(root, own)) == ([(4096, 96)], 0.5)


def test_the_kind_of_a_file_system_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    place = tmp_path / "with space" / "deep"
    place.mkdir(parents=True)
    told = str(tmp_path / "with space").replace(" ", "\\040")
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {told} nfs4 rw 0 0\n")
    assert disk.kind_of(place, mounts) == "nfs4"
    assert disk.kind_of(tmp_path, mounts) == "ext4"
    assert disk.kind_of(place, tmp_path / "none") == ""
    assert disk.room(tmp_path / "not" / "there").free == pytest.approx(disk.room(tmp_path).free, rel=0.2)


def test_full_disks_and_inodes_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for found, level in (
        (disk.Room(2**40, None, "ext4", True), "good"), (disk.Room(2**31, 10**6, "ext4", True), "weak"),
        (disk.Room(2**40, 5000, "ext4", True), "weak"), (disk.Room(2**40, 5, "ext4", True), "bad"),
        (disk.Room(2**20, 10**6, "ext4", True), "bad"), (disk.Room(2**40, 10**6, "ext4", False), "bad"),
    ):  # fmt: skip
        monkeypatch.setattr(disk, "room", lambda path, found=found: found)
        assert levels(list(disk.runs(Question(runs=str(tmp_path))))) == [level]


def test_a_store_is_looked_at_and_left_alone(
    empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    assert levels(list(store.place(Question()))) == ["good"]
    assert not path.exists()
    shutil.copy(empty_store, path)
    before = path.read_bytes()
    assert levels(list(store.place(Question()))) == ["good"]
    assert path.read_bytes() == before
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = '000000000000'")
    (found,) = (one for one in store.place(Question()) if isinstance(one, Finding))
    assert found.level == "bad"
    assert "mlflow db upgrade" in found.way_out


def test_missing_artifacts_are_counted(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(empty_store, path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    there, gone = "a" * 32, "b" * 32
    (tmp_path / "mlruns" / "g" / there / "artifacts").mkdir(parents=True)
    with sqlite3.connect(path) as database:
        database.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, "
            "last_update_time) VALUES (7, 'g', 'x', 'active', 0, 0)"
        )
        for run, stated in (
            (there, f"{tmp_path}/mlruns/g/{there}/artifacts"), (gone, f"{tmp_path}/mlruns/g/{gone}/artifacts"),
            ("c" * 32, "s3://bucket/x"),
        ):  # fmt: skip
            database.execute(
                "INSERT INTO runs (run_uuid, experiment_id, artifact_uri, lifecycle_stage) VALUES (?, 7, ?, 'active')",
                (run, stated),
            )
    (found,) = store.artifacts(Question("g"))
    assert found.level == "weak"
    assert "Of 3 runs in the store: 1 have no files where the store says. 1 lie on another host" in found.sentence
    assert list(store.artifacts(Question("another"))) == []


def test_data_that_lie_half_there_are_told(tmp_path: Path) -> None:
    grid = str(write_grid(tmp_path / "g.py", [""]))
    root = tmp_path / "data"

    def told() -> list[tuple[str, str]]:
        return [(one.level, one.way_out) for one in data._one("cifar10", root, 2)]

    (level, way), *_ = told()
    assert (level, "CIFAR10" in way) == ("weak", True)
    (root / "cifar-10-batches-py").mkdir(parents=True)
    (root / "cifar-10-batches-py" / "test_batch").touch()
    assert told()[0][0] == "bad"
    for name in data.DOWNLOADED["cifar10"][1]:
        (root / "cifar-10-batches-py" / name).touch()
    assert told()[0][0] == "good"
    assert levels(list(data.of_grid(Question(grid, "smoke", runs=str(tmp_path / "runs"))))) == ["good"]
    assert not (tmp_path / "runs").exists()


def test_bounds_of_packages_and_how_to_have_one() -> None:
    def fits(bounds: str, installed: str) -> bool:
        return Requirement("x", bounds, "", installed).fits

    assert all(fits(">=2.9,<3", version) for version in ("2.9", "2.14.1+cu130", "2.9.0a0"))
    assert not any(fits(">=2.9,<3", version) for version in ("2.8.9", "3", "3.0.1"))
    assert way_to_have("torch") == "pip install 'cscdarts'"
    assert way_to_have("never-heard-of") == "pip install never-heard-of"
    assert any(one.name == "torch" and not one.extra for one in requirements())
