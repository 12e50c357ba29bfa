"""Workers on this machine: which GPUs they see, which code they run, and that they belong to no scheduler's job."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from slurm.backends.local import LocalPool
from slurm.devices import chosen_gpus, listed_gpus, visible_gpus
from slurm.job import Task, worker_variables

ROOT = Path(__file__).parents[2]
UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
MIG = "MIG-3a1b5d52-8a6c-5a5f-9f2e-0a6ef6a1c5b7"
OLD_MIG = "MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0"


@pytest.mark.parametrize(
    ("value", "devices"),
    [
        ("", []), ("0", ["0"]), ("0,1", ["0", "1"]), (" 3 , 1 ", ["3", "1"]), ("03", ["3"]), (UUID, [UUID]),
        (f"{UUID},GPU-1", [UUID, "GPU-1"]), (MIG, [MIG]), (f"{OLD_MIG},{MIG}", [OLD_MIG, MIG]), ("-1", []),
        ("0,-1,1", ["0"]), ("NoDevFiles", []), ("none", []), ("0,0", []), (f"{UUID},{UUID}", []), ("0,,1", ["0"]),
        ("1,", ["1"]), ("0,x", ["0"]), ("٣", []), ("all", []),
    ],
)  # fmt: skip
def test_devices_that_the_environment_names(value: str, devices: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_gpus(value) == devices
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == devices


TWO = f"GPU 0: NVIDIA A100 (UUID: {UUID})\nGPU 1: NVIDIA A100 (UUID: GPU-2)\n"
PARTED = (
    f"GPU 0: NVIDIA A100 (UUID: {UUID})\n  MIG 3g.20gb     Device  0: (UUID: {MIG})\n"
    f"  MIG 1g.5gb      Device  1: (UUID: {OLD_MIG})\nGPU 1: NVIDIA A100 (UUID: GPU-2)\n"
)


@pytest.mark.parametrize(
    ("listing", "devices"),
    [
        (TWO, ["0", "1"]), (PARTED, [MIG, OLD_MIG, "1"]), ("", []), ("No devices were found\n", []),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", []),
    ],
)  # fmt: skip
def test_devices_that_the_machine_has(
    listing: str, devices: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert listed_gpus(listing) == devices
    (tmp_path / "listing").write_text(listing)
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\ncat '{tmp_path}/listing'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == devices


def test_python_finds_this_code_first_and_nothing_where_it_starts() -> None:
    for given in ("", ":", f":{ROOT}", f"{ROOT}:"):
        assert worker_variables({"PYTHONPATH": given, "A": "1"}) == {
            "PYTHONPATH": str(ROOT), "A": "1", "PYTHONSAFEPATH": "1",
        }  # fmt: skip
    assert worker_variables({"PYTHONPATH": f"/a::/b:{ROOT}"})["PYTHONPATH"] == f"{ROOT}:/a:/b"


def _run(tmp_path: Path, tasks: int = 1) -> list[dict[str, Any]]:
    function, hung = (f"tests.support.harness.tasks:{name}" for name in ("surroundings", "hung"))
    pool = LocalPool(tmp_path / "jobs")
    pool.start([Task(str(n), str(tmp_path / f"run{n}"), function, hung) for n in range(tasks)], tasks, 1)
    end = time.monotonic() + 120
    while pool.alive():
        assert time.monotonic() < end
        time.sleep(0.1)
    assert pool.errors() == []
    return [json.loads((tmp_path / f"run{n}" / "surroundings.json").read_text()) for n in range(tasks)]


@pytest.mark.slow
def test_a_users_own_modules_and_an_array_task_around_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one go, as each worker takes seconds: `slurm.py` and the like where the driver stands, SLURM's variables of
    an array task, a launcher's place, GPUs by name."""
    for name in ("slurm", "ablations", "reports", "cscdarts", "benchmarks", "submitit", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user')\n")
    monkeypatch.chdir(tmp_path)
    before = {
        "SLURM_JOB_ID": "77", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3", "SLURM_RESTART_COUNT": "1",
        "SLURM_NTASKS": "4", "SUBMITIT_EXECUTOR": "slurm", "RANK": "1", "WORLD_SIZE": "2",
        "CUDA_VISIBLE_DEVICES": f"{UUID},{MIG}", "PYTHONPATH": f"{os.pathsep}{ROOT}",
    }  # fmt: skip
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    kept = dict(os.environ)
    found = _run(tmp_path, 2)
    assert dict(os.environ) == kept
    for one in found:
        assert all(path.startswith(str(ROOT)) for path in one["files"])
        assert (one["job"], one["claim"]["job"], one["claim"]["life"]) == ("", "", None)
        assert not {"RANK", "WORLD_SIZE"} & one["variables"].keys()
    assert {one["variables"]["CUDA_VISIBLE_DEVICES"] for one in found} <= {UUID, MIG}
    assert {one["variables"]["CUDA_VISIBLE_DEVICES"] for one in found}


@pytest.mark.slow
def test_gpus_that_cannot_be_listed_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm.backends.local.visible_gpus", list)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (found,) = _run(tmp_path)
    assert "CUDA_VISIBLE_DEVICES" not in found["variables"]
