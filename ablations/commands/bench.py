"""`cscdarts bench`: the engine's speed and memory on this machine, against an edge-by-edge supernet."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations.commands.options.device import require_device
from ablations.commands.options.values import PathName, Whole
from cscdarts.errors import UserError

if TYPE_CHECKING:
    from cscdarts.models.activation_checkpointing import Level
    from cscdarts.models.mixed_ops import Kernels

_PARTS = ("steps", "growth", "hard-samples", "data", "search", "retraining", "look-ups", "forecast")
#: Measured only where it is asked for.
_ASKED = ("growth", "forecast")


@click.command()
@click.option(
    "--part", "parts", multiple=True, type=click.Choice(_PARTS), help="What to measure [all but growth and forecast]."
)
@click.option("--space", "spaces", multiple=True, type=click.Choice(("darts", "nasbench201")), help="[both]")
@click.option("--split-ratio", "ratios", multiple=True, metavar="R", help="[1 and, for darts, 1/4]")
@click.option("--step", "steps", multiple=True, type=click.Choice(("weight", "alpha-1st", "alpha-2nd")), help="[all]")
@click.option("--threads", multiple=True, type=Whole(1, 4096), help="[1]")
@click.option("--rounds", type=Whole(1, 10_000), default=6, show_default=True, help="Turns of which the median counts.")
@click.option("--batch", type=Whole(2, 65536), default=16, show_default=True)
@click.option("--channels", type=Whole(4, 1024), default=16, show_default=True)
@click.option("--cells", type=Whole(3, 64), help="[darts 8, nasbench201 5 a stage]")
@click.option("--image-size", type=Whole(8, 512), default=32, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--precision", type=click.Choice(("none", "bf16", "fp16")), default="none", show_default=True)
@click.option("--compile", "compiled", is_flag=True, help="Ours through torch.compile.")
@click.option(
    "--checkpointing", type=click.Choice(("none", "node", "cell")), default="none", show_default=True,
    help="Ours computing maps again in the backward pass.",
)  # fmt: skip
@click.option(
    "--kernels", type=click.Choice(("auto", "portable", "plain")), default="auto", show_default=True,
    help="How ours computes the mixed operations.",
)  # fmt: skip
@click.option("--json", "json_path", type=PathName(), help="Write everything measured here.")
@click.option("--figure", type=PathName(), help="Draw what `growth` measured here (PNG or PDF).")
def bench(
    parts: tuple[str, ...], spaces: tuple[str, ...], ratios: tuple[str, ...], steps: tuple[str, ...],
    threads: tuple[int, ...], rounds: int, batch: int, channels: int, cells: int | None, image_size: int, device: str,
    precision: str, compiled: bool, checkpointing: "Level", kernels: "Kernels", json_path: Path | None,
    figure: Path | None,
) -> None:  # fmt: skip
    """Measure steps of the search, data, retraining and look-ups; ratios above 1 say how often ours is faster.

    `forecast` measures nothing here: it holds what is forecast of GPUs against what others have measured on them.
    """
    from benchmarks.speed import steps as speed
    from benchmarks.speed.hard_samples import Size, hard_samples
    from cscdarts.records.environment import describe
    from cscdarts.spaces import SPACES

    if image_size % 4:
        raise UserError("--image-size", image_size, "a multiple of 4", "Maps are halved twice.")
    if device not in ("cpu", "cuda"):
        raise UserError("--device", device, "cpu or cuda", "Choose one of these.")
    require_device(device)
    if figure is not None and "growth" not in parts:
        raise UserError("--figure", str(figure), "together with --part growth", "Add --part growth.")
    wanted = parts or tuple(part for part in _PARTS if part not in _ASKED)
    found: dict[str, Any] = {"environment": describe(device, kernels=kernels)}
    found |= {"steps": [], "growth": [], "hard_samples": []}
    for count in threads or (1,):
        for space in spaces or ("darts", "nasbench201"):
            for ratio in ratios or [ratio for name, ratio in speed.BARS if name == space]:
                number = cells or SPACES[space].search_size.cells
                case = speed.Case(
                    space, ratio, channels, number, batch, image_size, count, device, precision, compiled,
                    checkpointing, kernels,
                )  # fmt: skip
                if "steps" in wanted:
                    found["steps"].append(speed.measure(case, rounds, steps or speed.STEPS))
                    _print_case(found["steps"][-1])
                if "hard-samples" in wanted and device == "cpu":
                    size = Size(space, channels, number, batch, image_size, ratio)
                    found["hard_samples"].append(hard_samples(size, rounds, count))
                    click.echo(_hard_line(found["hard_samples"][-1]))
                if "growth" in wanted:
                    for point in speed.growth(case, rounds):
                        found["growth"].append(point)
                        click.echo(_growth_line(point))
    for line in speed.against_plain_darts(found["steps"]):
        click.echo(line)
    count = (threads or (1,))[0]
    if "data" in wanted:
        found["data"] = speed.data_pipeline(batch, rounds, device, count)
        click.echo(
            f"data: {found['data']['images_per_s']:.0f} augmented images/s, "
            f"{found['data']['batch_s'] * 1e3:.2f} ms per batch"
        )
    if "search" in wanted:
        from benchmarks.speed.search import search_share

        found["search"] = search_share(count, device)
        click.echo(
            "search (NAS-Bench-201 space, digits at 32 pixels, 2 epochs): {share_pct:.1f} % of {wall_s:.1f} s in steps "
            "and validation, {share_of_steps_pct:.1f} % of the training loop in steps".format(**found["search"])
        )
    if "retraining" in wanted:
        found["retraining"] = speed.retraining(batch, rounds, count)
        click.echo(
            "retraining DARTS_V2 (C={channels}, {cells} cells, batch {batch}): {step_s:.3f} s per step".format(
                **found["retraining"]
            )
        )
    if "look-ups" in wanted:
        found["look_ups"] = speed.look_ups(rounds)
        click.echo(
            "embedded benchmark: opened in {open_s:.2f} s, {look_up_s:.1e} s per look-up".format(**found["look_ups"])
        )
    if "forecast" in wanted:
        from dataclasses import asdict

        from benchmarks.speed.forecast import cost_against_published, memory_against_published

        found["forecast"] = []
        for held in (*memory_against_published(), *cost_against_published()):
            found["forecast"].append({**asdict(held), "error_pct": held.error_pct})
            click.echo(
                f"{held.what}: {held.method} {held.forecast:.2f}, published {held.published:.2f} "
                f"({held.error_pct:+.1f} %)"
            )
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(found, indent=1))
    if figure is not None:
        speed.draw_growth(found["growth"], figure)


def _print_case(found: dict[str, Any]) -> None:
    from benchmarks.speed.steps import BARS, PEAK_BAR

    case, saved = found["case"], found["saved"]
    bars = BARS.get((case["space"], case["split_ratio"]), {})
    click.echo(
        f"{case['space']}, ratio {case['split_ratio']}, C={case['channels']}, {case['cells']} cells, "
        f"batch {case['batch']}, {case['threads']} threads, {case['device']}; "
        f"outputs differ by {found['difference']:.1e}"
    )
    click.echo(f"    {'':14s} {'plain':>9s} {'ours':>9s} {'ratio':>7s} {'bar':>7s}  processor")
    for step, t in found["steps"].items():
        bar = f"{bars[step]:.1f}x" if step in bars else ""
        click.echo(
            f"    {step:14s} {t['plain_s']:8.3f}s {t['ours_s']:8.3f}s {t['speedup']:6.2f}x {bar:>7s}  "
            f"{t['speedup_cpu']:.2f}x"
        )
    for which in ("weight", "alpha"):
        bar = f"{bars[f'saved {which}']:.2f}" if bars else ""
        click.echo(
            f"    {'saved ' + which:14s} {saved['plain_mb']:7.0f}MB {saved[which + '_mb']:7.0f}MB "
            f"{saved['saved ' + which]:7.3f} {bar:>7s}"
        )
    if "second_order_peak" in found:
        peak = found["second_order_peak"]
        click.echo(
            f"    {'peak, 2nd':14s} {peak['plain_mib']:6.0f}MiB {peak['ours_mib']:6.0f}MiB {peak['peak']:7.3f} "
            f"{PEAK_BAR:7.2f}"
        )


def _hard_line(found: dict[str, Any]) -> str:
    size = found["size"]
    return (
        f"{size['space']}, ratio {size['split_ratio']}, weight step: softmax {found['softmax_s']:.3f} s, gumbel-hard "
        f"{found['hard_s']:.3f} s ({found['speedup']:.2f}x); saved {found['softmax_mb']:.1f} MB, "
        f"{found['hard_mb']:.1f} MB ({found['saved_share']:.3f}, at most {found['saved_share_most']:.3f} "
        f"of {found['samples']} samples)"
    )


def _growth_line(point: dict[str, Any]) -> str:
    step, saved = point["steps"]["weight"], point["saved"]
    return (
        f"{point['case']['space']} {point['grown']}={point['value']}: plain {step['plain_s']:.3f} s, "
        f"ours {step['ours_s']:.3f} s ({step['speedup']:.2f}x), saved {saved['saved weight']:.3f}"
    )
