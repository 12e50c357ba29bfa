"""`cscdarts retrain`: train the network of a cell that the user has, without a search."""

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations.commands.options.device import require_device
from ablations.commands.options.values import PathName, Whole
from benchmarks.sources import require_benchmark
from cscdarts.data.fingerprint import identified
from cscdarts.data.limits import require_data
from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder, read_record
from cscdarts.settings.protocols import DEFAULT_SCALE, SCALES
from cscdarts.spaces import SUBSPACES

if TYPE_CHECKING:
    from cscdarts.settings.config import RunConfig
    from cscdarts.spaces import Genotype

#: The protocol that retrains cells of a space, where none is named; of other spaces quickstart's.
PROTOCOL_OF: Mapping[str, str] = {
    "darts": "cifar10",
    "nasbench201": "nasbench201",
    **dict.fromkeys((space.name for space in SUBSPACES), "cifar10"),
}


@click.command()
@click.option("--genotype", required=True, metavar="CELL", help="The cell (see below).")
@click.option("--protocol", "recipe", help="Data, sizes and schedules [cifar10 or nasbench201, by the cell's space].")
@click.option("--scale", default=DEFAULT_SCALE, show_default=True, help=f"{', '.join(SCALES)}.")
@click.option("--preset", help="Build the network of this method, csc with its identity connection [the plain one].")
@click.option("--seed", type=Whole(0, 2**31 - 1), default=0, show_default=True)
@click.option("--out", type=PathName(), help="Run folder [runs/retrain/HASH].")
@click.option("--data-root", type=PathName(), help="Where data sets lie or are downloaded to.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a setting.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: genotype, hash, folder, values, data.")
def retrain(
    genotype: str,
    recipe: str | None,
    scale: str,
    preset: str | None,
    seed: int,
    out: Path | None,
    data_root: Path | None,
    device: str,
    assignments: tuple[str, ...],
    as_json: bool,
) -> int:
    """Train the network of a cell from scratch and test it once; the same command goes on where it was stopped.

    CELL is a known name (cscdarts cost --known lists them), its text as repositories print it, FILE, FILE:NAME or
    FILE:LINE (a log, notebook, JSON or YAML; the last cell in it), a run folder (the cell it derived), an index of
    NAS-Bench-201, or - for standard input. Cells of any space are trained; one of your own needs CSCDARTS_PLUGINS.

    Several processes: torchrun --nproc-per-node N -m cscdarts retrain ...
    """
    from ablations.run.alone import run_alone
    from ablations.run.given import given_genotype
    from ablations.run.stages import STAGES

    cell = given_genotype(genotype)
    config = _config(cell, recipe, scale, preset, {"seed": seed, "runtime.device": device}, data_root, assignments)
    _say_identity(genotype, config)
    require_device(config.runtime.device)
    require_data(config)
    require_benchmark(config.runtime.benchmark, config.supernet)
    # The lines of a run's progress go where they do not stand in the way of the answer.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        config = identified(config)
        code, folder = run_alone(config, out, STAGES, "retrain")
    if code == 0 and int(os.environ.get("RANK", "0")) == 0:
        _print(folder, config, as_json)
    return code


def _config(
    cell: "Genotype",
    recipe: str | None,
    scale: str,
    preset: str | None,
    values: Mapping[str, Any],
    data_root: Path | None,
    assignments: Sequence[str],
) -> "RunConfig":
    from cscdarts.settings.methods import apply_cell
    from cscdarts.settings.overrides import parse_assignments, with_values
    from cscdarts.settings.protocols import protocol

    changes = parse_assignments(assignments)
    for key, fix in _SETTLED.items():
        if key in changes:
            raise UserError("--set", f"{key}={changes[key]}", "a setting of the retraining", fix)
    base = protocol(recipe or PROTOCOL_OF.get(cell.space, "quickstart"), scale)
    if base.supernet.space != cell.space:
        if recipe is not None:
            click.echo(
                f"cscdarts: protocol {recipe} is made for cells of the {base.supernet.space} space; its data, sizes "
                f"and schedule are taken for one of the {cell.space} space",
                err=True,
            )
        base = with_values(base, {"supernet.space": cell.space})
    given = apply_cell(base, str(cell), preset)
    root = {} if data_root is None else {"runtime.data_root": str(data_root)}
    return with_values(given, {**values, **changes, **root})


#: What --set may not change here, and why.
_SETTLED = {
    "search.genotype": "Give the cell with --genotype.",
    "search.strategy": "The cell is given; cscdarts search looks for one.",
    "supernet.space": "The space is the cell's.",
    "runtime.retrain": "Without a retraining there is nothing to do.",
}


def _say_identity(genotype: str, config: "RunConfig") -> None:
    """Tell of a run whose own network has an identity connection that this one has not, or the other way round."""
    from cscdarts.records.genotype_source import existing_path

    path = existing_path(genotype)
    if path is None or not (path / "config.json").is_file():
        return
    try:
        own, now = RunFolder(path).config().identity_in("eval"), config.identity_in("eval")
    except UserError:  # a config of another version says nothing of the cell
        return
    if own != now:
        click.echo(
            f"cscdarts: that run's own network has identity={own} in evaluation, this one {now}; "
            "--preset csc or --set supernet.identity=... builds it with one",
            err=True,
        )


def _print(folder: RunFolder, config: "RunConfig", as_json: bool) -> None:
    result = read_record(folder.file("result.json")) or {}
    if as_json:
        found = {
            "genotype": result.get("genotype"),
            "hash": config.hash,
            "folder": str(folder.path),
            "values": result["values"],
            "data": result.get("data"),
        }
        click.echo(json.dumps(found, indent=1))
        return
    values = result["values"]
    click.echo(f"test error   {values['test_error_pct']:.2f} %")
    if values.get("params_m") is not None:
        click.echo(f"parameters   {values['params_m']:.6f} M")
    click.echo(f"run folder   {folder.path}")
