"""The benchmarks by the name they have on the command line: `embedded`, `pip`, `index:FILE`, `csv:FILE`, `nats:DIR`,
`nasbench201:FILE`."""

import importlib
from collections.abc import Callable
from pathlib import Path

from benchmarks.official.api import OfficialBenchmark
from benchmarks.official.archives import PROJECT_PAGES, missing
from benchmarks.tabular.table import BenchmarkTable
from cscdarts.errors import UserError

#: Form of `FORM:FILE` -> the function that reads such a file into a table. A further benchmark is a module and a line.
READERS = {
    "index": "benchmarks.tabular.index:read_index",
    "csv": "benchmarks.tabular.csv_table:read_csv",
}
FORMS = f"embedded, pip, {', '.join(f'{form}:FILE' for form in READERS)}, nats:DIR, nats:FILE or nasbench201:FILE"


def open_table(name: str, report: Callable[[str], None] = lambda line: None) -> BenchmarkTable:
    """Open a benchmark as a table.

    The official forms are read whole (minutes for a full archive, since ranks need every architecture); make an index
    of them once with `cscdarts benchmark index`.

    Args:
        report: told how far the reading of official files is.

    Errors:
        UserError: no such form, nothing there, or a file that is broken or of another kind.
    """
    form, separator, place = name.partition(":")
    if name == "embedded":
        from benchmarks.embedded.table import embedded_table

        return embedded_table()
    if name == "pip":
        from benchmarks.official.pip_package import pip_table

        return pip_table()
    if not separator or not place:
        raise UserError("--benchmark", name, FORMS, "Name one of these.")
    if form == "index" and place.endswith((".csv", ".csv.gz")):
        form = "csv"
    if form in READERS:
        module, _, function = READERS[form].partition(":")
        table: BenchmarkTable = getattr(importlib.import_module(module), function)(Path(place))
        return table
    from benchmarks.official.table import table_of

    return table_of(open_official(name), report)


def require_benchmark(name: str) -> None:
    """Refuse a name that `open_table` could not open, before anything is computed; archives are not read for it.

    Errors:
        UserError: no such form, or nothing at the path.
    """
    form, _, place = name.partition(":")
    if form in PROJECT_PAGES and place:
        if not Path(place).exists():
            raise missing(form, Path(place))
    else:
        open_table(name)


def open_official(name: str) -> OfficialBenchmark:
    """Open `nats:PATH` or `nasbench201:FILE` behind the official API.

    Errors:
        UserError: another form, nothing there, or a file that is broken or of another kind.
    """
    form, _, place = name.partition(":")
    if form == "nats" and place:
        from benchmarks.official.nats import NatsBench

        return NatsBench(Path(place))
    if form == "nasbench201" and place:
        from benchmarks.official.nasbench201 import NasBench201

        return NasBench201(Path(place))
    raise UserError("--benchmark", name, FORMS, "Name one of these.")
