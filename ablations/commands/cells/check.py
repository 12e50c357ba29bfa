"""`cscdarts check`: hold an architecture or a run against a benchmark."""

import json
from typing import Any

import click

from ablations.commands.options.values import Whole, WholeOrAll
from benchmarks.sources import FORMS

#: What the argument may be.
TAKES = (
    "a run folder, a cell of the nasbench201 space such as "
    "'|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|', its index from 0 to 15,624, a file that holds one "
    "(FILE, FILE:NAME or FILE:LINE), or - for standard input"
)


@click.command()
@click.argument("what", metavar="RUN|ARCH")
@click.option(
    "--benchmark",
    default="embedded",
    show_default=True,
    metavar="NAME",
    help=f"{FORMS}.",
)
@click.option("--epochs", type=Whole(1, 100_000), help="The benchmark's training length (default: its longest).")
@click.option("--trial", type=Whole(0, 2**31 - 1), help="Seed of one trial (default: the mean over trials).")
@click.option(
    "--cells",
    type=WholeOrAll(0, 15_625),
    default="100",
    show_default=True,
    help="Of a run: how many cells to score in its supernet, `all` or 0.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(what: str, benchmark: str, epochs: int | None, trial: int | None, cells: int | str, as_json: bool) -> None:
    """Look RUN's derived cell, or the cell ARCH, up in a benchmark.

    ARCH is a cell of the nasbench201 space: its string or six operations as repositories print them, an official index,
    FILE, FILE:NAME or FILE:LINE (a log, notebook, JSON or YAML; the last cell in it), or - for standard input; no
    table holds a cell of another space. RUN is a run folder of the nasbench201 space. With nb301:FILE, a surrogate of
    NAS-Bench-301 in ONNX, both are of the DARTS space, and what is printed is predicted, not measured. Rank,
    percentile and regret are by test accuracy over all cells that the benchmark holds (by validation accuracy where it
    has no other, and this is said): rank 1 and percentile 100 are the best. Nothing is written.
    """
    from benchmarks.checks.run import check as look_up
    from cscdarts.errors import UserError

    def report(line: str) -> None:
        click.echo(line, err=True)

    try:
        found = look_up(
            what, benchmark, epochs=epochs, trial=trial, cells=None if cells == "all" else int(cells), report=report
        )
    except UserError as error:
        if error.field != "genotype":
            raise
        raise UserError("RUN|ARCH", what, TAKES, error.fix) from error
    click.echo(json.dumps(found, indent=1) if as_json else _text(found))


def _text(found: dict[str, Any]) -> str:
    """The look-up for people."""
    if "predicted" in found:
        return _predicted_text(found)
    source = found["benchmark"]
    lines = [
        f"cell       {found['arch']}",
        f"index      {found['index']}",
        f"benchmark  {source.get('name', source['source'])}, holds {source['holds']:,} of {source['of']:,} cells",
        "",
        f"{'data':16}{'epochs':>7}{'valid %':>9}{'test %':>9}{'rank':>8}{'percentile':>12}{'regret':>9}",
    ]
    lines += [
        f"{name:16}{entry['epochs']:>7}{_shown(entry['valid_acc']):>9}{_shown(entry['test_acc']):>9}"
        f"{entry['rank'] if entry['rank'] is not None else '–':>8}{_shown(entry['percentile']):>12}"
        f"{_shown(entry['regret']):>9}"
        for name, entry in found["datasets"].items()
    ]
    by_valid = [name for name, entry in found["datasets"].items() if entry["ranked_by"] == "valid"]
    if by_valid:
        lines.append(f"no test accuracy in this benchmark: ranked by validation accuracy ({', '.join(by_valid)})")
    if found.get("identity_as_edge") is not None:
        lines += ["", _with_identity(found["identity_as_edge"])]
    if found.get("kendall_tau") is not None:
        agreement = found["one_shot"]
        lines += [
            "",
            f"supernet against benchmark over {agreement['cells']} cells: Kendall tau {found['kendall_tau']:.3f}, "
            f"top-{agreement['k']} overlap {found['top_k_overlap_pct']:.0f} %",
        ]
    for name, baseline in found.get("baselines", {}).items():
        kind = "validation" if found["primary"] in by_valid else "test"
        matched = baseline["queries_to_match"]
        lines.append(
            f"{name.replace('_', ' ')} ({baseline['repeats']} repeats): "
            f"mean {kind} {baseline['test_acc_mean'][-1]:.2f} % after {baseline['queries'][-1]} queries; "
            f"reaches this cell after {'–' if matched is None else matched}"
        )
    return "\n".join([*lines, "", found["limits"]])


def _predicted_text(found: dict[str, Any]) -> str:
    """A surrogate's prediction for people."""
    source, entry = found["benchmark"], found["predicted"]["cifar10"]
    spread = "" if entry["sd"] is None else f" (standard deviation of {source['members']} models {entry['sd']:.2f})"
    lines = [
        f"cell       {found['arch']}",
        f"benchmark  {source['name']}",
        "",
        f"cifar10 validation accuracy {entry['valid_acc']:.2f} %{spread}: {found['words']}",
    ]
    if found.get("trajectory"):
        shown = [f"{point['epoch'] + 1}: {point['predicted_valid_acc']:.2f}" for point in found["trajectory"]]
        lines.append(f"by epoch, predicted: {', '.join(shown)}")
    return "\n".join([*lines, "", found["limits"]])


def _with_identity(found: dict[str, Any]) -> str:
    """The look-up of the cell with its identity connection; by validation where the benchmark has no test accuracy."""
    tested = any(entry["test_acc"] is not None for entry in found["datasets"].values())
    kind = "test" if tested else "validation"
    accuracy = "test_acc" if tested else "valid_acc"
    numbers = ", ".join(f"{name} {_shown(entry[accuracy])}" for name, entry in found["datasets"].items())
    means = "the same network" if found["exact"] else f"the nearest cell, which lacks its {found['instead_of']}"
    return f"with the identity as edge from input to output ({means}), cell {found['index']}: {kind} % {numbers}"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
