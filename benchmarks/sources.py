"""The benchmarks by the name they have on the command line: `embedded`, `index:FILE`, `csv:FILE`, `nats:DIR`,
`nasbench201:FILE`."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.official.api import OfficialBenchmark
from benchmarks.official.archives import PROJECT_PAGES, missing
from benchmarks.tabular.table import BenchmarkTable
from cscdarts.errors import UserError

FORMS = "embedded, index:FILE, csv:FILE, nats:DIR, nats:FILE or nasbench201:FILE"


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
    if not separator or not place:
        raise UserError("--benchmark", name, FORMS, "Name one of these.")
    if form == "index" and not place.endswith((".csv", ".csv.gz")):
        from benchmarks.tabular.index import read_index

        return read_index(Path(place))
    if form in ("index", "csv"):
        from benchmarks.tabular.csv_table import read_csv

        return read_csv(Path(place))
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
