"""The shell of a job, run by bash: a `setup` line that fails ends it by name, all else is as the user wrote it."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slurm.backends.slurm.profile import Profile, load_profile
from slurm.backends.slurm.scheduler import JobState
from slurm.backends.slurm.shell import REQUEUE_CODE, commands, python_path, script_lines, start_python
from slurm.backends.slurm.words import cause_of, telling_line
from slurm.errors import ClusterError

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def _run(tmp_path: Path, setup: str, **exports: str) -> "subprocess.CompletedProcess[str]":
    script = tmp_path / "script"
    script.write_text("\n".join(["#!/bin/bash", *script_lines(setup.splitlines(), exports), 'echo "then $A"']))
    return subprocess.run(["bash", str(script)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize(
    "setup",
    [
        "", "# nothing", "true", "[ -f /nowhere ] && . /nowhere", "[[ -d /nowhere ]] && cd /nowhere",
        "command -v nonsense >/dev/null && nonsense", "grep -q no-such-word /dev/null && echo x", "false || true",
        "module load x || true", "! false", "if [ -d /nowhere ]; then\n  false\nelse\n  echo\nfi",
        "for i in 1 2; do\n  [ $i = 1 ] && echo one\ndone", "while read -r x; do :; done < /dev/null",
        "module() { [ -n \"$NOWHERE\" ]; true; }\nmodule load a", "f() { false; true; }\nf",
        "printf 'false\\ntrue\\n' > lib.sh\n. ./lib.sh", "cat > x <<END\nfalse\nEND", "echo a \\\n  b",
        "export X='false\nfalse'", "shopt -s extglob\n[[ ab == @(ab|cd) ]]", "x=$(true)", "export X=$(false)",
        "set -u\nconda() { local x=${Y-}; true; }\nconda activate z", "set -e\ntrue", "set -euo pipefail\ntrue",
        "trap 'echo bye' EXIT", "exec 3>&1", "alias x=y", "false &", "function g { return 1; }",
        "conda() { unset PS1; eval 'true'; }; conda activate", "source /dev/null", "ulimit -c 0", "umask 077",
    ],
)  # fmt: skip
def test_setup_that_works_works(tmp_path: Path, setup: str) -> None:
    done = _run(tmp_path, setup, A="1")
    assert done.returncode == 0, done
    assert "then 1" in done.stdout
    assert "setup line" not in done.stderr


@pytest.mark.parametrize(
    ("setup", "code", "said"),
    [
        ("false", 1, "setup line 1 failed with code 1: false"),
        ("source /nowhere/bin/activate\nmodule load python/3.99", 1,
         "setup line 1 failed with code 1: source /nowhere/bin/activate"),
        ("true\nmodule load nonsense", 127, "setup line 2 failed with code 127: module load nonsense"),
        ('module() { [ "$2" = good ]; }\nmodule load good\nmodule load nonsense', 1,
         "setup line 3 failed with code 1: module load nonsense"),
        ("# one\n\n  false  # why", 1, "setup line 3 failed with code 1: false # why"),
        ("cd /nowhere && true", 1, "setup line 1 failed with code 1: cd /nowhere && true"),
        (". /nowhere && true", 1, "setup line 1 failed"),
        ("[ -d /nowhere ]", 1, "setup line 1 failed"),
        ("[ -d / ] && false", 1, "setup line 1 failed"),
        ("true && false", 1, "setup line 1 failed"),
        ("false; true", 1, "setup line 1 failed"),
        ("(exit 4)", 4, "setup line 1 failed with code 4"),
        ("exit 3", 3, "setup line 1 failed with code 3: exit 3"),
        ("exit 0", 1, "setup line 1 failed with code 1: exit 0, which ends the job before its command"),
        ("set -e\nfalse", 1, "setup line 2 failed with code 1: false"),
        ("set -u\necho $NOWHERE", 1, "setup line 2 failed with code 1: echo $NOWHERE"),
        ("set -o pipefail\nfalse | true", 1, "setup line 2 failed"),
        ("true | false", 1, "setup line 1 failed"),
        ("if true; then\n  false\n  echo on\nfi", 1, "setup line 1 failed with code 1: if true; then ..."),
        ("printf 'return 5\\n' > lib.sh\n. ./lib.sh", 5, "setup line 2 failed with code 5"),
        ("cat > x <<END\nEND\nfalse", 1, "setup line 3 failed with code 1: false"),
        ("echo a \\\n  b\nfalse", 1, "setup line 3 failed with code 1: false"),
        ("x=$(false)", 1, "setup line 1 failed"),
        ("trap 'echo bye' EXIT\nfalse", 1, "setup line 2 failed with code 1: false"),
        ("trap - ERR\nfalse", 1, "setup line 2 failed with code 1: false"),
        ("false # '", 1, "setup line 1 failed"),
        ('eval "$(nonsense)"\nconda activate x', 127, "setup line 2 failed with code 127: conda activate x"),
        ("setup_my_env() { return 9; }\nsetup_my_env", 9, "setup line 2 failed with code 9: setup_my_env"),
    ],
)  # fmt: skip
def test_setup_that_fails_ends_the_job_and_is_told_by_the_state(
    tmp_path: Path, setup: str, code: int, said: str
) -> None:
    done = _run(tmp_path, setup)
    assert done.returncode == code, done
    assert "then" not in done.stdout
    assert said in done.stderr
    (tmp_path / "err").write_text(done.stderr + "slurmstepd: error: something of SLURM's own\n")
    cause = cause_of(JobState("FAILED", f"{code}:0"), tmp_path / "err")
    assert cause is not None
    assert cause.sentence.startswith(said), cause


def test_options_and_functions_of_the_setup_reach_the_command(tmp_path: Path) -> None:
    done = _run(tmp_path, "set -u\nmine() { echo mine; }\nexport B=2\n", A="$(x) 'y' \"z\" \\ é")
    assert done.stdout == "then $(x) 'y' \"z\" \\ é\n"
    script = [*script_lines(["mine() { echo mine; }", "set -u", "export B=2"], {}), 'mine; echo "$- $B"']
    done = subprocess.run(["bash", "-c", "\n".join(script)], capture_output=True, text=True, check=False)
    mine, rest = done.stdout.splitlines()
    assert mine == "mine"
    assert "u" in rest.split()[0]
    assert rest.endswith(" 2")


def test_what_bash_cannot_read_is_refused_before_anything_is_submitted(tmp_path: Path) -> None:
    for setup, said in (
        ("true\nfi", "setup line 2: syntax error near unexpected token `fi'"),
        ("if true; then\n  echo\n", "setup line 2: syntax error: unexpected end of file"),
        ("echo 'a", "setup line 1: unexpected EOF"),
        ("echo )", "setup line 1: syntax error"),
    ):
        with pytest.raises(ClusterError, match=said) as caught:
            _profile(tmp_path, setup)
        assert "\n" not in str(caught.value)


def _profile(tmp_path: Path, setup: str) -> Profile:
    path = tmp_path / "p.yaml"
    path.write_text("setup: |\n" + "".join(f"  {line}\n" for line in setup.splitlines()))
    return load_profile(str(path), (), {})


def test_commands_stay_whole_and_lines_stay_as_they_are(tmp_path: Path) -> None:
    setup = ["# c", "a", "", "if b; then", "  # d", "  c", "fi", "cat <<X", "fi", "X", "e \\", "  f", "g &&", "h"]
    assert list(commands(setup)) == [
        (2, ["a"]), (4, ["if b; then", "  # d", "  c", "fi"]), (8, ["cat <<X", "fi", "X"]), (11, ["e \\", "  f"]),
        (13, ["g &&", "h"]),
    ]  # fmt: skip
    assert _profile(tmp_path, "module load a\nmodule load b").setup == ("module load a", "module load b")
    assert "module load a" in script_lines(["module load a"], {})


@pytest.mark.parametrize(
    ("code", "given", "wanted"),
    [
        ("/our code", None, "/our code"), ("/our code", "", "/our code"), ("/o", ":", "/o"),
        ("/o", "::/a::/b:", "/o:/a:/b"),
        ("", None, ""), ("", ":/a:", "/a"), ("", "/a b:$x", "/a b:$x"),
    ],
)  # fmt: skip
def test_where_python_looks(code: str, given: str | None, wanted: str) -> None:
    variables = {"PATH": os.environ["PATH"], **({} if given is None else {"PYTHONPATH": given})}
    script = "\n".join(["set -eu", *python_path(code), "printenv PYTHONPATH"])
    done = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == f"{wanted}\n"


def test_a_missing_interpreter_is_named(tmp_path: Path) -> None:
    for python, container, named in (
        ("/nowhere/bin/python", None, "/nowhere/bin/python"),
        ("/no where/python", None, "/no where/python"),
        ("python", "nonsense-container exec 'my image.sif'", "nonsense-container"),
    ):
        command = f"{start_python(python, container)} -u -m nothing"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == 127
        (tmp_path / "err").write_text(done.stderr + "srun: error: n1: task 0: Exited with exit code 127\n")
        cause = cause_of(JobState("FAILED", "127:0"), tmp_path / "err")
        assert cause is not None
        assert cause.sentence.startswith("no interpreter: ")
        assert cause.sentence.endswith(f"has no {named}")
    done = subprocess.run(
        ["bash", "-c", f"{start_python('echo', 'env X=1')} hi"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "hi\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ModuleNotFoundError: No module named 'torch'\nsrun: error: n1: task 0: Exited with exit code 1\n",
         "ModuleNotFoundError: No module named 'torch'"),
        ("sh: 1: exec: /p: Exec format error\nsrun: error: n1: task 0: Exited with exit code 126\n"
         "slurmstepd: error: x\n", "sh: 1: exec: /p: Exec format error"),
        ("srun: error: n1: task 0: Killed\n", "srun: error: n1: task 0: Killed"),
        ("setup line 1 failed with code 1: x\n" + "later life\n" * 6, "later life"),
        ("setup line 1 failed with code 1: x\nbye from the user's own trap\n", "setup line 1 failed with code 1: x"),
        ("", ""), ("\n \n", ""),
    ],
)  # fmt: skip
def test_the_line_that_tells(text: str, told: str) -> None:
    assert telling_line(text) == told


#: Words of a container, as far as a job sees it: there is no scontrol in it.
BOX = "env PATH=/nowhere"


def _in_a_container(tmp_path: Path, code: str, refusals: int = 0) -> "subprocess.Popen[str]":
    """Python's `code` behind the words of a container, on a host whose scontrol refuses so often before it agrees."""
    (tmp_path / "scontrol").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ "$(wc -l < {tmp_path}/calls)" -gt {refusals} ]\n'
    )
    (tmp_path / "scontrol").chmod(0o755)
    variables = {"SLURM_JOB_ID": "77", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"}
    path = f"{tmp_path}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["bash", "-c", f"{start_python(sys.executable, BOX)} -c {shlex.quote(code)}"], cwd=ROOT, text=True,
        env={**os.environ, **variables, "PATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("refusals", [0, 1])
def test_a_job_in_a_container_goes_back_to_the_queue_from_outside(tmp_path: Path, refusals: int) -> None:
    code = "from slurm.backends.slurm.host import SlurmHost; SlurmHost().requeue(); raise SystemExit('went on')"
    process = _in_a_container(tmp_path, code, refusals)
    out, err = process.communicate(timeout=60)
    assert process.returncode == REQUEUE_CODE, err
    assert (tmp_path / "calls").read_text() == "requeue 70_3\n" * (1 + refusals)
    assert out.splitlines() == [
        "no scontrol here: the shell around the container puts job 70_3 back", "requeued job 70_3"
    ]  # fmt: skip


@pytest.mark.parametrize("code", [0, 1, 75])
def test_other_ends_in_a_container_do_not(tmp_path: Path, code: int) -> None:
    process = _in_a_container(tmp_path, f"raise SystemExit({code})")
    process.communicate(timeout=60)
    assert process.returncode == code
    assert not (tmp_path / "calls").exists()


def test_the_shell_around_a_container_outlives_the_signals_that_a_job_hears(tmp_path: Path) -> None:
    """A preemption tells every process of the job, and none may be killed before the run has saved."""
    code = (
        "import signal, time; before = [signal.getsignal(n).name for n in (signal.SIGUSR2, signal.SIGTERM)]; "
        "signal.signal(signal.SIGTERM, lambda *_: exit(75)); print(*before, flush=True); time.sleep(60)"
    )
    process = _in_a_container(tmp_path, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "SIG_IGN SIG_DFL\n"
    for number in (signal.SIGUSR2, signal.SIGTERM):
        process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 75
