"""Which values each option and argument is completed with: one table for all commands, by the name that they share."""

from collections.abc import Callable, Mapping

import click
from click.shell_completion import CompletionItem

from ablations.commands.completion import folders, names

Complete = Callable[[click.Context, str], list[CompletionItem]]

#: Option -> what completes it, in whichever command it stands.
OPTIONS: Mapping[str, Complete] = {
    "--protocol": names.protocols,
    "--preset": names.presets,
    "--scale": names.scales,
    "--space": names.spaces,
    "--set": names.assignments,
    "--on": names.backends,
    "--slurm": names.profile_keys,
    "--benchmark": folders.benchmarks,
    "--against": folders.benchmarks,
    "--genotype": folders.cells,
    "--grid": folders.grids,
    "--device": names.devices,
    "--identity": names.identities,
    "--split-ratio": names.ratios,
    "--notify": names.targets,
    "--formats": names.report_formats,
    "--format": names.export_formats,
    "--data-root": folders.directories,
    "--runs": folders.directories,
    "--nats": folders.files,
}
#: Metavar of an argument, without brackets and dots -> what completes it.
ARGUMENTS: Mapping[str, Complete] = {
    "GRID": folders.grids,
    "HASH": folders.hashes,
    "RUN": folders.run_folders,
    "GRID|RUN": folders.recorded,
    "CELL": folders.cells,
    "ARCH": folders.cells,
    "RUN|ARCH": folders.cells,
    "RUN|GENOTYPE": folders.cells,
    "GENOTYPE": folders.cells,
    "BENCHMARK": folders.benchmarks,
}


def completer(parameter: click.Parameter) -> Complete | None:
    """What completes a parameter; None where its own kind does."""
    if isinstance(parameter, click.Option):
        if isinstance(parameter.type, click.Choice) or parameter.is_flag:
            return None
        return next((OPTIONS[name] for name in parameter.opts if name in OPTIONS), None)
    metavar = (parameter.metavar or str(parameter.name).upper()).strip("[].")
    return ARGUMENTS.get(metavar)


def attach(command: click.Command) -> None:
    """Give the parameters of a command, and of all below it, what completes them."""
    for parameter in command.params:
        complete = completer(parameter)
        if complete is not None:
            # In place of the method of its class, which would ask the parameter's type.
            vars(parameter)["shell_complete"] = complete
    for one in command.commands.values() if isinstance(command, click.Group) else ():
        attach(one)
