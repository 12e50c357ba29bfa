"""Published numbers, as they stand in their sources: rows with source, cross-check, note and conflicts kept. No torch.

A blank cell in the files means "not found in a source" and loads as None, never as 0. Rows with `primary` are the ones
a mirrored table prints; the others are variants, best-of-runs or versions in conflict with a primary row.
"""

import csv
import functools
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from cscdarts.errors import UserError

PublishedTable = Literal["cifar", "imagenet", "nasbench201", "memory"]

#: The names under which our methods appear in published tables. A method without a published row is absent.
PUBLISHED_NAMES: dict[str, dict[str, str]] = {
    "cifar": {
        "csc": "CSC-DARTS",
        "darts1": "DARTS (1st order)",
        "darts2": "DARTS (2nd order)",
        "pcdarts": "PC-DARTS",
        "dartsminus": "DARTS-",
        "pdarts": "P-DARTS",
        "gdas": "GDAS",
        "snas": "SNAS (mild)",
        "drnas": "DrNAS",
        "sdarts-rs": "SDARTS-RS",
        "beta-darts": "beta-DARTS",
        "fairdarts": "FairDARTS",
        "darts-pt": "DARTS-PT",
    },
    "imagenet": {
        "csc": "CSC-DARTS",
        "darts1": "DARTS (1st order)",
        "darts2": "DARTS (2nd order)",
        "pcdarts": "PC-DARTS",
        "dartsminus": "DARTS-",
        "pdarts": "P-DARTS",
        "gdas": "GDAS",
        "snas": "SNAS (mild)",
        "drnas": "DrNAS",
        "beta-darts": "beta-DARTS",
        "darts-pt": "DARTS-PT",
    },
    "nasbench201": {
        "csc": "CSC-DARTS",
        "darts1": "DARTS-V1",
        "darts2": "DARTS-V2",
        "pcdarts": "PC-DARTS",
        "dartsminus": "DARTS-",
        "gdas": "GDAS",
        "snas": "SNAS",
        "drnas": "DrNAS",
        "beta-darts": "beta-DARTS",
        "random-ws": "RSPS",
        "random": "Random architecture",
    },
    "memory": {"csc": "CSC-DARTS", "darts1": "DARTS", "pcdarts": "PC-DARTS", "gdas": "GDAS"},
}

#: Known cell -> (published method, data that were searched): the rows that stand for trainings of this very cell, or,
#: where a source prints only the mean over several cells (DARTS-, DrNAS, SGAS on ImageNet has another), of its kind.
PUBLISHED_CELLS: dict[PublishedTable, dict[str, tuple[str, str]]] = {
    "cifar": {
        "DARTS_V1": ("DARTS (1st order)", "cifar10"),
        "DARTS_V2": ("DARTS (2nd order)", "cifar10"),
        "PC_DARTS_cifar": ("PC-DARTS", "cifar10"),
        "PDARTS": ("P-DARTS", "cifar10"),
        "SNAS": ("SNAS (mild)", "cifar10"),
        "GDAS": ("GDAS", "cifar10"),
        "DrNAS_cifar10": ("DrNAS", "cifar10"),
        "SGAS_Cri1": ("SGAS (Cri.1 best)", "cifar10"),
        "SGAS_Cri2": ("SGAS (Cri.2 best)", "cifar10"),
        "ENAS": ("ENAS", "cifar10"),
        "DARTS_minus": ("DARTS-", "cifar10"),
        "FairDARTS_a": ("FairDARTS-a", "cifar10"),
        "FairDARTS_d": ("FairDARTS-d", "cifar10"),
    },
    "imagenet": {
        "DARTS_V2": ("DARTS (2nd order)", "cifar10"),
        "PC_DARTS_cifar": ("PC-DARTS", "cifar10"),
        "PC_DARTS_image": ("PC-DARTS", "imagenet"),
        "PDARTS": ("P-DARTS", "cifar10"),
        "SNAS": ("SNAS (mild)", "cifar10"),
        "GDAS": ("GDAS", "cifar10"),
        "DrNAS_imagenet": ("DrNAS", "imagenet"),
    },
}

_TEXT = frozenset(
    {"method", "dataset", "searched_on", "search_method", "kind", "setting", "primary", "note", "source", "cross_check"}
)


@dataclass(frozen=True, eq=False)
class PublishedRow:
    """One row of a published table.

    Attributes:
        table: the file it stands in.
        method: the method's published name.
        dataset: `cifar10` or `cifar100` in `cifar`, else "".
        numbers: the numbers by column name, units in the names; None where no source gives one.
        primary: whether a mirrored table prints it.
        searched_on: the data set of the search, "" if not stated.
        kind: how the architecture was found (`gradient`, `RL`, `weight-sharing`, ...).
        note, source, cross_check: caveat, where the numbers stand, what other sources print.
    """

    table: PublishedTable
    method: str
    dataset: str
    numbers: dict[str, float | None]
    primary: bool
    searched_on: str
    kind: str
    note: str
    source: str
    cross_check: str

    @property
    def conflict(self) -> bool:
        """Whether the note marks a conflict between sources."""
        return "CONFLICT" in self.note

    @property
    def secondary(self) -> bool:
        """Whether the numbers come from a later paper's table, not from the authors'."""
        return "secondary source" in self.note


@functools.cache
def published_rows(table: PublishedTable) -> tuple[PublishedRow, ...]:
    """All rows of a published table in file order.

    Errors:
        UserError: a row of the packaged file is broken (the wrong number of cells, or text in place of a number).
    """
    path = resources.files("benchmarks") / "published" / f"{table}.csv"
    with path.open(encoding="utf-8") as file:
        return tuple(_row(table, number, raw) for number, raw in enumerate(csv.DictReader(file), start=2))


def primary_rows(table: PublishedTable, dataset: str = "") -> list[PublishedRow]:
    """The rows that a mirrored table prints, for one data set where the file holds several."""
    return [row for row in published_rows(table) if row.primary and (not dataset or row.dataset == dataset)]


def find_published(table: PublishedTable, method: str, dataset: str = "", searched_on: str = "") -> PublishedRow | None:
    """The primary row (else the first) for one of our methods, or None where nothing is published.

    Args:
        method: our short name (`csc`, `darts2`, ...) or a published name.
        dataset: the data of the retraining; any unless given.
        searched_on: the data of the search: then only a row of it, or else one that leaves it open.
    """
    name = PUBLISHED_NAMES[table].get(method, method)
    rows = [row for row in published_rows(table) if row.method == name and (not dataset or row.dataset == dataset)]
    if searched_on:
        rows = [row for row in rows if row.searched_on in ("", searched_on)]
        rows.sort(key=lambda row: row.searched_on != searched_on)
        rows = [row for row in rows if row.searched_on == rows[0].searched_on]
    return next((row for row in rows if row.primary), rows[0] if rows else None)


def find_published_cell(table: PublishedTable, cell: str, dataset: str = "") -> PublishedRow | None:
    """The row that was printed for a known cell trained on a data set (the primary one of several), or None.

    Args:
        cell: its name in `cscdarts.spaces.known`.
    """
    wanted = PUBLISHED_CELLS.get(table, {}).get(cell)
    rows = [row for row in published_rows(table) if (row.method, row.searched_on) == wanted]
    rows = [row for row in rows if not dataset or row.dataset == dataset]
    return next((row for row in rows if row.primary), rows[0] if rows else None)


def _row(table: PublishedTable, number: int, raw: dict[str, str]) -> PublishedRow:
    where = f"benchmarks/published/{table}.csv line {number}"
    if None in raw or None in raw.values():
        raise UserError(where, raw, "as many cells as the header", "Reinstall the package.")
    return PublishedRow(
        table=table,
        method=raw["method"],
        dataset=raw.get("dataset", ""),
        numbers={key: _number(where, key, text) for key, text in raw.items() if key not in _TEXT},
        primary=raw["primary"] == "yes",
        searched_on=raw.get("searched_on", ""),
        kind=raw.get("search_method", raw.get("kind", "")),
        note=raw["note"],
        source=raw["source"],
        cross_check=raw.get("cross_check", ""),
    )


def _number(where: str, key: str, text: str) -> float | None:
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"{where}, {key}", text, "a number or nothing", "Reinstall the package.") from error
