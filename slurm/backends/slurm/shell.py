"""The shell of a job: `setup` lines each of which must succeed, exports, and the words that start python.

A line may be any shell: functions such as `module` and `conda` run in the script's own shell, options such as `set -u`
are the user's, blocks and continued lines stay whole. After each whole command its status is asked. What ends the
script is named on its standard error, where the run's state is read from.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from slurm.errors import ClusterError

#: Begins the sentence about a setup line that failed; the state of the run quotes it.
SETUP_FAILED = "setup line "
#: Begins the sentence about an interpreter that a node lacks.
NO_PYTHON = "no interpreter: "
#: With this code ends what asks the shell around its container to put the job back into the queue.
REQUEUE_CODE = 79
#: How often that is tried, the waits between doubling from one second.
REQUEUE_TRIES = 5
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Commands that ask something: `[ -f x ] && . x` says no more than that there is no x.
_ASKS = r'"["*|"[["*|"(("*|"test "*|"command -v "*|"type "*|"hash "*|"which "*|"grep "*|"declare -F "*'
_PRELUDE = f"""\
_setup_line=0 _setup_text='' _setup_command='' _setup_code=0
_setup_begins() {{ _setup_line=$1 _setup_text=$2; }}
_setup_fails() {{
  echo "{SETUP_FAILED}$_setup_line failed with code $1: $_setup_text (write '... || true' where a line may fail)" >&2
  _setup_line=0
  exit "$1"
}}
_setup_done() {{
  local code=$?
  [ "$code" = 0 ] && return 0
  case "$_setup_command" in {_ASKS}) return 0 ;; esac
  _setup_fails "$code"
}}
_setup_ends() {{
  if [ "$_setup_line" != 0 ]; then
    [ "$1" != 0 ] || _setup_text="$_setup_text, which ends the job before its command"
    _setup_fails "$(( $1 ? $1 : 1 ))"
  fi
}}
trap '_setup_ends "$?"' EXIT
trap '_setup_code=$?; [ "${{#BASH_SOURCE[@]}}" -gt 1 ] || _setup_fails "$_setup_code"' ERR
trap '[ "${{BASH_COMMAND#_setup_}}" != "$BASH_COMMAND" ] || _setup_command=$BASH_COMMAND' DEBUG"""
_END = """\
_setup_line=0
trap - ERR DEBUG"""

_WAITS = " ".join(str(2**attempt) for attempt in range(REQUEUE_TRIES))
_REQUEUE = (
    f'if [ "$code" = {REQUEUE_CODE} ]; then '
    "job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}; job=${job:-$SLURM_JOB_ID}; "
    f'for pause in {_WAITS}; do scontrol requeue "$job" && echo "requeued job $job" && break; sleep "$pause"; done; fi'
)


def script_lines(setup: Sequence[str], exports: Mapping[str, str]) -> list[str]:
    """The part of the script before its command: `setup`, each line checked, then `exports`."""
    # Where a site exports nothing into jobs, srun would keep what the script sets from python.
    lines = ["export SLURM_EXPORT_ENV=ALL"]
    if any(_says(line) for line in setup):
        lines += _PRELUDE.split("\n")
        for number, chunk in commands(setup):
            shown = " ".join(chunk[0].split())[:200] + (" ..." if len(chunk) > 1 else "")
            lines += [f"_setup_begins {number} {shlex.quote(shown)}", *chunk, "_setup_done"]
        lines += _END.split("\n")
    return [*lines, *(f"export {name}={shlex.quote(value)}" for name, value in exports.items())]


def python_path(code: str) -> list[str]:
    """Lines by which python finds some code first, whatever the site exports into jobs and `setup` loads.

    Empty entries, which stand for the folder that the job starts in, are taken out.

    Args:
        code: the folder that holds it; "" where python finds it by itself.
    """
    return [
        f"PYTHONPATH=$(printf '%s' {shlex.quote(code)}:\"${{PYTHONPATH:-}}\" | tr -s ':')",
        "PYTHONPATH=${PYTHONPATH#:}",
        "export PYTHONPATH=${PYTHONPATH%:}",
    ]


def commands(setup: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """The whole commands of some lines: (number of the first line, its lines). Comments and empty lines are left out.

    A command ends where bash finds nothing missing: blocks, here-documents, quotes and continued lines stay together.
    """
    chunk: list[str] = []
    first = 0
    for number, line in enumerate(setup, 1):
        if not chunk and not _says(line):
            continue
        first = first if chunk else number
        chunk.append(line)
        if _whole(chunk):
            yield first, chunk
            chunk = []
    if chunk:
        yield first, chunk


def check_setup(setup: Sequence[str]) -> None:
    """Refuse what bash cannot read; nothing is known where there is no bash.

    Errors:
        ValueError: a whole sentence.
    """
    if any("\0" in line for line in setup):
        raise ValueError("setup holds a NUL character. Remove it.")
    said = _read_by_bash(setup)
    match = re.search(r"line (\d+): (syntax error.*|unexpected EOF.*)", said or "")
    if match is not None:
        number = min(int(match.group(1)), len(setup))
        raise ValueError(f"setup line {number}: {match.group(2)} in {setup[number - 1].strip()!r}. Correct the line.")


def _says(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _whole(chunk: Sequence[str]) -> bool:
    last = chunk[-1]
    if (len(last) - len(last.rstrip("\\"))) % 2:
        return False
    said = _read_by_bash(chunk)
    return said is None or not said


def _read_by_bash(lines: Sequence[str]) -> str | None:
    """What bash says against some lines without running them; None where there is no bash."""
    bash = shutil.which("bash")
    if bash is None:
        return None
    variables = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
    done = subprocess.run(
        [bash, "--norc", "-O", "extglob", "-n"], input="\n".join(lines) + "\n", capture_output=True, text=True,
        env=variables, check=False,
    )  # fmt: skip
    return done.stderr or ("" if done.returncode == 0 else "unreadable")


def start_python(python: str, container: str | None) -> str:
    """How a job starts python, the container's words included.

    The signal before a limit kills a process that has no handler yet. A job preempted in its first second would then
    end as failed, so python begins with that signal ignored; the scheduler requeues what it preempts anyhow.

    A container has no `scontrol`: the shell around it stays, outlives the signals that the job hears, and puts the job
    back into the queue where python ends with `REQUEUE_CODE`.
    """
    check = f'command -v "$1" >/dev/null || {{ echo "{NO_PYTHON}$(uname -n) has no $1" >&2; exit 127; }}'
    if not container:
        return f'sh -c \'trap "" USR2; {check}; exec "$@"\' sh {shlex.quote(python)}'
    # A signal that is caught is not ignored by what is started here, as one that is ignored would be.
    words = f'trap "" USR2; {check}; trap : TERM INT HUP; "$@"; code=$?; {_REQUEUE}; exit "$code"'
    return f"sh -c '{words}' sh {container} {shlex.quote(python)}"


def require_plain(folder: str) -> None:
    """Refuse a folder in whose name SLURM would replace something.

    Errors:
        ClusterError: it holds `%`, a backslash or a line's end.
    """
    for character in ("%", "\\", "\n", "\r"):
        if character in folder:
            fix = "Choose another folder with --runs."
            raise ClusterError(
                "--runs", folder, "a path without %, backslash and line ends", fix,
                f"{folder!r} holds {character!r}, which SLURM replaces or ends at in the names of its files. {fix}",
            )  # fmt: skip
