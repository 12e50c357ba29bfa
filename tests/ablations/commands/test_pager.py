"""Long output goes through the user's pager on a terminal, and nowhere else."""

import subprocess
import sys
from pathlib import Path

import pytest

from ablations.commands.options.pager import rows_of
from tests.support.pty_terminal import ROOT, terminal

PRESETS = ["-m", "ablations.cli", "config", "--presets"]
#: Says that it was here, and passes its input on.
PAGER = "#!/bin/sh\necho PAGED $*\ncat\n"


@pytest.fixture
def pager(tmp_path: Path) -> str:
    path = tmp_path / "my-pager"
    path.write_text(PAGER)
    path.chmod(0o755)
    return str(path)


def test_on_a_terminal_the_users_pager_shows_what_is_longer(tmp_path: Path, pager: str) -> None:
    with terminal(PRESETS, tmp_path, variables={"PAGER": f"{pager} -x"}) as shown:
        assert shown.end() == 0
    assert shown.seen.startswith("PAGED -x")
    assert "CSC-DARTS (our reading)" in shown.seen
    assert shown.seen.count("deviation") > 10


@pytest.mark.parametrize(
    ("words", "variables", "rows"),
    [
        ([*PRESETS, "--no-pager"], {}, 24),
        (PRESETS, {"CSCDARTS_PAGER": ""}, 24),
        (PRESETS, {"TERM": "dumb"}, 24),
        ([*PRESETS, "--json"], {}, 24),
        (["-m", "ablations.cli", "ablate", "list"], {}, 60),
    ],
    ids=["option", "variable", "dumb", "json", "short"],
)
def test_without_one(tmp_path: Path, pager: str, words: list[str], variables: dict[str, str], rows: int) -> None:
    with terminal(words, tmp_path, rows=rows, variables={"PAGER": pager, **variables}) as shown:
        assert shown.end() == 0
    assert "PAGED" not in shown.seen
    assert len(shown.seen) > 100


def test_a_pager_of_ours_alone(tmp_path: Path, pager: str) -> None:
    with terminal(PRESETS, tmp_path, variables={"PAGER": "false", "CSCDARTS_PAGER": pager}) as shown:
        assert shown.end() == 0
    assert "PAGED" in shown.seen


def test_never_in_a_pipe(tmp_path: Path, pager: str) -> None:
    variables = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PAGER": pager, "TERM": "xterm"}
    done = subprocess.run(
        [sys.executable, *PRESETS], cwd=tmp_path, env=variables, capture_output=True, text=True, check=True
    )
    assert "PAGED" not in done.stdout
    assert "\x1b" not in done.stdout


def test_colours_reach_it_and_leaving_early_is_no_error(tmp_path: Path, pager: str) -> None:
    code = (
        "import click, os; from ablations.commands.options.pager import paging\n"
        "with paging():\n    click.echo('\\n'.join(click.style(f'row {n}', fg='red') for n in range(50000)))\n"
        "print('after')"
    )
    (tmp_path / "less").write_text('#!/bin/sh\necho "LESS=$LESS"\nhead -2\n')
    (tmp_path / "less").chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    with terminal(["-c", code], tmp_path, variables=path) as shown:
        assert shown.end() == 0
    assert "LESS=-R" in shown.seen
    assert "\x1b[31mrow 1\x1b[0m" in shown.seen
    assert shown.seen.rstrip().endswith("after")


def test_ctrl_c_is_the_pagers(tmp_path: Path) -> None:
    (tmp_path / "waits").write_text(
        "#!/bin/sh\ntrap 'echo CAUGHT; exit 0' INT\necho ready\nwhile :; do sleep 0.05; done\n"
    )
    (tmp_path / "waits").chmod(0o755)
    with terminal(PRESETS, tmp_path, variables={"PAGER": str(tmp_path / "waits")}) as shown:
        shown.read(lambda seen: "ready" in seen)
        shown.type("\x03")
        assert shown.end() == 0
    assert "CAUGHT" in shown.seen
    assert "interrupted" not in shown.seen


def test_what_was_printed_before_an_error_is_shown(tmp_path: Path, pager: str) -> None:
    code = (
        "from ablations.commands.options.pager import paging\nwith paging():\n    print('begun'); raise SystemExit(3)\n"
    )
    with terminal(["-c", code], tmp_path, variables={"PAGER": pager}) as shown:
        assert shown.end() == 3
    assert "begun" in shown.seen
    assert "PAGED" not in shown.seen


@pytest.mark.parametrize(
    ("text", "rows"), [("", 0), ("a\nb\n", 2), ("x" * 81, 2), ("x" * 80, 1), ("\x1b[31m" + "x" * 80 + "\x1b[0m", 1)]
)
def test_rows_of_a_text(text: str, rows: int) -> None:
    assert rows_of(text, 80) == rows
