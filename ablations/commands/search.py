"""`cscdarts search`: one search, derivation, check and retraining, without a grid."""

from pathlib import Path

import click

from ablations.commands.options.device import require_device
from ablations.commands.options.values import PathName, Whole
from benchmarks.sources import require_benchmark
from cscdarts.data.fingerprint import identified
from cscdarts.data.limits import require_data
from cscdarts.settings.protocols import DEFAULT_SCALE, SCALES


@click.command()
@click.option("--protocol", "recipe", default="quickstart", show_default=True, help="Data, sizes and schedules.")
@click.option("--scale", default=DEFAULT_SCALE, show_default=True, help=f"{', '.join(SCALES)}.")
@click.option("--preset", default="csc", show_default=True, help="The method; `cscdarts config --presets` lists them.")
@click.option("--seed", type=Whole(0, 2**31 - 1), default=0, show_default=True)
@click.option("--out", type=PathName(), help="Run folder [runs/search/HASH].")
@click.option("--data-root", type=PathName(), help="Where data sets lie or are downloaded to.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--only-search", is_flag=True, help="Stop after the derivation.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a setting.")
def search(
    recipe: str,
    scale: str,
    preset: str,
    seed: int,
    out: Path | None,
    data_root: Path | None,
    device: str,
    only_search: bool,
    assignments: tuple[str, ...],
) -> int:
    """Search, derive, check and retrain once; the same command goes on where it was stopped.

    Several processes: torchrun --nproc-per-node N -m cscdarts search ...
    """
    from ablations.run.alone import run_alone
    from ablations.run.stages import STAGES
    from cscdarts.settings.methods import apply_preset
    from cscdarts.settings.overrides import parse_assignments, with_values
    from cscdarts.settings.protocols import protocol

    values = {"seed": seed, "runtime.device": device, **parse_assignments(assignments)}
    if data_root is not None:
        values["runtime.data_root"] = str(data_root)
    config = with_values(apply_preset(protocol(recipe, scale), preset), values)
    require_device(config.runtime.device)
    require_data(config)
    require_benchmark(config.runtime.benchmark, config.supernet)
    code, folder = run_alone(identified(config), out, STAGES[:-1] if only_search else STAGES, "search")
    if code == 0:
        click.echo(f"run folder: {folder.path}")
    return code
