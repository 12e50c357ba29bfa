"""The compact index: made from CSV and official records, exact, quick, and the answers follow the data."""

import csv
import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.checks.run import check
from benchmarks.official.nats import NatsBench
from benchmarks.official.table import compare, table_of
from benchmarks.tabular.csv_table import read_csv
from benchmarks.tabular.index import read_index, write_index
from benchmarks.tabular.space import SIZE, official_archs
from benchmarks.tabular.table import BenchmarkTable, percentile, rank, regret
from cscdarts.errors import UserError
from tests.support.official_files import HELD, OfficialFiles, accuracy


def quiet(line: str) -> None:
    """Takes progress and says nothing."""


@pytest.fixture(scope="module")
def table(files: OfficialFiles) -> BenchmarkTable:
    return read_csv(files.table)


@pytest.fixture(scope="module")
def official(files: OfficialFiles) -> NatsBench:
    return NatsBench(files.folder)


def test_index_keeps_every_number_of_the_csv(table: BenchmarkTable, index: Path) -> None:
    again = read_index(index)
    assert again.holds == SIZE
    assert set(again.columns) == set(table.columns)
    for name, values in table.columns.items():
        assert np.array_equal(again.columns[name], values, equal_nan=True), name
    assert again.provenance == table.provenance


def test_index_of_the_official_records_is_exact(official: NatsBench, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    made = table_of(official, quiet, advance=lambda *step: told.append(step))
    assert told == [("cells read", number, 3) for number in (1, 2, 3)]
    write_index(made, tmp_path / "three.parquet")
    again = read_index(tmp_path / "three.parquet")
    assert again.holds == 3
    assert np.flatnonzero(again.held).tolist() == [0, 11, 284]
    for seed in (777, 888, 999):
        assert again.accuracy("cifar10", "test", 200, seed)[11] == accuracy(11, "cifar10", "ori-test", 200, seed)
    assert again.trials("cifar10", 200) == (777, 888, 999)
    assert again.trials("cifar10", 12) == (111, 777)  # of the validation training
    for place in (0, 11, 284):
        info = official.info(place, "cifar10-valid", 200)
        assert again.query_cost_s("cifar10", 200)[place] == info["train-all-time"] + info["valid-per-time"]
    assert compare(again, official, sample=3, seed=0, report=quiet) > 100


def test_records_agree_with_a_table_of_the_same_numbers(table: BenchmarkTable, official: NatsBench) -> None:
    assert compare(table, official, sample=3, seed=0, report=quiet) > 50
    made = table_of(official, quiet)
    for place in HELD:  # times of these rows are measured, so the stated factors must give the official cost
        for dataset in ("cifar10", "cifar100", "imagenet16-120"):
            assert table.query_cost_s(dataset)[place] == pytest.approx(made.query_cost_s(dataset)[place], abs=1e-3)


def test_verify_notices_one_wrong_number(table: BenchmarkTable, official: NatsBench) -> None:
    columns = {name: values.copy() for name, values in table.columns.items()}
    columns["cifar100_test_acc_12"][284] += 0.02
    with pytest.raises(UserError, match="cifar100_test_acc_12 of architecture 284"):
        compare(BenchmarkTable(columns, table.provenance), official, sample=3, seed=0, report=quiet)


def test_a_shuffled_table_gives_the_shuffled_winners(files: OfficialFiles, tmp_path: Path) -> None:
    with files.table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    best = max(range(len(rows)), key=lambda index: float(rows[index]["cifar10_test_acc_200"]))
    order = np.random.default_rng(3).permutation(len(rows))
    fields = ["index", "arch_str", "cifar10_valid_acc_200", "cifar10_test_acc_200"]
    with gzip.open(tmp_path / "shuffled.csv.gz", "wt", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, fields)
        writer.writeheader()
        for row, other in zip(rows, order.tolist(), strict=True):
            writer.writerow({**{key: row[key] for key in fields[:2]}, **{key: rows[other][key] for key in fields[2:]}})
    shuffled = read_csv(tmp_path / "shuffled.csv.gz")
    winner = int(np.flatnonzero(order == best)[0])
    assert winner != best
    assert shuffled.accuracy("cifar10", "test").argmax() == winner
    found = check(str(winner), f"csv:{tmp_path / 'shuffled.csv.gz'}")
    assert found["datasets"]["cifar10"]["rank"] == 1
    assert found["datasets"]["cifar10"]["regret"] == 0
    assert list(found["datasets"]) == ["cifar10"]
    was_best = check(str(best), f"csv:{tmp_path / 'shuffled.csv.gz'}")["datasets"]["cifar10"]
    assert was_best["test_acc"] == pytest.approx(float(rows[int(order[best])]["cifar10_test_acc_200"]))


def test_rank_percentile_regret_by_hand() -> None:
    values = np.full(SIZE, np.nan)
    values[[3, 4, 5, 6]] = [10.0, 30.0, 30.0, 20.0]
    assert [rank(values, values[k]) for k in (3, 4, 5, 6)] == [4, 1, 1, 3]
    assert [percentile(values, values[k]) for k in (3, 4, 5, 6)] == [25.0, 100.0, 100.0, 50.0]
    assert [regret(values, values[k]) for k in (3, 4, 5, 6)] == [20.0, 0.0, 0.0, 10.0]


def test_many_look_ups_equal_single_ones(index: Path) -> None:
    table = read_index(index)
    places = np.random.default_rng(0).integers(0, SIZE, 10_000).tolist()
    archs = [official_archs()[place] for place in places]
    assert np.array_equal(table.look_up(archs, "cifar10", "test"), table.accuracy("cifar10", "test")[places])


def test_loading_an_index_imports_neither_torch_nor_pandas_nor_an_official_package(index: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from benchmarks.tabular.index import read_index;"
        f"read_index(Path({str(index)!r})).accuracy('cifar10', 'test');"
        "print([name for name in ('torch', 'pandas', 'nats_bench', 'nas_201_api', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unmeasured_times_are_missing_never_estimates(table: BenchmarkTable) -> None:
    assert np.isfinite(table.query_cost_s("cifar10")).sum() == 1000
    assert not np.isfinite(table.query_cost_s("cifar10")[1000:]).any()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("arch_str", "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"), "official index"),
        (("index", "99999"), "official index"),
        (("index", "x"), "whole number"),
        (("cifar10_test_acc_200", "101"), "0 to 100"),
        (("cifar10_test_acc_200", "nan"), "0 to 100"),
        (("cifar10_test_acc_200", "ninety"), "0 to 100"),
    ],
)
def test_wrong_lines_of_a_csv_are_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    row = {"index": "11", "arch_str": official_archs()[11], "cifar10_test_acc_200": "91.5"} | dict([change])
    (tmp_path / "t.csv").write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=said) as error:
        read_csv(tmp_path / "t.csv")
    assert "line 2" in str(error.value)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "index,arch_str\n", "index,arch_str,cifar10_test_acc_200\n"])
def test_other_csv_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError):
        read_csv(tmp_path / "t.csv")


def test_a_missing_value_is_missing_not_zero(tmp_path: Path) -> None:
    text = "index,arch_str,cifar10_valid_acc_200,cifar10_test_acc_200\n"
    text += f"11,{official_archs()[11]},,91.5\n12,{official_archs()[12]},80,90\n"
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    found = check("11", f"csv:{tmp_path / 't.csv'}")
    assert found["benchmark"]["holds"] == 2
    assert found["datasets"]["cifar10"]["valid_acc"] is None
    assert found["datasets"]["cifar10"]["valid_rank"] is None
    assert found["datasets"]["cifar10"]["rank"] == 1


def test_another_parquet_and_another_schema_are_refused(tmp_path: Path, table: BenchmarkTable) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"index": [1], "arch_str": ["x"]}), tmp_path / "other.parquet")
    with pytest.raises(UserError, match=r"broken or of another kind\. Make it again"):
        read_index(tmp_path / "other.parquet")
    write_index(table, tmp_path / "good.parquet")
    content = pq.read_table(tmp_path / "good.parquet")
    position = content.column_names.index("arch_str")
    swapped = content.set_column(position, "arch_str", pa.array(content["arch_str"].to_pylist()[::-1]))
    pq.write_table(swapped, tmp_path / "swapped.parquet")
    with pytest.raises(UserError, match="official numbering"):
        read_index(tmp_path / "swapped.parquet")


def test_a_place_that_cannot_be_written_is_one_sentence_and_leaves_nothing(
    table: BenchmarkTable, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out"):
        write_index(table, tmp_path / "file" / "index.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
