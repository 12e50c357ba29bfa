"""The options of sbatch and the variables that stand for them: flags, the user's defaults, what locates the cluster."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from slurm.backends.slurm.host import HOST
from slurm.backends.slurm.options.sbatch import submission_variables, telling_variables
from slurm.backends.slurm.profile import Profile, load_profile
from slurm.backends.slurm.scheduler import SlurmScheduler
from slurm.backends.slurm.submit import SubmititSubmitter, Unreached, sbatch_script
from slurm.errors import ClusterError
from slurm.job import Job, Task

ROOT = Path(__file__).parents[3]


def _lines(profile: Profile, tmp_path: Path) -> list[str]:
    return sbatch_script(profile, tmp_path / "jobs", "name", 2, 1, None).splitlines()


@pytest.mark.parametrize(
    ("given", "there", "missing"),
    [
        ("requeue: false", "--no-requeue", "--requeue"),
        ("requeue: no", "--no-requeue", "--requeue"),
        ("requeue: Off", "--no-requeue", "--requeue"),
        ("no-requeue: true", "--no-requeue", "--requeue"),
        ("no_requeue:", "--no-requeue", "--requeue"),
        ("requeue: true", "--requeue", "--no-requeue"),
        ("no-requeue: false", "--requeue", "--no-requeue"),
        ("nice: 0", "--nice=0", "--nice"),
        ("contiguous: yes", "--contiguous", "--contiguous=yes"),
        ("contiguous: false", "--requeue", "--contiguous"),
        ("exclusive: true", "--exclusive", "--exclusive=true"),
        ("exclusive:", "--exclusive", "--exclusive="),
        ("exclusive: user", "--exclusive=user", "--exclusive"),
        ("exclusive: off", "--requeue", "--exclusive"),
        ("no-kill: off", "--requeue", "--no-kill"),
        ("nice: 100", "--nice=100", "--nice"),
        ("nice:", "--nice", "--nice="),
        ("comment: yes", "--comment=yes", "--comment"),
        ("comment: 'a b'", "--comment='a b'", "--comment"),
        ("mail_type: END", "--mail-type=END", "--mail_type=END"),
        ("licenses: 0123", "--licenses=0123", "--licenses=83"),
        ("begin: 16:00:00", "--begin=16:00:00", "--begin=57600"),
        ("hint: true", "--hint", "--hint=true"),
        ("hint: false", "--requeue", "--hint"),
    ],
)
def test_further_options(tmp_path: Path, given: str, there: str, missing: str) -> None:
    (tmp_path / "p.yaml").write_text(f"extra:\n  {given}\n")
    key, _, value = given.partition(":")
    for profile in (
        load_profile(str(tmp_path / "p.yaml"), (), {}),
        load_profile("cpu", [f"extra.{key}={value.strip()}"], {}),
    ):
        lines = _lines(profile, tmp_path)
        assert f"#SBATCH {there}" in lines
        assert f"#SBATCH {missing}" not in lines
        assert len([line for line in lines if re.match(r"#SBATCH --(no-)?requeue", line)]) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("requeue=maybe", "extra.requeue: 'maybe' is not valid; allowed: true, false"),
        ("contiguous=2", "takes no value"),
        ("mem=4000", "is the profile's own mem_gb. Write mem_gb instead"),
        ("time=5", "Write time_min instead"),
        ("cpus-per-task=2", "Write cpus_per_task instead"),
        ("cpus_per_task=2", "Write cpus_per_task instead"),
        ("array=1-5", "is set by the harness"),
        ("signal=USR1@5", "is set by the harness"),
        ("output=x", "is set by the harness"),
        ("wait=true", "is set by the harness"),
        ("test-only=true", "is set by the harness"),
        ("parsable=true", "is set by the harness"),
        ("clusters=other", "hides the job from it"),
        ("--nice=1", "key=value|no long name"),
        ("N=2", "no long name"),
        ("Nice=1", "no long name"),
        ("comment=a\nb", "several lines"),
    ],
)
def test_options_that_are_not_for_here(given: str, said: str) -> None:
    with pytest.raises(ClusterError, match=said) as caught:
        load_profile("cpu", [f"extra.{given}"], {})
    assert "\n" not in str(caught.value)


def test_one_option_in_two_spellings() -> None:
    with pytest.raises(ClusterError, match="extra names both requeue and no-requeue"):
        load_profile("cpu", ["extra.requeue=true", "extra.no-requeue=false"], {})
    with pytest.raises(ClusterError, match="extra names mail-type twice"):
        load_profile("cpu", ["extra.mail_type=END", "extra.mail-type=FAIL"], {})


def test_the_users_defaults_count_where_nothing_else_is_said(tmp_path: Path) -> None:
    mine = {
        "SBATCH_PARTITION": "long", "SBATCH_ACCOUNT": "0123", "SBATCH_QOS": "no", "SBATCH_TIMELIMIT": "1-0:00",
        "SBATCH_CONSTRAINT": "[a|b]", "SBATCH_RESERVATION": "course",
    }  # fmt: skip
    path = tmp_path / "p.yaml"
    path.write_text("description: says nothing\npartition:\n")
    profile = load_profile(str(path), (), mine)
    assert (profile.partition, profile.account, profile.qos, profile.time_min) == ("long", "0123", "no", 1440)
    assert "#SBATCH --partition=long" in _lines(profile, tmp_path), "a dry run shows what is submitted"
    path.write_text("partition: short\ntime_min: 5\n")
    profile = load_profile(str(path), ["qos=high"], mine)
    assert (profile.partition, profile.qos, profile.time_min) == ("short", "high", 5)
    with pytest.raises(ClusterError, match="SBATCH_TIMELIMIT, as time_min: 'soon' is not valid"):
        load_profile("single-node", ["time_min="], {"SBATCH_TIMELIMIT": "soon"})


IN_A_JOB = {
    "SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SLURM_NTASKS": "4", "SLURM_MEM_PER_NODE": "100",
    "SRUN_DEBUG": "3", "SLURM_CPU_BIND": "x", "SLURMD_NODENAME": "n1", "SBATCH_MEM_BIND": "local", "RANK": "1",
    "WORLD_SIZE": "2", "SUBMITIT_EXECUTOR": "slurm", "PMIX_RANK": "1",
}  # fmt: skip


def test_what_locates_the_cluster_stays() -> None:
    places = {"SLURM_CONF": "/etc/other/slurm.conf", "SLURM_CLUSTERS": "big", "SLURM_JWT": "x", "PATH": "/bin"}
    assert submission_variables(places, ("time",)) == places
    assert submission_variables({**places, **IN_A_JOB}, ("time",)) == places
    own = {**places, "SLURM_HINT": "nomultithread", "SLURM_CPU_BIND": "none"}
    assert submission_variables(own, ("time",)) == own, "outside of a job these are the user's"


@pytest.mark.parametrize(
    ("variable", "options", "kept"),
    [
        ("SBATCH_PARTITION", (), False), ("SBATCH_TIMELIMIT", (), False), ("SBATCH_ARRAY_INX", (), False),
        ("SBATCH_SIGNAL", (), False), ("SBATCH_WAIT", (), False), ("SBATCH_JOB_NAME", (), False),
        ("SBATCH_OUTPUT", (), False), ("SBATCH_OPEN_MODE", (), False), ("SBATCH_NO_REQUEUE", ("requeue",), False),
        ("SBATCH_REQUEUE", ("no-requeue",), False), ("SBATCH_EXCLUSIVE", (), True),
        ("SBATCH_EXCLUSIVE", ("exclusive",), False),
        ("SBATCH_MEM_PER_CPU", (), True), ("SBATCH_MEM_PER_CPU", ("mem",), False),
        ("SBATCH_MEM_PER_NODE", ("mem",), False),
        ("SBATCH_GRES", (), True), ("SBATCH_GRES", ("gpus_per_node",), False), ("SBATCH_GPUS", ("gres",), False),
        ("SBATCH_EXPORT", (), True), ("SBATCH_CLUSTERS", (), True), ("SBATCH_WCKEY", (), True),
        ("SBATCH_WAIT4SWITCH", ("switches",), False), ("SBATCH_WAIT_ALL_NODES", (), True),
    ],
)  # fmt: skip
def test_a_variable_never_overrules_the_script(variable: str, options: tuple[str, ...], kept: bool) -> None:
    assert (variable in submission_variables({variable: "1"}, options)) is kept


def test_what_would_hide_jobs_is_kept_from_the_commands_that_tell_of_them() -> None:
    hiding = {
        "SQUEUE_PARTITION": "a",
        "SQUEUE_STATES": "R",
        "SACCT_FORMAT": "x",
        "SCANCEL_STATE": "R",
        "SCONTROL_ALL": "1",
    }
    assert telling_variables({**hiding, "SLURM_CONF": "/c", "SLURM_CLUSTERS": "b"}) == {
        "SLURM_CONF": "/c", "SLURM_CLUSTERS": "b",
    }  # fmt: skip


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `sbatch` that keeps its script and environment, an `srun`, and an `squeue` that keeps its environment."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, then in (
        ("sbatch", f'cp "$1" {tmp_path}/script; [ -f {tmp_path}/says ] && {{ cat {tmp_path}/says >&2; exit 1; }}; '
                   'echo "Submitted batch job 17"'),
        ("srun", ":"), ("squeue", "echo 17"),
    ):  # fmt: skip
        (folder / name).write_text(f"#!/bin/sh\nenv > {tmp_path}/{name}.env\n{then}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name in list(os.environ):
        if name.startswith(("SLURM_", "SBATCH_", "SQUEUE_")):
            monkeypatch.delenv(name)
    return tmp_path


def _environment(path: Path) -> Mapping[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)


def test_a_submission_keeps_the_place_and_the_users_defaults(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SLURM_CONF": "/c/slurm.conf", "SBATCH_EXCLUSIVE": "user", "SBATCH_PARTITION": "elsewhere",
        "SBATCH_WCKEY": "thesis",
        "SBATCH_SIGNAL": "1", "SLURM_JOB_ID": "5", "SLURM_NTASKS": "9", "SQUEUE_STATES": "R",
        "PYTHONPATH": f"/lib{os.pathsep}",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    submitter = SubmititSubmitter(tools / "jobs")
    assert submitter.submit([Job((), HOST)] * 2, Profile(partition="here"), "n", 1, None) == ["17_0", "17_1"]
    found = _environment(tools / "sbatch.env")
    assert (found["SLURM_CONF"], found["SBATCH_EXCLUSIVE"]) == ("/c/slurm.conf", "user")
    assert found["SBATCH_WCKEY"] == "thesis"
    assert "--wckey" not in (tools / "script").read_text()
    assert not {"SBATCH_PARTITION", "SBATCH_SIGNAL", "SLURM_JOB_ID", "SLURM_NTASKS"} & found.keys()
    assert (found["PYTHONSAFEPATH"], found["PYTHONPATH"]) == ("1", f"{ROOT}:/lib")
    assert dict(os.environ) == before
    assert "#SBATCH --partition=here" in (tools / "script").read_text()
    assert SlurmScheduler().find("n") == ["17"]
    found = _environment(tools / "squeue.env")
    assert found["SLURM_CONF"] == "/c/slurm.conf"
    assert "SQUEUE_STATES" not in found


@pytest.mark.parametrize(
    "said",
    ["sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
     "sbatch: error: fetch_config: DNS SRV lookup failed\nsbatch: fatal: Could not establish a configuration source",
     "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"],
)  # fmt: skip
def test_a_cluster_out_of_reach_is_not_the_profiles_fault(tools: Path, said: str) -> None:
    (tools / "says").write_text(said)
    with pytest.raises(Unreached, match=r"does not reach the cluster.*SLURM_CONF is not set"):
        SubmititSubmitter(tools / "jobs").submit([Job((), HOST)], Profile(), "n", 1, None)
    (tools / "says").write_text("sbatch: error: invalid partition specified: nowhere\n")
    with pytest.raises(ClusterError, match=r"refuses the job: invalid partition.*Correct the profile"):
        SubmititSubmitter(tools / "jobs").submit([Job((), HOST)], Profile(), "n", 1, None)


@pytest.mark.slow
def test_a_script_from_its_first_line_to_the_task(tools: Path) -> None:
    """With an `srun` that only starts what it is given, in a folder with the user's own modules, nothing exported."""
    (tools / "bin" / "srun").write_text('#!/bin/sh\nwhile [ "$1" != sh ]; do shift; done\nexec "$@"\n')
    tasks = "tests.support.harness.tasks"
    task = Task("a", str(tools / "a"), f"{tasks}:surroundings", f"{tasks}:hung")
    setup = ("module() { export LOADED=$2; }", "module load x", "[ -f /nowhere ] && . /nowhere")
    profile = Profile(setup=setup, environment={"EMPTY": "", "WORDS": "a 'b'"})
    assert SubmititSubmitter(tools / "my jobs").submit([Job((task,), HOST)], profile, "n", 1, None) == ["17"]
    for name in ("slurm", "ablations", "reports", "submitit"):
        (tools / f"{name}.py").write_text("raise SystemExit('a file of the user')\n")
    variables = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "17", "SLURM_EXPORT_ENV": "NONE", "PYTHONPATH": ":"}
    done = subprocess.run(
        ["bash", str(tools / "script")], cwd=tools, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tools / "a" / "surroundings.json").read_text())
    assert all(path.startswith(str(ROOT)) for path in found["files"])
    assert (found["job"], found["claim"]["life"]) == ("17", 0)
    wanted = {"LOADED": "x", "EMPTY": "", "WORDS": "a 'b'", "OMP_NUM_THREADS": "1", "SLURM_EXPORT_ENV": "ALL"}
    assert {name: found["variables"].get(name) for name in wanted} == wanted


def test_folders_whose_names_slurm_would_change(tmp_path: Path) -> None:
    for name in ("50%x", "a\\b", "a\nb"):
        with pytest.raises(ClusterError, match="--runs"):
            sbatch_script(Profile(), tmp_path / name, "name", 1, 1, None)
        with pytest.raises(ClusterError, match="--runs"):
            SubmititSubmitter(tmp_path / name).submit([Job((), HOST)], Profile(), "n", 1, None)
        assert not (tmp_path / name).exists()
