"""The description of a run's row (`mlflow.note.content`, Markdown): what it is, what came out, and its cell drawn.

MLflow's page shows Markdown through a filter that drops images of `data:` addresses, inline SVG and Mermaid, and an
address of an artifact holds for one server alone. So the cell is drawn in characters, in a block of code, which every
version, every server and `mlflow.get_run` shows alike.
"""

import hashlib
from collections.abc import Iterator
from functools import lru_cache

from ablations.grid.load import Grid, Point
from ablations.mirror.records import Records, as_dict
from ablations.mirror.tags import notes
from ablations.run.state import RunState
from cscdarts.errors import UserError
from cscdarts.settings.metrics import METRICS, format_value
from cscdarts.spaces import OPERATIONS, SPACES, Genotype, KeptEdge, parse_genotype

#: The tag in which MLflow keeps a description.
NOTE = "mlflow.note.content"
_MARK = "\n\n<!-- cscdarts "
#: Longest tag that MLflow takes is 8,000 characters.
_LONGEST = 7900

#: File -> the numbers of a run that its description tells, in their order.
_RESULTS = {
    "result.json": ("test_error_pct", "test_top5_error_pct", "params_m", "macs_m", "retrain_time_s"),
    "search.json": ("supernet_valid_error_pct", "search_time_s", "peak_memory_mib"),
}


def description(grid: Grid, point: Point, records: Records, status: str, state: RunState) -> str:
    """The description of a run as its folder stands; its last line, which no page shows, tells whether it was
    edited."""
    parts = (_what(grid, point), _ending(status, state), _numbers(records), _verdict(records), _cell(records))
    text = "\n\n".join(part for part in parts if part)[:_LONGEST]
    return f"{text}{_MARK}{_fingerprint(text)} -->"


def is_edited(text: str) -> bool:
    """Whether a description in the store is somebody's own words; an empty one is nobody's."""
    ours, _, mark = text.rpartition(_MARK)
    return bool(text.strip()) and mark != f"{_fingerprint(ours)} -->"


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _what(grid: Grid, point: Point) -> str:
    config = point.config
    parts = [f"seed {config.seed}", f"identity {config.supernet.identity}"]
    if config.search.trains_supernet:
        parts += [f"split ratio {config.supernet.split_ratio}", f"order {config.search.order}"]
    return (
        f"**{_plain(', '.join(point.methods))}** in the space {config.supernet.space} on {config.data.dataset}: "
        f"{', '.join(parts)}.\n\nRun `{point.hash}` of the grid `{grid.name}`, scale {grid.scale}. "
        "Written from its run folder; an edited description is left as it is."
    )


def _ending(status: str, state: RunState) -> str:
    if status == "failed":
        why = " ".join((state.detail or state.damage).split())
        return f"**Failed:** {_plain(why[:1000])}"
    return "" if status == "done" else "Not finished: what follows is what there is so far."


def _numbers(records: Records) -> str:
    rows = []
    for name, wanted in _RESULTS.items():
        values = records.values(name)
        for key in wanted:
            if isinstance(values.get(key), int | float):
                unit = METRICS[key].unit
                told = f"{format_value(key, values[key])}{f' {unit}' if unit else ''}"
                rows.append(f"| {METRICS[key].label} | {told} |")
    table = "\n".join(["### Result", "", "| metric | value |", "|---|---|", *rows]) if rows else ""
    noted = notes(records)
    return "\n\n".join(part for part in (table, f"Noted: {_plain(noted)}" if noted else "") if part)


def _verdict(records: Records) -> str:
    """What the benchmark says of the cell, in a sentence."""
    check = records["check.json"]
    benchmark, limits = as_dict(check.get("benchmark")), _plain(str(check.get("limits") or ""))
    name = _plain(str(benchmark.get("name") or benchmark.get("kind") or "the benchmark"))
    for dataset, entry in as_dict(check.get("predicted")).items():
        accuracy = as_dict(entry).get("valid_acc")
        if isinstance(accuracy, int | float):
            told = f"{name} predicts {accuracy:.2f} % validation accuracy on {_plain(dataset)} for this cell."
            return f"### Check\n\n{told} {limits}".rstrip()
    primary = str(check.get("primary"))
    entry = as_dict(as_dict(check.get("datasets")).get(primary))
    place, accuracy, regret = entry.get("percentile"), entry.get("test_acc"), entry.get("regret")
    if not all(isinstance(value, int | float) for value in (place, accuracy, regret, benchmark.get("holds"))):
        return ""
    told = f"The benchmark *{name}* gives this cell {accuracy:.2f} % test accuracy on {_plain(primary)}"
    better = f"better than {place:.1f} % of the {benchmark['holds']:,} cells that it holds"
    return f"### Check\n\n{told}: {better}, {regret:.2f} points below the best. {limits}".rstrip()


def _cell(records: Records) -> str:
    record = records["genotype.json"]
    text = str(record.get("text") or "")
    drawn = drawing(text, str(record.get("space") or "")) if text else ""
    return f"### Cell\n\n```\n{drawn}\n\n{text}\n```" if drawn else f"### Cell\n\n```\n{text}\n```" if text else ""


@lru_cache(maxsize=256)
def drawing(text: str, space: str) -> str:
    """A genotype's cells in characters: nodes across, an arrow for each operation; "" where it cannot be read here.

    Operations that are no connection are left out, as figures do.
    """
    try:
        genotype = parse_genotype(text, space or None)
    except UserError:
        return ""
    kinds = SPACES[genotype.space].cell_kinds
    return "\n\n".join("\n".join(_lines(genotype, kind, len(kinds) > 1)) for kind in kinds)


def _lines(genotype: Genotype, kind: str, named: bool) -> Iterator[str]:
    edges = [edge for edge in genotype.edges(kind) if not _is_zero(edge.op)]
    names = _nodes(genotype, kind)
    width = max((len(edge.op) for edge in edges), default=8) + 6
    if named:
        yield kind
    yield "".join(f"({name})".ljust(width) for name in names).rstrip()
    for edge in edges:
        yield _arrow(edge, width)
    if not edges:
        yield "no operation at all"


def _arrow(edge: KeptEdge, width: int) -> str:
    """An operation from below its source to below its target."""
    length = (edge.target - edge.source) * width - 2
    return " " * (edge.source * width + 1) + f" {edge.op} ".center(length, "-") + ">"


def _nodes(genotype: Genotype, kind: str) -> list[str]:
    """Inputs by the cell that they come from, computed nodes by number, as figures name them."""
    space = SPACES[genotype.space]
    last = max(edge.target for edge in genotype.edges(kind))
    if space.inputs == 1:
        inner = [str(node) for node in range(1, last + 1)]
        return ["in", *inner[:-1], "out" if space.output == "last" else inner[-1]]
    inputs = [f"k-{space.inputs - node}" for node in range(space.inputs)]
    return [*inputs, *(str(node) for node in range(last - space.inputs + 1))]


def _is_zero(op: str) -> bool:
    return op in OPERATIONS and OPERATIONS[op].is_zero


def _plain(text: str) -> str:
    """A text of which Markdown and HTML make nothing."""
    for sign in "\\`*_{}[]<>#|":
        text = text.replace(sign, {"<": "&lt;", ">": "&gt;"}.get(sign, f"\\{sign}"))
    return text
