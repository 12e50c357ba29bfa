"""What a test does in place of a command that takes hours, a cluster, a GPU or a download: one table, a reason a line.

A command that no rule changes is run as it stands. One that no rule and no check knows fails.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import click

from ablations.cli import cscdarts
from ablations.grid.file import shipped
from docs.hooks.site import ROOT
from tests.site.pages import Command

Words = tuple[str, ...]
#: Pages whose commands another test follows to the letter.
FOLLOWED = {"extending.md": "tests/test_extending_docs.py"}


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes:
        name: of the rule; why: what stands against running the command.
        concerns: whether it is about a command's words, `cscdarts` left out.
        instead: what is run; None where the command is only read, and `tested_in` runs it or its like.
        tested_in: the test that does, and a text that must stand in it.
    """

    name: str
    why: str
    concerns: Callable[[Words], bool]
    instead: Callable[[Words], Words] | None = None
    tested_in: tuple[str, str] = ("", "")


def _option(words: Words, name: str) -> str:
    """The value of an option, or ""."""
    return next((after for word, after in pairwise(words) if word == name), "")


def _without(words: Words, *names: str) -> Words:
    """The words without some options and their values."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in names:
            skip = True
        else:
            kept.append(word)
    return tuple(kept)


def _begins(*wanted: str) -> Callable[[Words], bool]:
    return lambda words: words[: len(wanted)] == wanted


def _with(words: Words, name: str, value: str) -> Words:
    return (*_without(words, name), name, value)


def _large(words: Words) -> bool:
    """Whether a run of these words is beyond a minute: the paper's scale, a cluster, or a grid of the distribution."""
    elsewhere = _option(words, "--on").startswith("slurm:")
    return _option(words, "--scale") == "paper" or elsewhere or (words[2] in shipped() and words[2] != "quickstart")


RULES = (
    Rule(
        "a grid beyond a minute is planned",
        "hours, GPUs or a cluster; `tests/ablations/` and `tests/slurm/` run grids on both",
        lambda words: words[:2] == ("ablate", "run") and _large(words),
        lambda words: ("ablate", "plan", *words[2:], "--no-script"),
    ),
    Rule(
        "the device that is here",
        "a GPU that may not be",
        lambda words: "runtime.device=cuda" in words,
        lambda words: tuple("runtime.device=auto" if word == "runtime.device=cuda" else word for word in words),
    ),
    Rule(
        "a table is planned",
        "hours at the paper's scale, minutes at any other",
        lambda words: words[0] == "reproduce" and "--plan" not in words,
        lambda words: (*words, "--plan"),
    ),
    Rule(
        "no forecast of a GPU in a plan",
        "a quarter of a minute each; `cscdarts cost --device cuda` counts the same way and is run",
        lambda words: words[0] == "reproduce" or _option(words, "--on").startswith("slurm:"),
        lambda words: (*(word for word in words if word != "--forecast"), "--no-forecast"),
    ),
    Rule(
        "the quickstart with four runs",
        "48 runs take minutes: here it is the grid of the same name with two settings and two seeds",
        lambda words: words[0] == "ablate" and "quickstart" in words,
        lambda words: tuple(f"{word}.py" if word == "quickstart" else word for word in words),
    ),
    Rule(
        "the smallest scale",
        "minutes; the same way at another size",
        lambda words: words[:2] == ("ablate", "run") and not _option(words, "--scale"),
        lambda words: _with(words, "--scale", "smoke"),
    ),
    Rule(
        "a retraining of the smallest scale",
        "GPU-days, and data to be downloaded; `smoke` puts the digits in their place",
        lambda words: words[0] == "retrain" and _option(words, "--scale") == "paper",
        lambda words: _with(_without(words, "--data-root"), "--scale", "smoke"),
    ),
    Rule(
        "ten cells scored",
        "a hundred take seconds",
        lambda words: words[0] == "check" and "HASH" in words[1] and not _option(words, "--cells"),
        lambda words: _with(words, "--cells", "10"),
    ),
    Rule(
        "a small supernet counted",
        "half a minute at full size",
        lambda words: words[0] == "cost" and _option(words, "--device") == "cuda",
        lambda words: _with(_with(_with(words, "--batch", "4"), "--cells", "3"), "--channels", "8"),
    ),
    Rule(
        "an export of the reduced scale",
        "seconds more for a larger network",
        lambda words: words[0] == "export" and _option(words, "--scale") == "paper",
        lambda words: _with(words, "--scale", "smoke"),
    ),
    Rule("the doctor", "a dozen processes, and what is bad on this machine is bad",
         lambda words: words[0] == "doctor", tested_in=("tests/ablations/doctor/test_command.py", "doctor")),
    Rule("models of every run", "a quarter of a minute each", lambda words: words[:2] == ("mlflow", "log-models"),
         tested_in=("tests/ablations/mirror/test_models.py", "log-models")),
    Rule("exports of runs", "W&B is not among what tests need", lambda words: words[:2] == ("runs", "export"),
         tested_in=("tests/ablations/mirror/test_exports.py", "tensorboard")),
    Rule("a server", "it serves until it is interrupted", _begins("mlflow"),
         tested_in=("tests/ablations/mirror/test_mlflow_command.py", "--port")),
    Rule("jobs of a cluster", "there may be none", _begins("ablate", "cancel"),
         tested_in=("tests/slurm/test_real.py", '"cancel"')),
    Rule("the official files", "gigabytes to be had from their authors",
         lambda words: words[:2] == ("benchmark", "index") and "--nats" in words,
         tested_in=("tests/benchmarks/test_commands.py", "--nats")),
    Rule("the index of the package", "seconds for 15,625 cells",
         lambda words: words[:2] == ("benchmark", "index") and "--pip" in words,
         tested_in=("tests/benchmarks/test_pip_package.py", '"--pip"')),
    Rule("an index of a table", "the page's file is 2 MB and no part of the distribution",
         lambda words: words[:2] == ("benchmark", "index") and "--csv" in words,
         tested_in=("tests/benchmarks/test_commands.py", "--csv")),
    Rule("a surrogate", "the page's model is the reader's own", lambda words: any("nb301:" in word for word in words),
         tested_in=("tests/benchmarks/checks/test_nasbench301.py", "nb301:")),
    Rule("measurements", "minutes of a machine with nothing else to do", _begins("bench"),
         tested_in=("tests/benchmarks/speed/test_steps.py", "steps")),
    Rule("the benchmark made anew", "days", _begins("benchmark", "build"),
         tested_in=("tests/benchmarks/test_embedded.py", "build")),
    Rule("how a record was made", "hours; the page says how a record came about, with words for places",
         lambda words: (words[:2] == ("report", "record") and words[2] != "quickstart") or "RUN" in words,
         tested_in=("tests/reports/test_record.py", "record")),
    Rule("a word for any grid", "the page is about plans of any grid", lambda words: "GRID" in words,
         tested_in=("tests/ablations/grid/test_plan.py", "plan")),
)  # fmt: skip


def rewritten(command: Command) -> tuple[Words | None, list[Rule]]:
    """What is run in place of a command of ours, and by which rules; None where it is only read."""
    words, used = command.words[1:], []
    for rule in RULES:
        if rule.concerns(words):
            used.append(rule)
            if rule.instead is None:
                return None, used
            words = rule.instead(words)
    return words, used


def checked(words: Words, test: str, text: str) -> None:
    """A command that is only read is run, itself or its like, by a test that is there."""
    path = ROOT / test
    assert path.is_file(), f"{words}: {test} is not there"
    assert text in path.read_text(encoding="utf-8"), f"{words}: {test} does not speak of {text}"


def parse(words: tuple[str, ...]) -> click.Context:
    """Read a command line as the program does, without calling the command.

    Errors:
        UserError, click.UsageError: it is not taken.
    """
    context = cscdarts.make_context("cscdarts", list(words))
    command: click.Command = cscdarts
    while isinstance(command, click.Group):
        if command.invoke_without_command and not [*context._protected_args, *context.args]:
            break
        name, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert inner is not None, name
        context = inner.make_context(name, rest, parent=context)
        command = inner
    return context


def _make(words: Words) -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    wanted = {word for word in words[1:] if "=" not in word}
    assert wanted, "make what?"
    assert wanted <= targets, f"no such target: {wanted - targets}"
    named = {word.partition("=")[0] for word in words[1:] if "=" in word}
    assert all(re.search(rf"^{name} \?=", (ROOT / "Makefile").read_text(), re.MULTILINE) for name in named)


def _pip(words: Words) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert words[1] == "install"
    for word in words[2:]:
        found = re.fullmatch(r"-e|(?:\.|cscdarts|dist/cscdarts-VERSION-py3-none-any\.whl)(?:\[([\w,-]+)\])?", word)
        assert found, f"{word} is not this package"
        extras = set((found[1] or "").split(",")) - {""}
        assert extras <= project["optional-dependencies"].keys(), f"no such extra: {extras}"


def _python(words: Words) -> None:
    """An environment is made, as `make quickstart` makes it."""
    assert words[1:] == ("-m", "venv", ".venv")
    assert "-m venv $(VENV)" in (ROOT / "Makefile").read_text(encoding="utf-8")


def _activate(words: Words) -> None:
    assert words == (".", ".venv/bin/activate")


def _python_tool(words: Words) -> None:
    """A tool of the development environment: it is asked for in `pyproject.toml`, and files named are there."""
    dev = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"{words[0].rpartition("/")[2]}' in dev
    assert [word for word in words[1:] if "/" in word and not (ROOT / word).exists()] == []


def _module(words: Words) -> None:
    assert words[1] == "-m"
    assert words[2] == "pytest" or (ROOT / f"{words[2].replace('.', '/')}.py").is_file(), words


def _container(words: Words) -> None:
    """No image is here; the recipes that are named are, and what is run inside is a command of ours."""
    inside = next(
        (place for place, word in enumerate(words) if word in ("cscdarts.sif", "cscdarts") and place > 1), None
    )
    if words[1] == "build":
        assert [word for word in words if word.startswith("containers/") and not (ROOT / word).is_file()] == []
    else:
        assert inside is not None
        parse(words[inside + 1 :])


def _shell(words: Words) -> None:
    """Words of the shell itself, run where their page is followed."""


CHECKS: Mapping[str, Callable[[Words], None]] = {
    "make": _make,
    "apptainer": _container,
    "docker": _container,
    "pip": _pip,
    ".": _activate,
    "ls": _shell,
    "echo": _shell,
    "pytest": _python_tool,
    "python": _module,
    "python3": _python,
    ".venv/bin/pytest": _python_tool,
    ".venv/bin/pre-commit": _python_tool,
}
