"""T5: what NAS-Bench-201 or NATS-Bench knows of the derived cells, beside the published table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.published.rows import PUBLISHED_NAMES, PublishedRow, published_rows
from cscdarts.errors import UserError
from cscdarts.records.run_folder import read_record
from cscdarts.settings.metrics import METRICS
from cscdarts.spaces import SPACES
from reports import statistics
from reports.read.comparison import signed
from reports.read.searches import one_of_each
from reports.read.settings import FACTORS, Setting, Study
from reports.read.store import Store
from reports.read.verdicts import TOLERANCES, departs, why_not
from reports.tables.table import DASH, Block, Column, Notes, ReportTable, Row, TableCell, number_cell, text_cell

#: (data set as checks name it, split as checks name it, published column, heading)
ACCURACIES = (
    ("cifar10", "valid_acc", "cifar10_val", "CIFAR-10 valid"),
    ("cifar10", "test_acc", "cifar10_test", "CIFAR-10 test"),
    ("cifar100", "valid_acc", "cifar100_val", "CIFAR-100 valid"),
    ("cifar100", "test_acc", "cifar100_test", "CIFAR-100 test"),
    ("imagenet16-120", "valid_acc", "imagenet16_120_val", "ImageNet16-120 valid"),
    ("imagenet16-120", "test_acc", "imagenet16_120_test", "ImageNet16-120 test"),
)
SPACE_SIZE = 15_625
_KINDS = {"embedded": "embedded benchmark", "nasbench201": "NAS-Bench-201", "nats": "NATS-Bench"}


@dataclass(frozen=True)
class Check:
    """What a benchmark says of one run's cell: `check.json`, with what is missing left missing."""

    content: Mapping[str, Any]

    @property
    def benchmark(self) -> str:
        """The benchmark's name, from the kind and source of its provenance."""
        found = self.content.get("benchmark")
        kind = str(found.get("kind", "")) if isinstance(found, dict) else ""
        source = str(found.get("source", "")) if isinstance(found, dict) else ""
        return _KINDS.get(kind, f"{kind or 'benchmark'} {source}".strip())

    @property
    def holds(self) -> int:
        """How many architectures it holds."""
        found = self.content.get("benchmark")
        held = found.get("holds") if isinstance(found, dict) else None
        return int(held) if isinstance(held, int | float) else 0

    @property
    def datasets(self) -> list[str]:
        """The data sets it has the cell on."""
        found = self.content.get("datasets")
        return sorted(found) if isinstance(found, dict) else []

    def number(self, dataset: str, key: str) -> float:
        """One number of a data set, NaN where missing."""
        found = self.content.get("datasets")
        entry = found.get(dataset) if isinstance(found, dict) else None
        value = entry.get(key) if isinstance(entry, dict) else None
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")

    def by_validation(self, dataset: str) -> bool:
        """Whether its cells are ranked by validation accuracy, because the benchmark has no test accuracy."""
        found = self.content.get("datasets")
        entry = found.get(dataset) if isinstance(found, dict) else None
        return isinstance(entry, dict) and entry.get("ranked_by") == "valid"

    def beaten(self) -> float:
        """Percent of random searches on the same table that the cell beats, NaN where missing."""
        baselines = self.content.get("baselines")
        entry = baselines.get("random_search") if isinstance(baselines, dict) else None
        value = entry.get("beaten_repeats_pct") if isinstance(entry, dict) else None
        return float(value) if isinstance(value, int | float) else float("nan")

    def one_shot(self) -> list[tuple[str, float, float]]:
        """(cell index, accuracy under shared weights, benchmark accuracy) of the cells scored in the supernet."""
        found = self.content.get("one_shot")
        if not isinstance(found, dict):
            return []
        columns = [found.get(key) for key in ("index", "supernet_valid_acc", "benchmark_valid_acc")]
        if not all(isinstance(column, list) for column in columns):
            return []
        return [
            (str(index), float(a), float(b))
            for index, a, b in zip(*columns, strict=False)
            if isinstance(a, int | float) and isinstance(b, int | float)
        ]

    @property
    def predicts(self) -> bool:
        """Whether it is a surrogate's prediction, of a cell that nobody trained."""
        return isinstance(self.content.get("predicted"), dict)

    def predicted(self, dataset: str) -> float:
        """The predicted validation accuracy of a data set, NaN where missing."""
        return Check({"datasets": self.content.get("predicted")}).number(dataset, "valid_acc")

    def overall(self, key: str) -> float:
        """One number of the whole check, NaN where missing."""
        value = self.content.get(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


class CheckBook:
    """Reads each finished run's `check.json` once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, list[Check]] = {}

    def of(self, setting: Setting) -> list[Check]:
        """The checks of a setting's cells, by seed, one for each search; none of a space whose cells no benchmark
        holds."""
        return [check for check in self._all(setting) if not check.predicts] if _is_held(setting) else []

    def predictions(self, setting: Setting) -> list[Check]:
        """A surrogate's predictions of a setting's cells, by seed, one for each search."""
        return [check for check in self._all(setting) if check.predicts]

    def _all(self, setting: Setting) -> list[Check]:
        if setting.anchor not in self._read:
            found = []
            for run in one_of_each(setting.done):
                folder = self._store.folder(str(run["run_id"]), str(run["artifact_uri"]))
                try:
                    content = read_record(folder.file("check.json")) if folder else None
                except UserError:
                    content = None
                if content is not None:
                    found.append(Check(content))
            self._read[setting.anchor] = found
        return self._read[setting.anchor]


def _is_held(setting: Setting) -> bool:
    """Whether NAS-Bench-201 holds the cells of a setting's space."""
    return setting.space in SPACES and SPACES[setting.space].benchmark == "nasbench201"


def benchmark_table(studies: Sequence[Study], book: CheckBook) -> ReportTable:
    """T5: published rows with ours beneath where search and benchmark are the published ones."""
    notes = Notes()
    columns = (
        Column("method", "method", numeric=False),
        Column("whose", "whose", numeric=False),
        *(Column(key, heading, "%", spread=True, better="higher") for _, _, key, heading in ACCURACIES),
        Column("n", "n"),
        Column("verdict", "verdict", numeric=False),
        Column("verdict_reason", "why", numeric=False, only=frozenset({"csv", "html"})),
        Column("source", "source", numeric=False, only=frozenset({"csv", "html", "md"})),
    )
    rows: list[Row] = []
    for row in published_rows("nasbench201"):
        if row.primary or any(why_not(one, "nasbench201") is None for one in _ours(row.method, studies)):
            rows += _published(row, studies, book, notes)
    tolerance = TOLERANCES["nasbench201"]
    return ReportTable(
        "T5",
        "t5_benchmark",
        "NAS-Bench-201 and NATS-Bench",
        "Accuracies (higher is better) of the derived cells as the benchmark's own trainings give them: mean over "
        "trials "
        "of the 200-epoch training; ours are means over search seeds. The benchmark's cells have neither a channel "
        "split "
        "nor an identity connection, so a looked-up score judges only the search side of CSC-DARTS. "
        f"Tolerance {tolerance.points:.2f} points plus the published spread, because {tolerance.reason}. Published "
        "rows "
        "are of the version quoted by NASWOT; other versions of the table differ in the weight-sharing rows.",
        columns,
        (Block("Published, with ours beneath", tuple(rows)), *_predicted_blocks(studies, book)),
        notes.done(),
    )


def _published(row: PublishedRow, studies: Sequence[Study], book: CheckBook, notes: Notes) -> list[Row]:
    settings = _ours(row.method, studies)
    checked = [
        (setting, [c for c in book.of(setting) if c.holds >= SPACE_SIZE and "cifar10" in c.datasets])
        for setting in settings
    ]
    held = [(setting, checks) for setting, checks in checked if checks and why_not(setting, "nasbench201") is None]
    word, reason = _verdict(row, settings, checked, held)
    blank = notes.mark("not public" if row.method == "CSC-DARTS" else "not found in a source that could be read")
    numbers = [
        number_cell(
            row.numbers.get(key),
            2,
            "paper",
            row.numbers.get(f"{key}_std"),
            "" if row.numbers.get(key) is not None else blank,
        )
        for _, _, key, _ in ACCURACIES
    ]
    runs = sum(len(checks) for _, checks in held[:1])
    published = Row(
        (
            text_cell(row.method),
            text_cell("paper"),
            *numbers,
            TableCell(str(runs), runs),
            text_cell(word),
            text_cell(reason),
            text_cell(f"{row.source}; {row.note}" if row.source else row.note),
        ),
        "paper",
        key=row.method == "CSC-DARTS",
    )
    if not held:
        return [published]
    setting, checks = held[0]
    ours, gaps = [], []
    for dataset, split, key, _ in ACCURACIES:
        values = statistics.finite([check.number(dataset, split) for check in checks])
        centre, spread = statistics.mean(values), statistics.sd(values)
        cell = number_cell(centre, 2, "ours", spread)
        ours.append(TableCell(cell.text, centre, spread, int(values.size), f"#{setting.anchor}", source="ours"))
        known = row.numbers.get(key)
        gaps.append(
            TableCell() if centre is None or known is None else TableCell(signed(centre - known, 2), centre - known)
        )
    count = TableCell(str(len(checks)), len(checks))
    empty = (TableCell(), TableCell(), TableCell())
    marks = ",".join(notes.mark(text) for text in departs(setting))
    return [
        published,
        Row(
            (text_cell(setting.names, link=f"#{setting.anchor}", marks=marks), text_cell("ours"), *ours, count, *empty),
            "ours",
        ),
        Row((text_cell(setting.names), text_cell("difference"), *gaps, count, *empty), "ours"),
    ]


def _predicted_blocks(studies: Sequence[Study], book: CheckBook) -> list[Block]:
    """What surrogates of NAS-Bench-301 predict of cells of the DARTS space, one block per study and surrogate."""
    found: dict[str, list[Row]] = {}
    for study in studies:
        for setting in study.settings:
            by_source: dict[str, list[Check]] = {}
            for check in book.predictions(setting):
                by_source.setdefault(check.benchmark, []).append(check)
            for name, checks in by_source.items():
                title = f"DARTS space, predicted, not measured: {study.title}, {name}"
                found.setdefault(title, []).append(_predicted_row(setting, checks))
    return [Block(title, tuple(rows)) for title, rows in found.items()]


def _predicted_row(setting: Setting, checks: Sequence[Check]) -> Row:
    numbers = []
    for dataset, split, _, _ in ACCURACIES:
        values = [check.predicted(dataset) for check in checks] if split == "valid_acc" else []
        known = statistics.finite(values)
        centre = statistics.mean(known)
        cell = number_cell(centre, 2, "ours", statistics.sd(known))
        numbers.append(TableCell(cell.text, centre, cell.spread, int(known.size), f"#{setting.anchor}", source="ours"))
    return Row(
        (
            text_cell(setting.names, link=f"#{setting.anchor}"),
            text_cell("surrogate"),
            *numbers,
            TableCell(str(len(checks)), len(checks)),
            text_cell("predicted, not measured"),
            text_cell("a surrogate's prediction for networks of 8 cells and 32 channels, 100 epochs"),
            text_cell(""),
        ),
        "ours",
    )


def _ours(method: str, studies: Sequence[Study]) -> list[Setting]:
    names = {short for short, published in PUBLISHED_NAMES["nasbench201"].items() if published == method}
    return [
        setting
        for study in studies
        for setting in study.settings
        if _is_held(setting) and names & set(setting.methods) and ("csc" not in names or setting is study.reference)
    ]


def _verdict(
    row: PublishedRow,
    settings: Sequence[Setting],
    checked: Sequence[tuple[Setting, list[Check]]],
    held: Sequence[tuple[Setting, list[Check]]],
) -> tuple[str, str]:
    if not settings:
        return "not run", "no run of ours"
    if not held:
        reasons = [why_not(setting, "nasbench201") for setting in settings]
        if all(reason is None for reason in reasons) or not any(checks for _, checks in checked):
            why = next((reason for reason in reasons if reason), "")
            return "not comparable", "; ".join(
                part for part in (why, "not checked against the whole benchmark") if part
            )
        return "not comparable", "; ".join(dict.fromkeys(reason for reason in reasons if reason))
    worst: tuple[float, str] | None = None
    for dataset, split, key, heading in ACCURACIES:
        known = row.numbers.get(key)
        ours = statistics.mean([check.number(dataset, split) for check in held[0][1]])
        if known is not None and ours is not None:
            allowed = TOLERANCES["nasbench201"].points + (row.numbers.get(f"{key}_std") or 0.0)
            over = abs(ours - known) / allowed
            if worst is None or over > worst[0]:
                worst = (over, f"largest gap {abs(ours - known):.2f} on {heading}, {allowed:.2f} allowed")
    if worst is None:
        return "not public", "nothing published to hold it against"
    return ("within tolerance" if worst[0] <= 1 else "outside"), worst[1]


def check_table(studies: Sequence[Study], book: CheckBook) -> ReportTable:
    """T5b: rank, percentile and regret of the derived cells in whatever benchmark the runs were checked against."""
    columns = (
        Column("method", "method", numeric=False),
        *(Column(name, name.rsplit(".", 1)[-1].replace("split_", ""), numeric=False) for name in FACTORS),
        Column("dataset", "benchmark data", numeric=False),
        Column("valid_acc_pct", "valid accuracy", "%", spread=True, source="ours"),
        Column("test_acc_pct", "test accuracy", "%", spread=True, source="ours"),
        Column("rank", "rank", spread=True, source="ours"),
        Column("percentile", "percentile", "%", spread=True, source="ours"),
        Column("regret_pct", "regret", "points", spread=True, source="ours"),
        Column("random_searches_beaten_pct", "random searches beaten", "%", spread=True, source="ours"),
        Column("kendall_tau", "Kendall τ", spread=True, source="ours"),
        Column("top_k_overlap_pct", "top-k overlap", "%", spread=True, source="ours"),
        Column("n", "n"),
    )
    blocks: dict[str, list[Row]] = {}
    for study in studies:
        for setting in study.settings:
            groups: dict[tuple[str, int, str], list[Check]] = {}
            for check in book.of(setting):
                for dataset in check.datasets:
                    groups.setdefault((check.benchmark, check.holds, dataset), []).append(check)
            for (name, holds, dataset), checks in sorted(groups.items()):
                title = f"{study.title} · {name}" + (f", holds {holds:,} cells" if holds else "")
                blocks.setdefault(title, []).append(_check_row(setting, dataset, checks))
    return ReportTable(
        "T5b",
        "t5b_checks",
        "Derived cells in the benchmark",
        "Where each setting's derived cells stand among all cells the benchmark holds, mean ± standard deviation over "
        "seeds, by test accuracy unless the data say otherwise. Regret: how far the best cell's lies above. Random "
        "searches beaten: share of 500 searches of 200 queries each on the same table that end lower. τ and top-k "
        "overlap: agreement of the supernet's ranking of a fixed sample of cells with the benchmark's.",
        columns,
        tuple(Block(title, tuple(rows)) for title, rows in blocks.items()),
    )


def _check_row(setting: Setting, dataset: str, checks: Sequence[Check]) -> Row:
    def cell(values: Sequence[float], digits: int) -> TableCell:
        known = statistics.finite(values)
        centre = statistics.mean(known)
        found = number_cell(centre, digits, "ours", statistics.sd(known))
        return TableCell(found.text, centre, found.spread, int(known.size), f"#{setting.anchor}", source="ours")

    cells = (
        text_cell(setting.names, link=f"#{setting.anchor}"),
        *(text_cell(setting.params.get(name, "") or DASH) for name in FACTORS),
        text_cell(f"{dataset}, by validation" if checks[0].by_validation(dataset) else dataset),
        cell([check.number(dataset, "valid_acc") for check in checks], 2),
        cell([check.number(dataset, "test_acc") for check in checks], 2),
        cell([check.number(dataset, "rank") for check in checks], 0),
        cell([check.number(dataset, "percentile") for check in checks], 2),
        cell([check.number(dataset, "regret") for check in checks], 2),
        cell([check.beaten() if dataset == check.content.get("primary") else float("nan") for check in checks], 0),
        cell([check.overall("kendall_tau") for check in checks], METRICS["kendall_tau"].digits),
        cell([check.overall("top_k_overlap_pct") for check in checks], METRICS["top_k_overlap_pct"].digits),
        TableCell(str(len(checks)), len(checks)),
    )
    return Row(cells, "ours")
