"""`cscdarts sweep`: a grid from the command line: its file is written, then run as any other."""

import tempfile
from pathlib import Path

import click

from ablations.commands.grid.choice import Choice, choice_options, require_inputs
from ablations.commands.grid.planning import tell_whole_plan
from ablations.commands.grid.running import Where, backend_options, begin, notify_option
from ablations.commands.options.pager import paging
from ablations.commands.options.values import Line
from ablations.drive.driver import Driver
from ablations.drive.tell.notify import Recipient
from ablations.grid.file import grid_names
from ablations.grid.sweep import read_sweep, require_distinct
from ablations.grid.written import default_name, grid_text
from cscdarts.errors import CannotWrite, UserError
from cscdarts.records.grid_names import SUFFIX, is_file, require_grid_name
from cscdarts.records.run_folder import write_atomic
from cscdarts.settings.protocols import DEFAULT_SCALE

#: How many runs that two methods share are named.
_NAMED = 5


@click.command()
@click.option("--protocol", "protocols", multiple=True, default=("quickstart",), show_default=True, metavar="NAME,...",
              help="Data, sizes and schedules; several, if you like.")  # fmt: skip
@click.option("--preset", "presets", multiple=True, default=("csc",), show_default=True, metavar="NAME,...",
              help="The method; several, if you like.")  # fmt: skip
@click.option("--set", "swept", multiple=True, metavar="KEY=V1,V2,...",
              help="Values of a setting; each combination is a run. Of a text or a list: KEY='V1;V2'.")  # fmt: skip
@click.option("--seeds", type=Line(), default="1", show_default=True, metavar="N|A-B|A,B,...",
              help="How many, from 0 on; or from A to B; or these.")  # fmt: skip
@click.option("--name", type=Line(), help="The grid's, and its file's without .py [sweep_ and what is varied].")
@click.option("--plan", "only_plan", is_flag=True, help="Show what would be run, and write nothing.")
@choice_options(f"Size of the runs. [default: {DEFAULT_SCALE}]", overrides=False)
@backend_options
@notify_option
def sweep(
    protocols: tuple[str, ...], presets: tuple[str, ...], swept: tuple[str, ...], seeds: str, name: str | None,
    only_plan: bool, choice: Choice, where: Where, notify: Recipient | None,
) -> int | None:  # fmt: skip
    """Write a grid of all combinations of some settings, and run it as `ablate run` does.

    cscdarts sweep --preset csc --set supernet.split_ratio=1,1/2,1/4 --seeds 3

    The file NAME.py in this folder has ordinary loops and is yours to change; with it `cscdarts ablate status NAME.py`
    and all other commands work. A file of that name that says something else is never replaced.
    """
    asked = read_sweep(protocols, presets, swept, seeds)
    name = _name(name or default_name(asked))
    make, scale = where.factory(), choice.scale or DEFAULT_SCALE
    shared = require_distinct(asked, scale)
    text, path = grid_text(asked, name, scale), Path(f"{name}{SUFFIX}")
    _require_free(path, text)
    for line in (*shared[:_NAMED], *([f"and {len(shared) - _NAMED} more such pairs"] if shared[_NAMED:] else [])):
        click.echo(line, err=True)
    with tempfile.TemporaryDirectory() as folder:
        # What is wrong with it is found before anything stands in the user's folder.
        trial = Path(folder) / path.name
        trial.write_text(text, encoding="utf-8")
        driver = Driver(choice.grid(str(trial), recall=False), choice.runs)
        if only_plan:
            with paging():
                tell_whole_plan([driver], choice.runs, where, make, True, None, False)
            click.echo(f"{path} was not written; without --plan it is, and run", err=True)
            return None
        require_inputs(driver.grid, where.backend)
    if not path.exists():
        try:
            write_atomic(path, text)
        except OSError as error:
            raise CannotWrite("--name", path, error) from error
        click.echo(f"{path} is written: {asked.combinations} runs", err=True)
    return begin(Driver(choice.grid(str(path), recall=False), choice.runs), where, make, notify)


def _name(name: str) -> str:
    """The grid's name.

    Errors:
        UserError: no grid can have it, or one that comes with the distribution has it.
    """
    if is_file(name):
        raise UserError("--name", name, "a name without .py and without a folder", "The file is written here.")
    if name in grid_names():
        raise UserError("--name", name, "a name that no grid of the distribution has", "Choose another.")
    return require_grid_name(name)


def _require_free(path: Path, text: str) -> None:
    """Refuse a place where something else lies than this text.

    Errors:
        UserError: as said.
    """
    try:
        there = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError):
        there = ""
    if there != text:
        raise UserError(
            "--name", path.stem, "a name whose file is not there yet, or says the same", "",
            f"{path} is there and differs from what this sweep would write, so it stays; give another --name, or "
            f"change the file and run it with `cscdarts ablate run {path}`.",
        )  # fmt: skip
