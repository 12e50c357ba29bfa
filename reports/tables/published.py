"""T1 (CIFAR-10 and CIFAR-100) and T2 (ImageNet): the paper's tables with our numbers beside the published ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.published.rows import (
    PUBLISHED_NAMES,
    PublishedRow,
    PublishedTable,
    find_published,
    find_published_cell,
    published_rows,
)
from cscdarts.settings.metrics import METRICS, Direction
from cscdarts.spaces import DARTS
from cscdarts.spaces.known import KNOWN_CELLS
from reports import statistics
from reports.read.comparison import signed
from reports.read.settings import Setting, Study, method_title
from reports.read.verdicts import TOLERANCES, departs, judge, why_not
from reports.tables.ablation import lacks, machine_cell
from reports.tables.table import (
    Block,
    Column,
    Notes,
    Provenance,
    ReportTable,
    Row,
    TableCell,
    metric_cell,
    number_cell,
    text_cell,
)

DAY_S = 86_400.0
DATA_NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet"}
_NOT_PUBLIC = "not public: the paper is closed and its abstract gives no such number"
_NOT_FOUND = "not found in a source that could be read"
_CELL_SENTENCE = "A published cell that was trained here stands beside the number printed for it. "


@dataclass(frozen=True)
class PublishedLayout:
    """What one mirrored table prints.

    Attributes:
        table: the published file.
        targets: (data set, heading) of its blocks.
        published: (key of the published number, key of its spread, label, unit, digits).
        ours: our metric for each published number, None where we have none or a convention differs.
    """

    table: PublishedTable
    targets: tuple[tuple[str, str], ...]
    published: tuple[tuple[str, str, str, str, int], ...]
    ours: tuple[str, ...]
    #: metric the difference and the verdict are about, with its published key and spread
    headline: tuple[str, str, str]


CIFAR = PublishedLayout(
    "cifar",
    (("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100")),
    (
        ("test_error_pct", "test_error_std", "test error", "%", 2),
        ("params_m", "", "params", "M", 1),
        ("search_cost_gpu_days", "", "search cost", "GPU-days", 0),
    ),
    ("test_error_pct", "params_m", "search_time_s"),
    ("test_error_pct", "test_error_pct", "test_error_std"),
)
IMAGENET = PublishedLayout(
    "imagenet",
    (("imagenet", "ImageNet"),),
    (
        ("top1_error_pct", "top1_std", "top-1 error", "%", 1),
        ("top5_error_pct", "top5_std", "top-5 error", "%", 1),
        ("params_m", "", "params", "M", 1),
        ("flops_m", "", "multiply-adds", "M", 0),
        ("search_cost_gpu_days", "", "search cost", "GPU-days", 0),
    ),
    ("test_error_pct", "test_top5_error_pct", "params_m", "macs_m", "search_time_s"),
    ("test_error_pct", "top1_error_pct", "top1_std"),
)


def cifar_table(studies: Sequence[Study]) -> ReportTable:
    """T1."""
    return _mirror("T1", "t1_cifar", "CIFAR-10 and CIFAR-100", CIFAR, studies)


def imagenet_table(studies: Sequence[Study]) -> ReportTable:
    """T2; errors, not accuracies."""
    return _mirror("T2", "t2_imagenet", "ImageNet", IMAGENET, studies)


def _mirror(number: str, name: str, title: str, mirror: PublishedLayout, studies: Sequence[Study]) -> ReportTable:
    notes = Notes()
    columns = (
        Column("method", "method", numeric=False),
        Column("searched_on", "searched on", numeric=False),
        Column("found_by", "found by", numeric=False),
        *(
            Column(f"paper_{key}", label, unit, spread=bool(spread), source="paper", better=_better(spread))
            for key, spread, label, unit, _ in mirror.published
        ),
        *(
            Column(
                f"ours_{'search_time_gpu_days' if m == 'search_time_s' else m}",
                _label(m),
                _unit(m),
                spread=True,
                source="ours",
                better=_better(METRICS[m].unit == "%"),
            )
            for m in mirror.ours
        ),
        Column("difference_pct", "difference", "points"),
        Column("n", "n"),
        Column("verdict", "verdict", numeric=False),
        Column("verdict_reason", "why", numeric=False, only=frozenset({"csv", "html"})),
        Column("source", "source", numeric=False, only=frozenset({"csv", "html", "md"})),
        Column("cross_check", "other sources", numeric=False, only=frozenset({"csv"})),
    )
    blocks = []
    for dataset, heading in mirror.targets:
        ours = _ours(studies, mirror, dataset)
        taken = {row for row, settings in ours.items() if any(why_not(one, dataset) is None for one in settings)}
        printed = [row for row in _published(mirror, dataset) if row.primary or row in taken]
        rows = tuple(_published_row(row, dataset, mirror, ours.get(row, []), notes) for row in printed)
        blocks.append(Block(f"{heading}: published", rows))
        cells = tuple(_cell_rows(dataset, mirror, studies, notes))
        if cells:
            blocks.append(Block(f"{heading}: published cell, our training", cells))
    retrained = _CELL_SENTENCE if len(blocks) > len(mirror.targets) else ""
    apart = _apart(mirror, studies, notes, len(columns))
    tolerances = " ".join(
        f"Tolerance on {heading}: {TOLERANCES[dataset].points:.2f} points, because {TOLERANCES[dataset].reason}."
        for dataset, heading in mirror.targets
    )
    return ReportTable(
        number,
        name,
        title,
        "Published numbers keep their source and stand in italics; ours stand upright, and only runs of the full "
        "protocol "
        f"on the same data stand in their row. Everything else of ours has a block of its own. {retrained}"
        f"{tolerances} Published search costs follow each paper's own convention, ours are for one search on the "
        "recorded hardware.",
        columns,
        (*blocks, *apart),
        notes.done(),
    )


def _label(metric: str) -> str:
    return {"search_time_s": "search cost", "params_m": "params", "test_top5_error_pct": "top-5 error"}.get(
        metric, METRICS[metric].label
    )


def _better(error: object) -> Direction:
    """Rows compete in errors; costs of several papers are counted in several ways."""
    return "lower" if error else "none"


def _unit(metric: str) -> str:
    return "GPU-days" if metric == "search_time_s" else METRICS[metric].unit


def _published(mirror: PublishedLayout, dataset: str) -> list[PublishedRow]:
    return [row for row in published_rows(mirror.table) if mirror.table != "cifar" or row.dataset == dataset]


def _ours(studies: Sequence[Study], mirror: PublishedLayout, dataset: str) -> dict[PublishedRow, list[Setting]]:
    """Published row -> our settings of that method on that data, searched on the row's data; of CSC-DARTS only the
    reference settings."""
    found: dict[PublishedRow, list[Setting]] = {}
    for study in studies:
        for setting in study.settings:
            if setting.dataset == dataset and setting.space == DARTS.name and not setting.given:
                for row in _rows_of(setting, mirror, study):
                    found.setdefault(row, []).append(setting)
    return found


def _rows_of(setting: Setting, mirror: PublishedLayout, study: Study) -> list[PublishedRow]:
    """The published rows that a searched setting may stand in."""
    dataset = setting.dataset if mirror.table == "cifar" else ""
    searched = setting.params.get("data.search_dataset", "same")
    rows = (
        find_published(mirror.table, name, dataset, setting.dataset if searched == "same" else searched)
        for name in setting.methods
        if name in PUBLISHED_NAMES[mirror.table] and (name != "csc" or setting is study.reference)
    )
    return [row for row in rows if row is not None]


def _cell_rows(dataset: str, mirror: PublishedLayout, studies: Sequence[Study], notes: Notes) -> list[Row]:
    """A row for each known cell that was retrained on a data set, beside the number that was printed for it."""
    rows = []
    for name, cell in KNOWN_CELLS.items():
        settings = [s for study in studies for s in study.settings if s.dataset == dataset and s.published_cell == name]
        if settings:
            row = find_published_cell(mirror.table, name, dataset if mirror.table == "cifar" else "")
            named = row or PublishedRow(mirror.table, "", dataset, {}, False, "", "", "", "", "")
            source = "; ".join(part for part in (f"cell: {cell.source}", cell.remark, named.source) if part)
            title = f"{name} ({row.method})" if row else name
            rows.append(_published_row(replace(named, method=title, source=source), dataset, mirror, settings, notes))
    return rows


def _published_row(
    row: PublishedRow, dataset: str, mirror: PublishedLayout, settings: list[Setting], notes: Notes
) -> Row:
    metric, key, spread_key = mirror.headline
    verdict = judge(row.numbers.get(key), row.numbers.get(spread_key), settings, metric, dataset)
    held = [setting for setting in settings if why_not(setting, dataset) is None and setting.values(metric).size]
    ours = held[0] if held else None
    marks = []
    if row.secondary:
        marks.append(notes.mark("from a later paper's table, not from the authors'"))
    if row.conflict:
        marks.append(notes.mark(f"sources disagree: {row.cross_check}"))
    cells = [
        text_cell(row.method, marks=",".join(marks)),
        text_cell(DATA_NAMES.get(row.searched_on, "")),
        text_cell(row.kind),
    ]
    for name, spread, _, _, digits in mirror.published:
        value = row.numbers.get(name)
        spreads = row.numbers.get(spread)
        if value is None:
            cells.append(
                TableCell(marks=notes.mark(_NOT_PUBLIC if row.method == "CSC-DARTS" else _NOT_FOUND), source="paper")
            )
            continue
        cells.append(number_cell(value, max(digits, _decimals(value), _decimals(spreads)), "paper", spreads))
    departures = ",".join(notes.mark(text) for text in departs(ours)) if ours else ""
    cells += _our_cells(ours, mirror, notes, departures)
    cells.append(_difference(ours, metric, row.numbers.get(key)))
    cells.append(_count(ours, metric))
    cells += [
        text_cell(verdict.word),
        text_cell(verdict.reason),
        text_cell("; ".join(part for part in (row.source, row.note) if part)),
        text_cell(row.cross_check),
    ]
    return Row(tuple(cells), "paper", key=row.method == "CSC-DARTS")


def _decimals(value: float | None) -> int:
    """Digits after the point that the source printed."""
    return 0 if value is None or value == int(value) else len(f"{value:.6f}".rstrip("0").partition(".")[2])


def _our_cells(setting: Setting | None, mirror: PublishedLayout, notes: Notes, marks: str = "") -> list[TableCell]:
    cells = []
    for metric in mirror.ours:
        if setting is None or (metric == "search_time_s" and setting.given):
            cells.append(TableCell(source="ours"))
        elif metric == "search_time_s":
            cells.append(_days(machine_cell(setting, metric, notes)))
        else:
            headline = metric == mirror.headline[0]
            marked = ",".join(part for part in (lacks(setting, notes), marks) if part) if headline else ""
            cells.append(metric_cell(setting, metric, marked))
    return cells


def _days(cell: TableCell) -> TableCell:
    """Seconds to days; below a hundredth of a day in scientific form, so that a short search is not printed as 0."""
    if not isinstance(cell.value, float):
        return cell
    days = cell.value / DAY_S
    text = f"{days:.3f}" if days >= 0.01 else f"{days:.1e}".replace("e-0", "e−").replace("e-", "e−")
    return TableCell(
        text,
        days,
        None if cell.spread is None else cell.spread / DAY_S,
        cell.n,
        cell.link,
        cell.marks,
        cell.hint,
        "ours",
    )


def _difference(setting: Setting | None, metric: str, published: float | None) -> TableCell:
    if setting is None or published is None:
        return TableCell()
    centre = statistics.mean(setting.values(metric))
    return TableCell() if centre is None else TableCell(signed(centre - published, 2), centre - published)


def _count(setting: Setting | None, metric: str) -> TableCell:
    size = 0 if setting is None else int(setting.values(metric).size)
    return TableCell(str(size), size)


def _apart(mirror: PublishedLayout, studies: Sequence[Study], notes: Notes, width: int) -> list[Block]:
    """Blocks of our numbers that must not stand in a published row, with the reason; one for each study."""
    blocks = []
    targets = {dataset for dataset, _ in mirror.targets}
    for study in studies:
        # A study on one of the table's data sets belongs here; the embedded data have no published table, and go to T1.
        elsewhere = not any(s.dataset in ("cifar10", "cifar100", "imagenet") for s in study.settings)
        rows = []
        for setting in sorted(study.settings, key=lambda setting: setting is not study.reference):
            here = setting.dataset in targets or (elsewhere and mirror.table == "cifar")
            # Of CSC-DARTS only the default setting stands here; a setting that is also DARTS stands for DARTS.
            if not here or (setting.methods == ("csc",) and setting is not study.reference):
                continue
            target = setting.dataset if setting.dataset in targets else next(iter(mirror.targets))[0]
            space = None if setting.space == DARTS.name else f"search space {setting.space or 'unknown'}"
            reason = "; ".join(part for part in (space, why_not(setting, target)) if part)
            above = setting.published_cell is not None if setting.given else bool(_rows_of(setting, mirror, study))
            if not reason and setting.dataset in targets and above:  # in a block above
                continue
            rows.append(_apart_row(setting, mirror, reason or _no_row(setting, mirror), notes))
        if rows:
            blocks.append(Block(f"Ours, not comparable with the rows above: {study.title}", tuple(rows)))
    return blocks


def _no_row(setting: Setting, mirror: PublishedLayout) -> str:
    """Why no published row takes a setting of the published protocol."""
    dataset = setting.dataset if mirror.table == "cifar" else ""
    rows = [find_published(mirror.table, name, dataset) for name in setting.methods]
    searched = dict.fromkeys(DATA_NAMES[row.searched_on] for row in rows if row and row.searched_on in DATA_NAMES)
    return f"the published row's search was on {' or '.join(searched)}" if searched else "no published row"


def _apart_row(setting: Setting, mirror: PublishedLayout, reason: str, notes: Notes) -> Row:
    source: Provenance = "ours"
    others = [method_title(method) for method in setting.methods if method != "csc"]
    name = " = ".join(others) or f"CSC-DARTS ({setting.describe()})"
    searched = setting.params.get("data.search_dataset", "same")
    cells = [
        text_cell(name, link=f"#{setting.anchor}"),
        text_cell(setting.data if searched == "same" else searched),
        text_cell(
            {"gradient": "gradient", "random": "random", "random-ws": "random", "given": "given"}.get(
                setting.params.get("search.strategy", ""), ""
            )
        ),
        *(TableCell(source="paper") for _ in mirror.published),
        *_our_cells(setting, mirror, notes),
        TableCell(),
        _count(setting, mirror.headline[0]),
        text_cell("not comparable"),
        text_cell(reason),
        text_cell("this report"),
        TableCell(),
    ]
    return Row(tuple(cells), source)
