"""A benchmark from a CSV file: `index`, `arch_str` and the columns of `benchmarks.tabular.table`. No torch.

Query times come from `cifar10_train_s_per_epoch` (seconds of an epoch on the 50,000 images), `cifar10_test_s_per_epoch`
(of one evaluation of the 10,000) and `times_measured` (1: the official times, 0: estimates, which are left out).
"""

import csv
import gzip
import itertools
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from benchmarks.tabular.files import checksum, plain_size
from benchmarks.tabular.space import SIZE, official_archs
from benchmarks.tabular.table import COLUMN, BenchmarkTable, Floats
from cscdarts.errors import BrokenFile, MissingFile, UserError

#: Data set's prefix -> factors on (`cifar10_train_s_per_epoch`, `cifar10_test_s_per_epoch`) that give an epoch of
#: training and one validation of its own: exact in the official records.
_QUERY_FACTORS = {"cifar10": (0.5, 2.5), "cifar100": (1.0, 0.5), "imagenet16": (3.034, 0.3)}
_TIMES = ("cifar10_train_s_per_epoch", "cifar10_test_s_per_epoch", "times_measured")

#: Bounds on what is unpacked, far beyond any table of the space: characters of a line, and of all; lines; columns.
LONGEST_LINE, MOST_TEXT, MOST_LINES, MOST_COLUMNS = 2**16, 2**27, 4 * SIZE, 1000


class _TooMuch(Exception):
    """A text exceeds its bounds."""


def read_csv(path: Path) -> BenchmarkTable:
    """Read a table of results, gzipped (`.gz`) or not.

    Row order is free; `index` and `arch_str` have to agree with the official numbering. Columns that are not declared
    there are left alone. Query times are taken only where the source measured them (`times_measured` is 1), never its
    estimates.

    Errors:
        UserError: missing, truncated, other columns, a value that is no accuracy, or another space.
    """
    allowed = "a CSV with index, arch_str and columns like cifar10_test_acc_200"
    try:
        plain_size(path)
        with _open_text(path) as file:
            reader = csv.DictReader(_bounded_lines(file))
            header = list(reader.fieldnames or [])
            names = list(dict.fromkeys(name for name in header if COLUMN.fullmatch(name)))
            if len(names) > MOST_COLUMNS:
                raise _TooMuch(f"it has {len(names):,} columns of results, more than {MOST_COLUMNS:,}")
            if not {"index", "arch_str"} <= set(header) or not any("_acc_" in name for name in names):
                raise UserError("--csv", str(path), allowed, "Its first line has other columns.")
            columns = {name: np.full(SIZE, np.nan) for name in [*names, *(name for name in _TIMES if name in header)]}
            for line, row in enumerate(reader, start=2):
                _read_row(row, columns, f"{path}, line {line}")
    except FileNotFoundError:
        raise MissingFile(str(path), f"Name {allowed} with --csv.") from None
    except _TooMuch as error:
        raise BrokenFile(path, str(error), allowed, "Name the table itself, unchanged.") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise BrokenFile(path, str(error), allowed, "It is broken or ends too early.") from None
    if not any(np.isfinite(values).any() for values in columns.values()):
        raise MissingFile(str(path), f"Name {allowed} with --csv.", "row")
    values = {name: column for name, column in columns.items() if name not in _TIMES}
    return BenchmarkTable(
        values | _query_times(columns),
        {"kind": "csv", "name": "NAS-Bench-201 results from a CSV", "source": path.name, **checksum(path)},
    )


def _read_row(row: Mapping[str | None, str | None], columns: Mapping[str, Floats], where: str) -> None:
    try:
        index = int(row["index"] or "")
        arch = row["arch_str"] or ""
    except (KeyError, ValueError):
        raise UserError("--csv", where, "a whole number as index", "Correct the line.") from None
    if not 0 <= index < SIZE or arch != official_archs()[index]:
        raise UserError(
            "--csv",
            f"{where}: {arch[:60]} at index {index}",
            "cells of the NAS-Bench-201 space under their official index",
            "This is another search space, another numbering or a broken file.",
        )
    for name, column in columns.items():
        text = row[name]
        if text is None:
            raise UserError("--csv", f"{where} has too few fields", "as many as the first line", "The file is cut off.")
        if text == "":
            continue
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not (np.isfinite(value) and value >= 0 and ("_acc_" not in name or value <= 100)):
            raise UserError(
                "--csv", f"{where}: {name} is {text[:20]}", "a number; accuracies from 0 to 100", "Correct it."
            )
        if np.isfinite(column[index]):
            raise UserError("--csv", f"{where}: index {index}", "each architecture once", "Remove one of the lines.")
        column[index] = value


def _query_times(columns: Mapping[str, Floats]) -> dict[str, Floats]:
    """Seconds of a query, epochs * training epoch + one validation, for every data set and length with accuracies."""
    if not set(_TIMES) <= set(columns):
        return {}
    train, test, measured = (columns[name] for name in _TIMES)
    train, test = (np.where(measured == 1, values, np.nan) for values in (train, test))
    times = {}
    for match in filter(None, map(COLUMN.fullmatch, columns)):
        if match["split"] == "valid" and match["data"] in _QUERY_FACTORS and not match["seed"]:
            per_epoch, validation = _QUERY_FACTORS[match["data"]]
            times[f"{match['data']}_query_s_{match['epochs']}"] = (
                int(match["epochs"]) * per_epoch * train + validation * test
            )
    return times


def _bounded_lines(file: IO[str]) -> Iterator[str]:
    """Lines of a text that may have been packed: none without an end, and no more than a table of the space has.

    Errors:
        _TooMuch: there are more.
    """
    left = MOST_TEXT
    for number in itertools.count(1):
        line = file.readline(LONGEST_LINE + 1)
        left -= len(line)
        if len(line) > LONGEST_LINE:
            raise _TooMuch(f"its line {number:,} has more than {LONGEST_LINE:,} characters")
        if left < 0 or number > MOST_LINES:
            raise _TooMuch(f"it has more than {MOST_LINES:,} lines or {MOST_TEXT:,} characters")
        if not line:
            return
        yield line


def _open_text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")
