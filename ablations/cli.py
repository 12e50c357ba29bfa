"""The console command `cscdarts`: a table of commands that are imported when called, and one place where errors become
sentences."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any, NoReturn

import click

from ablations.commands.options.terminal import one_line, readable_output
from ablations.commands.options.usage import system_sentence, usage_sentence
from ablations.drive.exit_codes import DONE, INTERRUPTED, READER_GONE, REFUSED, UNFINISHED
from cscdarts import __version__
from cscdarts.errors import UserError
from cscdarts.extras import missing_extra, require
from slurm.errors import ClusterError
from slurm.jobs import cause_of_limit

#: Set by a shell that asks how a command line goes on; click names it so.
COMPLETION_VARIABLE = "_CSCDARTS_COMPLETE"
#: Command -> (where it lives, one line of help). Nothing here is imported to print the help.
COMMANDS: dict[str, tuple[str, str]] = {
    "ablate": (
        "ablations.commands.ablate:ablate",
        "Plan, run, watch and repair an ablation grid, here or on a cluster.",
    ),
    "sweep": ("ablations.commands.sweep:sweep", "Write and run a grid of combinations, without writing a file first."),
    "report": ("ablations.commands.report:report", "Write tables, figures and the HTML page of some grids."),
    "reproduce": (
        "ablations.commands.reproduce:reproduce",
        "Run what a table of the paper needs and print that table.",
    ),
    "check": ("ablations.commands.cells.check:check", "Hold a genotype or a run against NAS-Bench-201 or NATS-Bench."),
    "benchmark": ("ablations.commands.benchmark:benchmark", "Make, inspect and compare architecture benchmarks."),
    "cost": ("ablations.commands.cells.cost:cost", "Parameters, MACs and memory of a genotype or a supernet."),
    "draw": ("ablations.commands.cells.draw:draw", "Draw a genotype's cells as SVG, PDF or PNG."),
    "export": (
        "ablations.commands.cells.export:export",
        "A trained network, or a genotype's, as a file with a card.",
    ),
    "config": ("ablations.commands.config:config", "List the settings, their defaults and the evidence for each."),
    "search": ("ablations.commands.search:search", "One search and retraining, without a grid."),
    "retrain": ("ablations.commands.retrain:retrain", "Train a cell that you have, without a search."),
    "runs": ("ablations.commands.runs:runs", "Export runs to TensorBoard, W&B or CSV; take old run folders over."),
    "mlflow": ("ablations.commands.mlflow:mlflow", "Open the MLflow page on the recorded runs."),
    "doctor": (
        "ablations.commands.doctor:doctor",
        "Say what keeps runs from going here, and bundle it for a bug report.",
    ),
    "completion": (
        "ablations.commands.completion.command:completion",
        "Let bash, zsh or fish complete command lines.",
    ),
    "bench": ("ablations.commands.bench:bench", "Measure the engine's speed and memory on this machine."),
}
_REPORT = ("mlflow", "pandas", "seaborn", "matplotlib", "jinja2", "statsmodels")
#: Command -> modules of extras without which it is not begun; that of a subcommand counts before its group's. What an
#: option asks for beyond them is named where it is imported.
NEEDS: dict[str, tuple[str, ...]] = {
    "ablate": ("submitit", "mlflow"),
    "ablate list": (),
    "sweep": ("submitit", "mlflow"),
    "report": _REPORT,
    "reproduce": ("submitit", *_REPORT),
    "draw": ("matplotlib", "pandas"),
    "mlflow": ("mlflow",),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command that is called."""
        if cmd_name not in COMMANDS:
            return None
        return _imported(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@cache
def _imported(name: str) -> click.Command:
    """A command that looks for its modules when it is called; its help needs none."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    _with_needs(command, name, NEEDS.get(name, ()))
    return command


def _with_needs(command: click.Command, name: str, modules: tuple[str, ...]) -> None:
    if isinstance(command, click.Group):
        if command.invoke_without_command and command.callback is not None:
            command.callback = _looking_first(command.callback, name, modules, alone=True)
        for word, one in command.commands.items():
            own = f"{name} {word}"
            _with_needs(one, name if one.hidden else own, NEEDS.get(own, modules))
    elif command.callback is not None:
        command.callback = _looking_first(command.callback, name, modules)


def _looking_first(
    function: Callable[..., Any], who: str, modules: tuple[str, ...], alone: bool = False
) -> Callable[..., Any]:
    """The function of a command, or of a group that is called `alone`, without one of its commands."""

    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        if not alone or click.get_current_context().invoked_subcommand is None:
            require(who, *modules)
        return function(*arguments, **options)

    return call


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.option("--no-pager", is_flag=True, help="Print long output at once; so does CSCDARTS_PAGER= (empty).")
@click.version_option(__version__, prog_name="cscdarts")
@click.pass_context
def cscdarts(ctx: click.Context, debug: bool, no_pager: bool) -> None:
    """Reproduce and ablate CSC-DARTS: channel-split differentiable architecture search."""
    ctx.obj = {"debug": debug, "no_pager": no_pager}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with one of the codes of `ablations.drive.exit_codes`."""
    if COMPLETION_VARIABLE in os.environ:
        from ablations.commands.completion.shells import answer

        sys.exit(answer(cscdarts))
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    # These options are the whole command's, wherever they stand.
    own = [word for word in ("--debug", "--no-pager") if word in words]
    words = [*own, *(word for word in words if word not in own)]
    with readable_output():
        code = _run(words, debug)
    sys.exit(code)


def _run(words: list[str], debug: bool) -> int:
    try:
        result: Any = cscdarts.main(words, prog_name="cscdarts", standalone_mode=False)
    except click.exceptions.Abort:
        return _interrupted()
    except KeyboardInterrupt:
        return _interrupted()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        click.echo(f"cscdarts: {one_line(usage_sentence(error))}", err=True)
        return error.exit_code
    except (UserError, ClusterError) as error:
        if debug:
            raise
        click.echo(f"cscdarts: {one_line(str(error))}", err=True)
        return REFUSED
    except BrokenPipeError:
        # The reader (head, less) has gone; that is no error of ours.
        sys.stderr.close()
        return READER_GONE
    except OSError as error:
        if debug:
            raise
        limit = cause_of_limit(error)
        click.echo(f"cscdarts: {one_line(system_sentence(error) if limit is None else limit.sentence)}", err=True)
        return REFUSED
    except Exception as error:
        if debug:
            raise
        command = next((word for word in words if word in COMMANDS), "")
        lacking = missing_extra(error, command) if isinstance(error, ModuleNotFoundError) else None
        if lacking is not None:
            click.echo(f"cscdarts: {one_line(str(lacking))}", err=True)
            return REFUSED
        click.echo(
            f"cscdarts: unexpected {type(error).__name__}: {one_line(str(error))} (run with --debug for the traceback)",
            err=True,
        )
        return UNFINISHED
    return result if isinstance(result, int) and not isinstance(result, bool) else DONE


def _interrupted() -> int:
    click.echo("cscdarts: interrupted; what has finished is kept, the same command goes on", err=True)
    return INTERRUPTED


if __name__ == "__main__":
    main()
