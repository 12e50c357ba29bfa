"""What a shell is answered, in bash, zsh and fish themselves, and what an answer must not cost."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import CompletionItem

from ablations import cli
from ablations.commands.completion import remembered
from ablations.commands.completion.attach import OPTIONS, completer
from ablations.commands.completion.remembered import known, stand_in
from ablations.commands.completion.shells import SHELLS, script
from ablations.grid.load import load_grid
from cscdarts.settings.methods import PRESETS
from cscdarts.settings.optimiser_recipes import PROFILES
from cscdarts.settings.overrides import field_paths
from cscdarts.settings.protocols import PROTOCOLS
from tests.ablations.commands.test_generated_options import COMMANDS
from tests.support.harness.grids import write_grid

ROOT = Path(__file__).parents[3]


def ask(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], line: str, breaks: str = "=:") -> list[str]:
    """What bash is answered for a line with the cursor at its end: kind and word."""
    variables = {
        "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_WORDBREAKS": breaks,
        "_CSCDARTS_COMPLETE": "bash_complete",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        cli.main([])
    out, err = capfd.readouterr()
    assert err == ""
    assert end.value.code == 0
    return [one for one in out.splitlines() if one]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a grid's file, another Python file, and a run of a grid that has no file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    write_grid(tmp_path / "mine.py", ["", ""])
    (tmp_path / "other.py").write_text("print('no grid')\n")
    for point in load_grid("mine.py", "smoke").points:
        folder = tmp_path / "runs" / "past" / point.hash
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(point.config.model_dump_json())
    (tmp_path / "runs" / "past" / "grid.json").write_text("{}")
    (tmp_path / "runs" / "searches").mkdir()
    return tmp_path


def test_names(here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def answers(line: str, breaks: str = "=:") -> list[str]:
        return ask(monkeypatch, capfd, f"cscdarts {line}", breaks)

    assert sorted(answers("")) == sorted(f"plain,{name}" for name in cli.COMMANDS)
    assert answers("abl") == ["plain,ablate"]
    assert "plain,--no-pager" in answers("--")
    assert answers("ablate st") == ["plain,status"]
    assert {"plain,--scale", "plain,--set", "plain,--slurm"} <= set(answers("ablate run x --s"))
    assert answers("search --protocol ") == [f"plain,{name}" for name in PROTOCOLS]
    assert answers("search --preset ") == [f"plain,{name}" for name in PRESETS]
    assert answers("search --preset=dr") == ["plain,drnas"]
    assert answers("ablate run x --scale ") == ["plain,smoke", "plain,reduced", "plain,paper"]
    assert answers("reproduce cifar") == ["plain,cifar10", "plain,cifar100"]
    assert {"plain,local", "plain,slurm:gpu", "plain,slurm:cpu"} <= set(answers("ablate run x --on "))
    assert answers("ablate run x --on slurm:g") == ["plain,gpu"]
    assert answers("ablate run x --on slurm:g", breaks="") == ["plain,slurm:gpu"]
    assert answers("ablate run x --slurm part") == ["part,partition="]
    assert {"plain,embedded", "part,index:"} <= set(answers("check 11 --benchmark "))
    assert answers("retrain --genotype PD") == ["plain,PDARTS"]
    assert answers("report quickstart --formats csv,t") == ["plain,csv,tex"]
    assert answers("completion z") == ["plain,zsh"]


def test_settings_and_their_values(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def answers(line: str, breaks: str = "=:") -> list[str]:
        return ask(monkeypatch, capfd, f"cscdarts {line}", breaks)

    keys = {one.removeprefix("part,").removesuffix("=") for one in answers("search --set ")}
    assert keys >= set(field_paths()) - {"schema_version"}
    assert answers("search --set supernet.identity_") == [
        f"part,supernet.identity_{name}=" for name in ("scale", "decay", "proj", "phases")
    ]
    assert "part,split_ratio=" in answers("search --set spl")
    assert answers("search --set supernet.identity=") == ["plain,cell", "plain,edge", "plain,none"]
    assert answers("search --set=supernet.identity=c") == ["plain,cell"]
    assert answers("search --set identity=c", breaks="") == ["plain,identity=cell"]
    assert answers("search --set data.flip=t") == ["plain,true"]
    assert answers("search --set profile=") == [f"plain,{name}" for name in PROFILES]
    assert answers("search --set search.epochs=") == []
    assert answers("sweep --set identity=cell,") == ["plain,cell,edge", "plain,cell,none"]
    assert answers("sweep --preset csc,dr") == ["plain,csc,drnas"]


def test_grids_and_runs(here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def answers(line: str) -> list[str]:
        return ask(monkeypatch, capfd, f"cscdarts {line}")

    found = answers("ablate status ")
    assert {"plain,quickstart", "plain,split_ratio", "plain,past", "plain,mine.py"} <= set(found)
    assert not {"plain,other.py", "plain,searches", "plain,runs"} & set(found)
    assert answers("report q") == ["plain,quickstart"]
    assert answers("report rec") == ["plain,record"]
    hashes = sorted(path.name for path in (here / "runs" / "past").iterdir() if path.is_dir())
    assert answers("ablate logs past ") == [f"plain,{key}" for key in hashes]
    assert answers(f"ablate cancel past {hashes[0][:5]}") == [f"plain,{hashes[0]}"]
    assert "part,runs/" in answers("check r")
    assert answers("export runs/") == ["part,runs/past/"]
    for export in ("runs export", "mlflow log-models"):
        assert answers(f"{export} p") == ["plain,past"]
        assert "plain,quickstart" not in answers(f"{export} ")
    assert answers("runs export runs/past/") == [f"plain,runs/past/{key}" for key in hashes]
    assert answers("check runs/past/") == [f"plain,runs/past/{key}" for key in hashes]


def test_runs_are_described(here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COMP_WORDS", "cscdarts ablate logs past ")
    monkeypatch.setenv("COMP_CWORD", "4")
    monkeypatch.setenv("_CSCDARTS_COMPLETE", "zsh_complete")
    with pytest.raises(SystemExit):
        cli.main([])
    assert "csc r=1/2 identity=cell order=2 seed=1" in capfd.readouterr().out


def test_whatever_fails_nothing_is_printed(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for line in ("ablate logs 'a b ", "search --set nonsense=", "nonsense ", "ablate run x --parallel q --on ",
                 "ablate status x --runs /proc/1/no ", "export runs/no/such/"):  # fmt: skip
        ask(monkeypatch, capfd, f"cscdarts {line}")
    (here / "runs" / "past" / "0123456789abcdef").mkdir()
    (here / "runs" / "past" / "0123456789abcdef" / "config.json").write_text("{broken")
    assert "plain,0123456789abcdef" in ask(monkeypatch, capfd, "cscdarts ablate logs past ")

    def broken(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        raise RuntimeError("no answer")

    monkeypatch.setitem(OPTIONS, "--preset", broken)
    assert ask(monkeypatch, capfd, "cscdarts search --preset ") == []


def test_a_command_that_cannot_be_imported_leaves_the_others(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.COMMANDS, "broken", ("no.such.module:x", "broken"))
    assert ask(monkeypatch, capfd, "cscdarts br") == []
    assert ask(monkeypatch, capfd, "cscdarts ablate st") == ["plain,status"]


def test_each_name_of_a_kind_is_completed_wherever_it_stands() -> None:
    known = ("--protocol", "--preset", "--scale", "--set", "--on", "--slurm", "--benchmark", "--genotype", "--notify")
    for name, command in COMMANDS.items():
        for parameter in command.params:
            chosen = isinstance(parameter.type, click.Choice)
            if isinstance(parameter, click.Option) and set(known) & set(parameter.opts):
                assert chosen or completer(parameter), (name, parameter.opts)
            if isinstance(parameter, click.Argument) and "GRID" in str(parameter.metavar):
                assert completer(parameter), name


_LINES = (
    "", "ablate ", "ablate run ", "ablate run x --set supernet.", "ablate run x --on ", "report --", "export PD",
    "check ", "sweep --preset ", "benchmark index --",
)  # fmt: skip


def test_an_answer_imports_nothing_heavy_and_a_second_one_next_to_nothing(tmp_path: Path) -> None:
    heavy = ["torch", "pandas", "mlflow", "sklearn", "matplotlib", "scipy", "seaborn", "pyarrow", "sqlalchemy"]
    code = """
import json, sys
from ablations import cli
try:
    cli.main([])
except SystemExit as end:
    assert end.code == 0
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
    seen: dict[str, str] = {}
    for number, line in enumerate(_LINES):
        text = f"cscdarts {line}"
        variables = {
            **os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "_CSCDARTS_COMPLETE": "bash_complete", "COMP_LINE": text, "COMP_POINT": str(len(text)),
        }  # fmt: skip
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=True)
        imported = json.loads(done.stderr)
        assert not set(heavy) & set(imported), line
        seen[line] = done.stdout
        assert done.stdout.strip(), line
        if number:
            assert not {"numpy", "pydantic", "rich", "yaml", "ablations.commands.ablate"} & set(imported), line
    assert [path.name for path in (tmp_path / "cache" / "cscdarts").iterdir()] == ["completion.json"]


def test_what_is_remembered_is_read_again_where_something_changed(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = here / ".cache" / "cscdarts" / "completion.json"
    first = ask(monkeypatch, capfd, "cscdarts search --preset dr")
    good = place.read_text()
    for bad in (
        "",
        "[]",
        '{"mark": 1}',
        "{broken",
        good.replace('"drnas"', '"another"').replace('"mark": "', '"mark": "x'),
    ):
        place.write_text(bad)
        assert ask(monkeypatch, capfd, "cscdarts search --preset dr") == first == ["plain,drnas"]
        assert json.loads(place.read_text()) == json.loads(good)
    place.write_text(good.replace('"drnas"', '"drother"'))
    assert ask(monkeypatch, capfd, "cscdarts search --preset dr") == ["plain,drother"]
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/no/such")
    assert ask(monkeypatch, capfd, "cscdarts search --preset dr") == first


def test_what_is_remembered_is_read_from_files_that_are_there() -> None:
    found = {Path(path).name for path, _ in remembered._files()}
    assert {"cli.py", "ablate.py", "methods.py", "known.py", "gpu.yaml", "profile.py", "notify.py"} <= found


def test_the_stand_in_has_every_parameter_of_every_command(here: Path) -> None:
    tree = stand_in(cli.cscdarts, known(cli.cscdarts)["commands"])
    for words, command in COMMANDS.items():
        found: click.Command = tree
        for word in words.split():
            assert isinstance(found, click.Group)
            found = found.commands[word]
        assert [one.opts for one in found.params] == [one.opts for one in command.params], words
        assert [one.metavar for one in found.params] == [one.metavar for one in command.params], words


#: Shell -> what it does where a person would press TAB behind a line.
_TABS = {
    "bash": """
source script
COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
compopt() {{ :; }}
_cscdarts_completion cscdarts
printf '%s\\n' "${{COMPREPLY[@]}}"
""",
    "zsh": """
compdef() {{ }}
compadd() {{ while [[ $1 != -a ]]; do shift; done; print -l -- ${{(P)2}}; }}
_describe() {{ print -l -- ${{(P)3}}; }}
source script
words=({words}); CURRENT=${{#words}}
_cscdarts_completion
""",
    "fish": """
source script
complete -C {line!r}
""",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shells_themselves(shell: str, here: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not on this machine")
    program = here / "cscdarts"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m ablations.cli "$@"\n')
    program.chmod(0o755)
    (here / "script").write_text(script(shell))
    variables = {
        "PATH": f"{here}:{os.environ['PATH']}",
        "HOME": str(here),
        "XDG_CACHE_HOME": str(here / ".cache"),
        "TERM": "xterm",
        "LANG": "C.UTF-8",
    }

    def press(line: str) -> list[str]:
        words = " ".join(f"'{word}'" for word in line.split(" "))
        text = _TABS[shell].format(line=line, words=words)
        done = subprocess.run(
            [shell, "-c", text], cwd=here, env=variables, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.stderr == ""
        return [one.split("\t")[0].split(":csc")[0] for one in done.stdout.splitlines()]

    assert "ablate" in [one.partition(":")[0] for one in press("cscdarts ab")]
    identity = [one.rpartition("=")[2] for one in press("cscdarts search --set supernet.identity=")]
    assert identity == ["cell", "edge", "none"]
    assert "supernet.identity_scale=" in press("cscdarts search --set supernet.identity_s")
    hashes = {path.name for path in (here / "runs" / "past").iterdir() if path.is_dir()}
    assert set(press("cscdarts ablate logs past ")) == hashes


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_says_how_to_install_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["completion", shell])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert f"# Completion of cscdarts for {shell}." in out
    assert f"cscdarts completion {shell}" in out
    assert out.startswith("#compdef cscdarts\n") == (shell == "zsh")
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=out, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_recorded_answer_is_of_small_files_only(here: Path) -> None:
    """A folder of a thousand runs is answered by their names; what describes them is read of some only."""
    from ablations.commands.completion import folders

    for number in range(folders._DESCRIBED + 5):
        folder = here / "runs" / "past" / f"{number:016x}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"supernet": {}}))
    context = click.Context(click.Command("logs"))
    context.params["source"] = "past"
    assert len(folders.hashes(context, "")) == folders._DESCRIBED + 7
