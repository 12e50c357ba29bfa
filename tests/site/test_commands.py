"""Every command of the site is one that the program takes, and the table of what a test does instead is no longer than
it must be."""

from collections import Counter

import click
import pytest

from cscdarts.errors import UserError
from tests.site.pages import Command, commands, navigation
from tests.site.substitutions import CHECKS, RULES, checked, parse, rewritten

ALL = [one for page in navigation() for one in commands(page)]


def test_the_site_has_commands() -> None:
    counts = Counter(one.page for one in ALL)
    assert min(counts[page] for page in navigation() if page.startswith(("start/", "howto/"))) >= 2
    assert len(ALL) > 80


@pytest.mark.parametrize("command", [one for one in ALL if one.words[0] == "cscdarts"], ids=str)
def test_the_program_takes_the_command(command: Command) -> None:
    if command.words[1:] == ("--version",):  # it ends while it is read
        with pytest.raises(click.exceptions.Exit):
            parse(command.words[1:])
    else:
        assert parse(command.words[1:]).info_name


@pytest.mark.parametrize("command", [one for one in ALL if one.words[0] != "cscdarts"], ids=str)
def test_what_else_is_called_is_there(command: Command) -> None:
    assert command.words[0] in CHECKS, f"nobody knows how to test `{command}`: add a check or a rule"
    CHECKS[command.words[0]](command.words)


def test_every_command_of_the_program_is_on_a_page_that_a_person_wrote() -> None:
    from docs.hooks.commands import UNNAMED, walk

    shown = {" ".join(one.words[1:]) for one in ALL if one.words[0] == "cscdarts"}
    every = {
        " ".join(UNNAMED.get(words, words)) for words, command, _ in walk() if not isinstance(command, click.Group)
    }
    missing = {name for name in every if not any(one == name or one.startswith(f"{name} ") for one in shown)}
    assert missing <= {"benchmark compare", "benchmark export", "benchmark verify"}


def test_no_rule_is_idle() -> None:
    """A rule of the table that no command needs is taken out, lest it hide one that is written later."""
    used = {rule.name for one in ALL if one.words[0] == "cscdarts" for rule in rewritten(one)[1]}
    assert used == {rule.name for rule in RULES}


def test_a_wrong_command_would_be_found() -> None:
    for line, error in (
        ("ablate rum quickstart", click.UsageError),
        ("ablate run quickstart --scael smoke", click.UsageError),
        ("ablate run quickstart --scale tiny", click.UsageError),
        ("ablate run", click.UsageError),
        ("ablate run quickstart --parallel 0", UserError),
    ):
        with pytest.raises(error):
            parse(tuple(line.split()))
    with pytest.raises(AssertionError):
        CHECKS["make"](("make", "nonsense"))
    with pytest.raises(AssertionError):
        CHECKS["pip"](("pip", "install", "cscdarts[nonsense]"))
    with pytest.raises(AssertionError):
        checked(("somewhere", "nonsense"), "tests/no_such_test.py", "--nothing")
