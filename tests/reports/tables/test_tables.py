"""Every table byte for byte from one small store that holds each case; set CSCDARTS_RECORD=1 to write the files
again."""

import io
import os
from pathlib import Path

import pandas as pd
import pytest

from cscdarts.settings.config import RunConfig
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import protocol
from reports.build import all_tables
from reports.read.settings import Study, studies
from reports.read.store import Store, load
from reports.render.csv import table_csv
from reports.render.latex import table_latex
from reports.render.markdown import table_markdown
from reports.tables.benchmark import CheckBook
from reports.tables.table import Block, Column, ReportTable, Row, TableCell
from tests.support.report_store import SyntheticStore, check_content, tiny

EXPECTED = Path(__file__).parent / "expected"
NAMES = (
    "t0_claims",
    "t1_cifar",
    "t2_imagenet",
    "t3_ablation",
    "t3b_variance",
    "t4_cost",
    "t5_benchmark",
    "t5b_checks",
    "t6a_settings",
    "t6b_runs",
    "t6c_missing",
    "t7_checklists",
)
COSTS = {
    "params_m": 3.36,
    "macs_m": 528.4,
    "supernet_params_m": 0.671,
    "supernet_macs_m": 115.0,
    "memory_access_mb": 310.0,
}


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> tuple[Store, list[Study], list[ReportTable]]:
    made = SyntheticStore(tmp_path_factory.mktemp("golden"), empty_store)
    _embedded_runs(made)
    _paper_runs(made)
    _benchmark_runs(made)
    uri = made.finish({("quickstart", "reduced"): {"f" * 16: ["csc"]}})
    store = load(["quickstart", "cifar10", "nasbench201"], uri)
    store.uri = "sqlite:///golden.db"
    # MLflow's ids are random, and name the places of the runs' files.
    renamed = []
    for key, place in zip(store.runs["hash"], store.runs["artifact_uri"], strict=True):
        old = Path(str(place).removeprefix("file://")).parent
        new = old.parent / f"mlflow-{key}"
        if old.is_dir():
            old.rename(new)
        renamed.append(str(new / "artifacts"))
    store.runs = store.runs.assign(run_id=[f"mlflow-{key}" for key in store.runs["hash"]], artifact_uri=renamed)
    found = studies(store)
    return store, found, all_tables(store, found, CheckBook(store))


def _embedded_runs(made: SyntheticStore) -> None:
    for seed, error in enumerate((3.0, 3.5, 4.0)):
        values = {"test_error_pct": error, "peak_memory_mib": 300.0, "search_time_s": 20.0 + seed, **COSTS}
        values |= {"supernet_valid_error_pct": 5.0 - seed}
        made.add(tiny(seed), values, name=f"a{seed:015d}", check=check_content(seed))
    plain = {"supernet__split_ratio": "1", "supernet__identity": "none"}
    for seed, error in enumerate((4.0, 4.0)):
        values = {"test_error_pct": error, "peak_memory_mib": 400.0, "search_time_s": 40.0, **COSTS}
        made.add(tiny(seed, **plain), values, methods=("csc", "darts2"), name=f"b{seed:015d}")
    made.add(
        tiny(2, **plain),
        methods=("csc", "darts2"),
        status="failed",
        tags={"cscdarts.failure": "out of memory"},
        name=f"b{2:015d}",
    )
    base = protocol("quickstart", "reduced")
    made.add(apply_preset(base, "pcdarts"), {"test_error_pct": 3.25}, methods=("pcdarts",), name="c" * 16)
    made.add(apply_preset(base, "random"), {"test_error_pct": float("nan")}, methods=("random",), name="d" * 16)


def _paper(method: str, seed: int, recipe: str = "cifar10") -> RunConfig:
    return with_values(apply_preset(protocol(recipe, "paper"), method), {"seed": seed})


def _paper_runs(made: SyntheticStore) -> None:
    true = {"cscdarts.data": "CIFAR-10"}
    for seed, error in enumerate((2.7, 2.9)):
        values = {"test_error_pct": error, "search_time_s": 43_200.0, "peak_memory_mib": 6000.0, **COSTS}
        made.add(_paper("csc", seed), values, grid="cifar10", tags=true, name=f"1{seed:015d}")
    made.add(
        _paper("darts1", 0), {"test_error_pct": 3.9}, grid="cifar10", methods=("darts1",), tags=true, name="2" * 16
    )
    copy = {"cscdarts.data": "CIFAR-10 (JPEG copy)"}
    made.add(
        _paper("pcdarts", 0), {"test_error_pct": 2.6}, grid="cifar10", methods=("pcdarts",), tags=copy, name="3" * 16
    )
    short = with_values(_paper("dartsminus", 0), {"evaluation.epochs": 60})
    made.add(short, {"test_error_pct": 4.4}, grid="cifar10", methods=("dartsminus",), tags=true, name="4" * 16)


def _benchmark_runs(made: SyntheticStore) -> None:
    true = {"cscdarts.data": "CIFAR-10"}
    for seed in range(2):
        made.add(
            _paper("darts1", seed, "nasbench201"),
            {"test_error_pct": 46.0},
            grid="nasbench201",
            methods=("darts1",),
            tags=true,
            check=check_content(seed, "nasbench201", "cifar10", shift=-41.9),
            name=f"5{seed:015d}",
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["csv", "tex", "md"])
def test_table_byte_for_byte(golden: tuple[Store, list[Study], list[ReportTable]], name: str, form: str) -> None:
    table = next(table for table in golden[2] if table.name == name)
    made = {"csv": table_csv, "tex": table_latex, "md": table_markdown}[form](table)
    path = EXPECTED / f"{name}.{form}"
    if os.environ.get("CSCDARTS_RECORD"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(made.encode())
    assert made == path.read_bytes().decode(), f"{name}.{form} changed; look, then record with CSCDARTS_RECORD=1"


def test_no_table_is_left_out(golden: tuple[Store, list[Study], list[ReportTable]]) -> None:
    assert sorted(table.name for table in golden[2]) == sorted(NAMES)


def _cells(table: ReportTable, method: str, key: str) -> list[str]:
    place = next(k for k, column in enumerate(table.columns) if column.key == key)
    return [row.cells[place].text for row in table.rows if row.cells[0].text == method]


def test_only_the_full_protocol_on_the_true_data_stands_in_the_paper_s_row(
    golden: tuple[Store, list[Study], list[ReportTable]],
) -> None:
    table = next(table for table in golden[2] if table.name == "t1_cifar")
    # first the row of CIFAR-10, then that of CIFAR-100
    assert _cells(table, "CSC-DARTS", "ours_test_error_pct") == ["2.80 ± 0.14", "–"]
    assert _cells(table, "CSC-DARTS", "difference_pct") == ["+0.28", "–"]
    assert _cells(table, "CSC-DARTS", "verdict") == ["within tolerance", "not run"]
    assert _cells(table, "DARTS (1st order)", "verdict")[:2] == ["outside", "not run"]
    assert _cells(table, "PC-DARTS", "ours_test_error_pct")[:2] == ["–", "–"]
    assert _cells(table, "PC-DARTS", "verdict_reason")[0] == "data CIFAR-10 (JPEG copy)"
    assert _cells(table, "DARTS-", "verdict_reason")[0] == "protocol changed (epochs=60)"
    assert _cells(table, "P-DARTS", "verdict") == ["not run", "not run"]


def test_experiments_of_another_size_or_space_are_never_compared(
    golden: tuple[Store, list[Study], list[ReportTable]],
) -> None:
    for study in golden[1]:
        assert len({(s.space, s.params["evaluation.epochs"]) for s in study.settings}) == 1
    table = next(table for table in golden[2] if table.name == "t3_ablation")
    titles = [block.title for block in table.blocks]
    assert any("nasbench201 space" in title for title in titles)
    assert any("60 retraining epochs" in title for title in titles)
    place = next(k for k, column in enumerate(table.columns) if column.key == "difference_pct")
    apart = next(block for block in table.blocks if "60 retraining epochs" in block.title)
    assert [row.cells[place].text for row in apart.rows] == ["–"]


def test_unknown_numbers_of_the_paper_are_dashes_with_a_footnote(
    golden: tuple[Store, list[Study], list[ReportTable]],
) -> None:
    table = next(table for table in golden[2] if table.name == "t1_cifar")
    row = next(row for row in table.rows if row.cells[0].text == "CSC-DARTS")
    notes = dict(table.notes)
    params = row.cells[4]
    assert (params.text, params.value) == ("–", None)
    assert notes[params.marks].startswith("not public")


def test_every_number_of_ours_links_to_its_runs(golden: tuple[Store, list[Study], list[ReportTable]]) -> None:
    anchors = {row.anchor for table in golden[2] for row in table.rows if row.anchor}
    linked = 0
    for table in golden[2]:
        for row in table.rows:
            for cell in row.cells:
                if cell.link.startswith("#s-") or cell.link.startswith("#run-"):
                    assert cell.link[1:] in anchors
                    linked += 1
    assert linked > 50


@pytest.mark.parametrize(
    "name", ["6e12952", "1234567", "0123456", "1e5", "12345678e0000000", "inf", "nan", "a1b2c3d", "unknown", "6e12952+"]
)
def test_a_name_in_a_csv_is_read_as_that_name(name: str) -> None:
    """One commit in all rows: pandas took 6e12952 for infinity and 0123456 for 123456."""
    columns = (Column("hash", "run", numeric=False), Column("code", "code", numeric=False))
    row = Row((TableCell(name, name), TableCell(name, name)))
    table = ReportTable("T", "t", "t", "t", columns, (Block("", (row, row)),))
    read = pd.read_csv(io.StringIO(table_csv(table)))
    assert [str(value).removeprefix("'") for column in ("hash", "code") for value in read[column]] == [name] * 4
    assert all(isinstance(value, str) for value in read["code"])
