"""Every option of every command, found by walking the command tree, against values that mean nothing: refused in one
sentence with nothing written, or read; on any terminal."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

import benchmarks.checks.run  # noqa: F401 - what it imports must not be what the tests put there
from ablations import cli
from ablations.commands.options.terminal import one_line, wants_ascii
from ablations.commands.options.values import PathName, Positive, Whole
from tests.support.generated import LONG, THOROUGH, Started, Tally, generated, outcome, tallied, texts

tally = tallied("options")
#: What begins the work of a command: there its input has been found good.
STARTS = (
    "ablations.run.alone.run_alone", "ablations.commands.grid.running.run_grid", "ablations.drive.loop.run_grid",
    "ablations.commands.mlflow._serve", "cscdarts.export.writing.write_export", "benchmarks.embedded.trainer.train_all",
    "benchmarks.embedded.build.assemble", "benchmarks.embedded.nats_form.export", "benchmarks.speed.steps.measure",
    "benchmarks.speed.steps.growth", "benchmarks.speed.steps.data_pipeline", "benchmarks.speed.search.search_share",
    "benchmarks.speed.steps.retraining", "benchmarks.speed.steps.look_ups", "reports.build.build_report",
    "ablations.commands.cells.cost._supernet", "ablations.commands.cells.cost._network",
    "benchmarks.sources.open_table", "benchmarks.checks.run.open_table", "benchmarks.official.table.compare",
    "ablations.doctor.asking.Asking.ask_all",
)  # fmt: skip
#: What a command needs to get as far as its other options; a grid that is cheap to read.
GRID = "small.py"
NEEDED: dict[str, list[str]] = {
    "check": ["11"], "draw": ["PDARTS", "--out", "cell.svg"], "export": ["PDARTS", "--out", "net.safetensors"],
    "retrain": ["--genotype", "PDARTS"], "reproduce": ["cifar10"], "ablate logs": [GRID, "0"],
    "report record": [GRID, "--out", "r.json"], "report diff": ["a", "b"], "report build": [GRID],
    "benchmark verify": ["no.parquet", "--against", "nats:no"], "benchmark compare": ["embedded", "embedded"],
    "benchmark export": ["--out", "out"], "benchmark index": ["--csv", "no.csv"],
}  # fmt: skip
TEXT = """
from cscdarts import apply_preset, protocol


def grid(scale):
    yield apply_preset(protocol("quickstart", "smoke"), "csc")
"""


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command that has a body, by its words."""
    if isinstance(command, click.Group) and command.invoke_without_command:
        yield " ".join(path), command
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from leaves(inner, (*path, name))
    else:
        yield " ".join(path), command


COMMANDS = dict(leaves(cli.cscdarts))
OPTIONS = [
    (name, option)
    for name, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option) and option.opts[0] not in ("--help", "--debug", "--version")
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a grid, in which no command does more than find its input good."""

    def start(*_: Any, **__: Any) -> None:
        raise Started

    for name in STARTS:
        monkeypatch.setattr(name, start)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / GRID).write_text(TEXT)
    return tmp_path


def words_of(name: str, option: click.Option, value: str) -> list[str]:
    needed = NEEDED.get(name, [GRID] if name.startswith("ablate") and name != "ablate list" else [])
    if option.opts[0] in needed:
        at = needed.index(option.opts[0])
        needed = [*needed[:at], *needed[at + 2 :]]
    sizes = (
        ["--scale", "smoke"]
        if any("--scale" in p.opts for p in COMMANDS[name].params) and name != "report build"
        else []
    )
    return [*name.split(), *needed, *(sizes if option.opts[0] != "--scale" else []), f"{option.opts[0]}={value}"]


def values_of(option: click.Option) -> list[str]:
    kind = option.type
    if isinstance(kind, Whole):
        return ["²", "٣", "", "nan", "1e5", "9" * 5000, str(kind.low - 1), str(kind.high + 1), str(kind.low)]
    if isinstance(kind, Positive):
        return ["nan", "inf", "0", "-1", "1e999999999", "1e-999999999", "٣", LONG, str(kind.high * 2)]
    if isinstance(kind, PathName):
        return ["", "a\x1bb", LONG, "x" * 300, "/proc/no/such"]
    return ["", "nan", "²", "\x1b[31m", LONG, "a=b", "\udcff", "[1", "runtime.device=tpu", "supernet.split_ratio=1/0"]


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=[f"{name} {option.opts[0]}" for name, option in OPTIONS])
def test_each_option(name: str, option: click.Option, place: Path, tally: Tally) -> None:
    values = values_of(option) if not option.is_flag else ["x"]
    number = OPTIONS.index((name, option))
    # Three of them each, others for each option, unless all are asked for.
    chosen = values if THOROUGH else {values[(number + 3 * k) % len(values)]: None for k in range(2)}
    for value in chosen:
        found = outcome(words_of(name, option, value), place)
        tally.note(found.kind)
        if isinstance(option.type, Whole | Positive) and value != str(getattr(option.type, "low", "")):
            assert found.kind == "refused", (name, option.opts, value[:50], found)
            assert option.opts[0] in found.err
        if option.is_flag:
            assert found.kind == "refused", (name, option.opts)


def test_every_number_has_bounds() -> None:
    for name, option in OPTIONS:
        assert not isinstance(option.type, click.types.IntParamType | click.types.FloatParamType) or isinstance(
            option.type, Whole | Positive
        ), (name, option.opts)
        assert not isinstance(option.type, click.Path) or isinstance(option.type, PathName), (name, option.opts)


@generated(20)
@given(name=st.sampled_from(sorted(COMMANDS)), words=st.lists(texts(), max_size=3))
def test_any_words(name: str, words: list[str], place: Path, tally: Tally) -> None:
    if name != "ablate list":
        tally.note(outcome([*name.split(), *words], place).kind)


@generated(20)
@given(data=st.data(), chosen=st.sampled_from(range(len(OPTIONS))))
def test_any_value_of_any_option(data: st.DataObject, chosen: int, place: Path, tally: Tally) -> None:
    name, option = OPTIONS[chosen]
    tally.note(outcome(words_of(name, option, data.draw(texts())), place).kind)


@pytest.mark.parametrize(
    "words",
    [["cost", "--known"], ["draw", "PDARTS", "--out", "cell.svg"], ["config", "--explain"], ["config", "--presets"],
     ["ablate", "plan", GRID], ["ablate", "status", GRID], ["check", "11", "--benchmark", "é"],
     ["config", "--set", "labels.note=é–\udcff"], ["ablate", "logs", GRID, "–"], ["check", "é\x1b[2J"]],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.parametrize("variable", ["TERM=dumb", "LC_ALL=C", "LANG=POSIX", ""])
def test_an_ascii_terminal_gets_ascii(
    words: list[str], variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(*variable.split("="))
    (tmp_path / GRID).write_text(TEXT)
    found = outcome(words, tmp_path, "utf-8" if variable else "ascii")
    assert (found.out + found.err).isascii()
    assert "\x1b" not in found.out + found.err


def test_helps_are_ascii_and_name_their_command() -> None:
    for name, command in COMMANDS.items():
        with click.Context(command, info_name=name) as context:
            assert command.get_help(context).isascii(), name


def test_the_locale_that_counts_is_the_first_that_is_set() -> None:
    assert wants_ascii({"LC_ALL": "C"})
    assert wants_ascii({"LANG": "POSIX"})
    assert not wants_ascii({"LC_ALL": "C.UTF-8", "LANG": "C"})
    assert not wants_ascii({})


def test_a_sentence_steers_no_terminal() -> None:
    assert one_line("a\nb \x1b[2J") == r"a b \x1b[2J"
    assert len(one_line("x" * 10**6)) < 5_000
