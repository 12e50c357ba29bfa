"""The benchmarks by the name they have on the command line: `embedded`, `pip`, `index:FILE`, `csv:FILE`, `nats:DIR`,
`nasbench201:FILE`, and the surrogate `nb301:FILE`, which predicts cells of the DARTS space."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.official.api import OfficialBenchmark
from benchmarks.official.archives import PROJECT_PAGES, missing
from benchmarks.tabular.table import BenchmarkTable
from cscdarts.errors import UserError
from cscdarts.extras import require
from cscdarts.settings.config import SupernetConfig
from cscdarts.spaces import DARTS, SPACES, DartsGenotype

if TYPE_CHECKING:
    from benchmarks.official.nasbench301 import Surrogate

#: Form of `FORM:FILE` -> the function that reads such a file into a table. A further benchmark is a module and a line.
READERS = {
    "index": "benchmarks.tabular.index:read_index",
    "csv": "benchmarks.tabular.csv_table:read_csv",
}
FORMS = (
    f"embedded, pip, {', '.join(f'{form}:FILE' for form in READERS)}, nats:DIR, nats:FILE, nasbench201:FILE or "
    "nb301:FILE"
)
SURROGATE = "nb301"
#: Form of official archives -> the package that reads it.
MODULES = {"nats": "nats_bench", "nasbench201": "nas_201_api"}


def open_table(
    name: str,
    report: Callable[[str], None] = lambda line: None,
    advance: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> BenchmarkTable:
    """Open a benchmark as a table.

    The official forms are read whole (minutes for a full archive, since ranks need every architecture); make an index
    of them once with `cscdarts benchmark index`.

    Args:
        report: told how far the reading of official files is.
        advance: told the same after each cell, see `table_of`.

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
    if form == SURROGATE:
        raise UserError(
            "--benchmark", name, "a table of measured results", "A surrogate predicts cells of the DARTS space only."
        )
    if form == "index" and place.endswith((".csv", ".csv.gz")):
        form = "csv"
    if form in READERS:
        module, _, function = READERS[form].partition(":")
        table: BenchmarkTable = getattr(importlib.import_module(module), function)(Path(place))
        return table
    from benchmarks.official.table import table_of

    return table_of(open_official(name), report, advance=advance)


def predicts(name: str) -> bool:
    """Whether a benchmark is a surrogate, which predicts and has measured nothing."""
    return name.startswith(f"{SURROGATE}:")


def surrogate(name: str) -> "Surrogate":
    """Open `nb301:FILE` or `nb301:DIR`.

    Errors:
        UserError: see `benchmarks.official.nasbench301.open_surrogate`.
    """
    from benchmarks.official.nasbench301 import open_surrogate

    return open_surrogate(Path(name.partition(":")[2]))


def covers(name: str, supernet: SupernetConfig) -> bool:
    """Whether a benchmark says something of the cells of a supernet: a surrogate of those of the DARTS space and its
    sub-spaces without noise, a table of those of its own space."""
    space, ops = SPACES[supernet.space], supernet.ops or ()
    if predicts(name):
        return issubclass(space.genotype, DartsGenotype) and space.edges == DARTS.edges and set(ops) <= set(DARTS.ops)
    return space.holds(ops)


def require_benchmark(name: str, supernet: SupernetConfig | None = None) -> None:
    """Refuse a name that could not be opened, before anything is computed; archives are not read for it.

    Args:
        supernet: of the run that is to be checked; a surrogate of other cells is refused.

    Errors:
        UserError: no such form, nothing at the path, or see above.
    """
    form, _, place = name.partition(":")
    if predicts(name):
        if supernet is not None and not covers(name, supernet):
            raise UserError(
                "runtime.benchmark", name, "a benchmark of the run's space, such as embedded for nasbench201",
                f"NAS-Bench-301 predicts cells of the DARTS space; the run searches {supernet.space} with operations "
                f"{', '.join(supernet.ops or ())}.",
            )  # fmt: skip
        surrogate(name)
    elif form in PROJECT_PAGES and place:
        if not Path(place).exists():
            raise missing(form, Path(place))
        require(f"{form}:{place}", MODULES[form])
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
