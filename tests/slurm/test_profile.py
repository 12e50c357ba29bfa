"""Profiles: what ships is valid, what is wrong is named before anything is submitted."""

from pathlib import Path

import pytest

from slurm.backends.slurm.profile import Profile, load_profile, profile_names
from slurm.backends.slurm.submit import sbatch_script
from slurm.errors import ClusterError


def test_the_four_profiles_ship_and_load() -> None:
    assert profile_names() == ["cpu", "gpu", "multi-node-ddp", "single-node"]
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
    assert """exec "$@"' sh apptainer""" in command
    assert "apptainer exec --nv my.sif '/opt/py 3/bin/python' -u -m submitit.core._submit" in command
    assert command.startswith("srun ")


def test_a_first_array_has_no_dependency(tmp_path: Path) -> None:
    script = sbatch_script(Profile(), tmp_path, "name", 1, 1, None)
    assert "--dependency" not in script
    assert "--array" not in script
