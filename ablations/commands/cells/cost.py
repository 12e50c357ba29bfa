"""`cscdarts cost`: parameters, MACs and memory of a genotype's network or of a supernet, and what its steps ask of a
GPU."""

import json
from typing import Any

import click

from ablations.commands.options.pager import paged
from ablations.commands.options.values import Positive, Whole
from cscdarts.errors import UserError


@click.command()
@click.option("--genotype", help="A cell of any space (see below); without it: a supernet.")
@click.option("--known", is_flag=True, help="List the cells known by name, with their sources, and stop.")
@click.option("--space", default="darts", show_default=True, help="Supernet: darts, nasbench201, or one of your own.")
@click.option("--split-ratio", default="1/2", show_default=True, help="Supernet: share sent to the operations.")
@click.option("--identity", default="none", show_default=True, help="cell, edge or none.")
@click.option("--channels", type=Whole(2, 4096), help="Channels of the first cell [genotype: 36 or 16; supernet: 16].")
@click.option(
    "--cells", type=Whole(1, 200), help="Cells (nasbench201: in each stage) [genotype: 20 or 5; supernet: 8 or 5]."
)
@click.option("--classes", type=Whole(1, 1_000_000), default=10, show_default=True)
@click.option(
    "--image-size",
    type=Whole(1, 512),
    default=32,
    show_default=True,
    help="Pixels of a side; 96 and more: ImageNet stem.",
)
@click.option("--image-channels", type=Whole(1, 64), default=3, show_default=True)
@click.option("--batch", type=Whole(1, 65536), default=16, show_default=True, help="Batch whose memory is counted.")
@click.option(
    "--device",
    type=click.Choice(("cpu", "cuda")),
    default="cpu",
    show_default=True,
    help="cuda: count what the steps ask of a GPU, on shapes alone; no GPU is needed.",
)
@click.option(
    "--precision", type=click.Choice(("none", "bf16", "fp16")), help="With --device cuda. [what the settings say]"
)
@click.option(
    "--fit-macs", type=Positive(1e6), metavar="M", help="Genotype: the largest width within this many million MACs."
)
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change any other setting.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@paged
def cost(
    genotype: str | None,
    known: bool,
    space: str,
    split_ratio: str,
    identity: str,
    channels: int | None,
    cells: int | None,
    classes: int,
    image_size: int,
    image_channels: int,
    batch: int,
    device: str,
    precision: str | None,
    fit_macs: float | None,
    assignments: tuple[str, ...],
    as_json: bool,
) -> None:
    """Count what a network costs. MACs are multiply-accumulates of one image, in millions.

    With --device cuda each step of a search, or of a retraining, is taken on the meta device, where nothing is computed
    and all is counted: operators launched (`launches`, and `launches_share` of computing edge by edge), waits of the
    host, FLOPs (twice the multiply-accumulates of a step's convolutions and products), and memory in 10^6 bytes: what
    is kept for the backward pass (`saved_mb`), and the most that is allocated at once (`peak_mb`, with parameters,
    gradients, optimiser, saved maps and the largest workspace). `gpu_memory_gb` is what the process takes of a GPU,
    the CUDA context included; `step_s` an estimate of a step's seconds on some GPUs.

    A genotype is a known name, its text as repositories print it, FILE, FILE:NAME or FILE:LINE (a log, notebook, JSON
    or YAML; the last cell in it), a run folder, an index of NAS-Bench-201, or - for standard input. Cells of a space of
    your own are read in their own text form.
    """
    from ablations.run.given import given_genotype
    from cscdarts.settings.config import RunConfig
    from cscdarts.settings.overrides import parse_assignments, with_values
    from cscdarts.spaces import SPACES, size_step

    if known:
        _known(as_json)
        return
    if precision is not None and device != "cuda":
        raise UserError("--precision", precision, "together with --device cuda", "Add --device cuda.")
    step = size_step(image_size)
    if image_size % step:
        raise UserError("--image-size", image_size, f"a multiple of {step}", "Maps are halved.")
    values: dict[str, Any] = {"supernet.split_ratio": split_ratio, "supernet.identity": identity}
    if genotype is None:
        SPACES.require(space, "--space")
        usual = SPACES[space].search_size
        values |= {
            "supernet.space": space,
            "supernet.channels": channels or usual.channels,
            "supernet.cells": cells or usual.cells,
        }
        config = with_values(RunConfig(), values | parse_assignments(assignments))
        found = _supernet(config, classes, image_size, image_channels, batch, device, precision)
    else:
        cell = given_genotype(genotype)
        usual = SPACES[cell.space].evaluation_size
        values |= {
            "supernet.space": cell.space,
            "evaluation.channels": channels or usual.channels,
            "evaluation.cells": cells or usual.cells,
        }
        config = with_values(RunConfig(), values | parse_assignments(assignments))
        found = _network(cell, config, classes, image_size, image_channels, batch, fit_macs, device, precision)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for key, value in found.items():
        if key == "steps":
            _tell_steps(value)
        elif isinstance(value, dict):
            click.echo(f"{key}:")
            for name, part in value.items():
                click.echo(f"    {name:14s} {part:.3f}")
        else:
            click.echo(f"{key} = {value if isinstance(value, int | str) else round(value, 6)}")


def _tell_steps(steps: dict[str, dict[str, Any]]) -> None:
    """A step a column."""
    click.echo(f"{'':16s}" + "".join(f"{name:>18s}" for name in steps))
    for key in next(iter(steps.values())):
        values = [step[key] for step in steps.values()]
        if key == "step_s":
            for gpu in values[0]:
                click.echo(f"{'s on ' + gpu:16s}" + "".join(f"{value[gpu]:18.3f}" for value in values) + "  (estimate)")
        else:
            told = [f"{value:18,d}" if isinstance(value, int) else f"{value:18.3f}" for value in values]
            click.echo(f"{key:16s}" + "".join(told))


def _supernet(
    config: Any, classes: int, size: int, image_channels: int, batch: int, device: str, precision: str | None
) -> dict[str, Any]:
    import torch

    from cscdarts.models.cost import supernet_cost
    from cscdarts.models.supernet import Supernet
    from cscdarts.spaces import is_large
    from cscdarts.training.bilevel import only_gradients_of
    from cscdarts.training.memory import saved_bytes

    counted = supernet_cost(config.supernet, config.identity_in("search"), classes, image_channels, size, batch)
    static = {
        "params_m": counted.params / 1e6,
        "macs_m": counted.macs / 1e6,
        "memory_access_mb": counted.memory_access_bytes / 1e6,
    }
    by_operation = {op: size / 1e6 for op, size in counted.by_operation.items()}
    if device == "cuda":
        from cscdarts.forecast.report import search_report
        from cscdarts.forecast.steps import Images

        told = search_report(config, Images(classes, image_channels, size, batch), precision or config.search.amp)
        return {**static, **told, "memory_access_mb_by_operation": by_operation, "batch": batch}
    torch.manual_seed(0)
    model = Supernet(
        config.supernet, classes, image_channels, config.identity_in("search"), large_images=is_large(size)
    )  # fmt: skip
    if config.supernet.split_pick == "random":
        model.draw_channels(torch.Generator().manual_seed(0))
    images, labels = torch.randn(batch, image_channels, size, size), torch.zeros(batch, dtype=torch.long)
    with only_gradients_of(list(model.parameters()), model.weights()):
        saved = saved_bytes(model, lambda: torch.nn.functional.cross_entropy(model(images), labels), (images, labels))
    return {**static, "saved_mb": saved / 1e6, "memory_access_mb_by_operation": by_operation, "batch": batch}


def _network(
    cell: Any, config: Any, classes: int, size: int, image_channels: int, batch: int, fit_macs: float | None,
    device: str, precision: str | None,
) -> dict[str, Any]:  # fmt: skip
    from cscdarts.models.cost import fit_channels, network_cost

    evaluation, identity = config.evaluation, config.identity_in("eval")
    shape = (config.supernet, identity, classes, image_channels, size)
    if fit_macs is not None:
        width = fit_channels(cell, evaluation, *shape, limit_macs=fit_macs * 1e6)
        evaluation = evaluation.model_copy(update={"channels": width})
    counted = network_cost(cell, evaluation, *shape, batch=batch)
    told: dict[str, Any] = {}
    if device == "cuda":
        from cscdarts.forecast.report import retraining_report
        from cscdarts.forecast.steps import Images

        images = Images(classes, image_channels, size, batch)
        told = {**retraining_report(cell, evaluation, config, images, precision or evaluation.amp), "batch": batch}
    return {
        "params_m": counted.params / 1e6,
        "macs_m": counted.macs / 1e6,
        "memory_access_mb": counted.memory_access_bytes / 1e6,
        **told,
        "channels": evaluation.channels,
        "cells": evaluation.cells,
        "genotype": str(cell),
    }


def _known(as_json: bool) -> None:
    from cscdarts.spaces.known import KNOWN_CELLS

    if as_json:
        rows = {
            name: {
                "source": cell.source,
                "printed_params_m": cell.params_m,
                "remark": cell.remark,
                "genotype": str(cell.genotype),
            }
            for name, cell in KNOWN_CELLS.items()
        }
        click.echo(json.dumps(rows, indent=1))
        return
    click.echo("cell            M parameters as the source prints them (36 channels, 20 cells, 10 classes), source")
    for name, cell in KNOWN_CELLS.items():
        printed = "–" if cell.params_m is None else f"{cell.params_m:.2f}"
        click.echo(f"{name:15s} {printed:>5s}  {cell.source}{f' ({cell.remark})' if cell.remark else ''}")
