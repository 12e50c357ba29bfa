"""Profiles: what ships is valid, what is wrong is named before anything is submitted."""

from pathlib import Path

import pytest

from slurm.backends.slurm.options.several import gpus_asked
from slurm.backends.slurm.profile import Profile, load_profile, profile_names
from slurm.backends.slurm.submit import sbatch_script
from slurm.errors import ClusterError


def test_the_profiles_ship_and_load() -> None:
    assert profile_names() == ["cpu", "gpu", "multi-node-ddp", "single-node", "whole-node"]
    for name in profile_names():
        assert load_profile(name).description


def test_overrides_are_typed_and_reach_into_groups_and_environment() -> None:
    profile = load_profile(
        "gpu", ["partition=a100", "time_min=60", "groups.retrain.time_min=90", "environment.TOKEN=1", "extra.nice=100"]
    )
    assert (profile.partition, profile.time_min) == ("a100", 60)
    assert profile.resources("retrain").time_min == 90
    assert profile.resources("search").time_min == 60
    assert profile.environment["TOKEN"] == "1"
    assert profile.extra == {"nice": 100}


def test_an_unknown_key_lists_the_valid_ones_and_the_nearest() -> None:
    with pytest.raises(ClusterError, match=r"partion.*partition, account, qos.*Did you mean partition\?"):
        load_profile("cpu", ["partion=gpu"])
    with pytest.raises(ClusterError, match=r"groups\.search\.gpus.*gpus_per_node"):
        load_profile("gpu", ["groups.search.gpus=1"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("time_min=0", "greater than or equal to 1"),
        ("time_min=soon", "integer"),
        ("cpus_per_task=-1", "greater than or equal to 1"),
        ("graph=tree", "'chain' or 'single'"),
        ("signal_s=99999", "leaves no time"),
        ("groups.derive.time_min=1", "groups are search and retrain"),
        ("nonsense", "key=value"),
        ("partition.inner.more=1", "one line of text"),
    ],
)
def test_bad_values_are_one_sentence(override: str, words: str) -> None:
    with pytest.raises(ClusterError, match=words) as caught:
        load_profile("cpu", [override])
    assert "\n" not in str(caught.value)


def test_unknown_profiles_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="slurm:cpu, slurm:gpu"):
        load_profile("gpus")
    with pytest.raises(ClusterError, match="existing YAML"):
        load_profile(str(tmp_path / "none.yaml"))
    broken = tmp_path / "broken.yaml"
    broken.write_text("time_min: [1")
    with pytest.raises(ClusterError, match="valid YAML"):
        load_profile(str(broken))
    broken.write_text("- time_min")
    with pytest.raises(ClusterError, match="holds a list, not keys and values"):
        load_profile(str(broken))


def test_a_users_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("partition: fat\nsetup: |\n  module load python\n  source env/bin/activate\n")
    profile = load_profile(str(path))
    assert profile.setup == ("module load python", "source env/bin/activate")


def test_the_script_carries_every_part_of_a_profile(tmp_path: Path) -> None:
    profile = Profile(
        partition="gpu", account="lab", qos="long", constraint="a100", exclude="n7", reservation="r1", time_min=90,
        signal_s=120, gpus_per_node=2, cpus_per_task=8, mem_gb=1.5, setup=("module load cuda",),
        container="apptainer exec --nv my.sif", python="/opt/py 3/bin/python", environment={"A": "two words"},
        extra={"nice": 50},
    )  # fmt: skip
    script = sbatch_script(profile, tmp_path / "a folder", "name", 12, 5, "aftercorr:77")
    for line in (
        "#SBATCH --partition=gpu", "#SBATCH --account=lab", "#SBATCH --qos=long", "#SBATCH --constraint=a100",
        "#SBATCH --exclude=n7", "#SBATCH --reservation=r1", "#SBATCH --time=90", "#SBATCH --signal=USR2@120",
        "#SBATCH --gpus-per-node=2", "#SBATCH --cpus-per-task=8", "#SBATCH --mem=1536MB", "#SBATCH --array=0-11%5",
        "#SBATCH --dependency=aftercorr:77", "#SBATCH --kill-on-invalid-dep=yes", "#SBATCH --requeue", "#SBATCH --hold",
        "#SBATCH --nice=50", "#SBATCH --job-name=name", "module load cuda", "export A='two words'",
        "export OMP_NUM_THREADS=8",
    ):  # fmt: skip
        assert line in script.splitlines(), line
    command = script.strip().splitlines()[-1]
    assert """sh -c 'trap "" USR2; command -v""" in command
    assert """exit "$code"' sh apptainer""" in command
    assert "apptainer exec --nv my.sif '/opt/py 3/bin/python' -u -m submitit.core._submit" in command
    assert command.startswith("srun ")


def test_a_first_array_has_no_dependency(tmp_path: Path) -> None:
    script = sbatch_script(Profile(), tmp_path, "name", 1, 1, None)
    assert "--dependency" not in script
    assert "--array" not in script


def test_several_runs_in_a_job_ask_for_the_node_and_for_cores_of_each(tmp_path: Path) -> None:
    profile = load_profile("whole-node", ["runs_per_gpu=2", "gpu_mem_gb=40G"])
    assert (profile.runs_at_once, profile.runs_of_job, profile.gpu_mem_gb) == (8, 8, 40)
    script = sbatch_script(profile, tmp_path, "name", 3, 2, None).splitlines()
    for line in ("--exclusive", "--gpus-per-node=4", "--cpus-per-task=64", "--ntasks-per-node=1", "--mem=0"):
        assert f"#SBATCH {line}" in script, line
    assert "export OMP_NUM_THREADS=8" in script
    shared = sbatch_script(load_profile("whole-node", ["extra.exclusive=false"]), tmp_path, "name", 1, 1, None)
    assert "--exclusive" not in shared
    two = load_profile("gpu", ["runs_per_gpu=2"])
    assert "--exclusive" not in sbatch_script(two, tmp_path, "name", 1, 1, None)
    assert (two.runs_at_once, two.runs_of_job, two.resources("retrain").nodes_of_run) == (2, 2, 0.5)
    own = load_profile("whole-node", ["groups.retrain.runs_per_node=1", "groups.retrain.tasks_per_node=4"])
    assert (own.resources("search").runs_at_once, own.resources("retrain").runs_at_once, own.runs_of_job) == (4, 1, 8)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["runs_per_node=0"], "runs_per_node: '0' is not valid; allowed: greater than or equal to 1"),
        (["runs_per_node=-4"], "runs_per_node: '-4' is not valid"),
        (["runs_per_gpu=0"], "runs_per_gpu: 0 is not valid"),
        (["runs_per_gpu=1.5"], "runs_per_gpu: '1.5' is not valid; allowed: an integer"),
        (["gpu_mem_gb=0"], "gpu_mem_gb: '0' is not valid; allowed: greater than 0"),
        (["runs_per_node=8"], "runs_per_node=8 is more than the 4 GPUs.*runs_per_gpu=2"),
        (["gpus_per_node=0", "gres=gpu:a100:2"], "runs_per_node=4 is more than the 2 GPUs"),
        (["gpus_per_node=0", "extra.gpus=v100:3"], "runs_per_node=4 is more than the 3 GPUs"),
        (["tasks_per_node=4"], "runs_per_node=4 gives each run one process.*tasks_per_node=4 gives a run several"),
        (["nodes=2"], "nodes=2 and tasks_per_node=1 gives a run several"),
        (["extra.ntasks=4"], "extra.ntasks gives a run several"),
        (["groups.retrain.tasks_per_node=4"], "groups.retrain.runs_per_node=4 gives each run one process"),
        (["groups.retrain.gpus_per_node=1"], "groups.retrain.runs_per_node=4 is more than the 1 GPUs"),
        (["runs_per_node=", "runs_per_gpu=2"], "runs_per_gpu=2 would leave 3 of 4 GPUs idle.*runs_per_node=4"),
        (["runs_per_node=", "gpus_per_node=0", "runs_per_gpu=2"], "runs_per_gpu=2 needs a GPU, and none is asked for"),
        (["environment.CUDA_VISIBLE_DEVICES=", "runs_per_gpu=2"], "runs_per_gpu=2 needs a GPU"),
    ],
)  # fmt: skip
def test_numbers_of_runs_that_cannot_be_are_one_sentence(overrides: list[str], words: str) -> None:
    with pytest.raises(ClusterError, match=words) as caught:
        load_profile("whole-node", overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu", 1), ("gpu:4", 4), ("gpu:a100:8", 8), ("gpu:a100", 1), ("gpu:a100:2,gpu:v100:1", 3),
        ("shard:8", 0), ("gpu:tesla_v100-sxm2:4", 4), ("gres:gpu:2", 2), ("gpu:2,nvme:1", 2), ("gpu:4(S:0-1)", 4),
    ],
)  # fmt: skip
def test_gpus_asked_for_in_any_form(gres: str, gpus: int) -> None:
    assert gpus_asked(Profile(gres=gres)) == gpus
