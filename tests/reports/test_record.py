"""A grid's record: numbers by hand, what it refuses, and its own commands."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ablations.commands.report import report
from cscdarts.errors import UserError
from cscdarts.settings.methods import apply_cell, apply_preset
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import protocol
from reports.read.store import Manifest
from reports.record import commands, departures, setting_name, summary, write_record
from tests.support.report_store import SyntheticStore, check_content, tiny

PLAIN = {"supernet__split_ratio": "1", "supernet__identity": "none"}


def _line(seed: int, accuracy: float, tau: float | None) -> dict[str, Any]:
    return {
        "setting": "darts1",
        "primary": "cifar10",
        "datasets": {"cifar10": {"valid_acc": accuracy - 1, "test_acc": accuracy}},
        "identity_as_edge": {"test_acc": {"cifar10": accuracy + 1}} if tau else None,
        "kendall_tau": tau,
        "search": {"search_time_s": 10.0 * seed},
    }


def test_summary_by_hand() -> None:
    (found,) = summary([_line(1, 90.0, 0.5), _line(2, 94.0, None)])
    assert (found["setting"], found["n"]) == ("darts1", 2)
    assert (found["cifar10_valid_acc_mean"], found["cifar10_test_acc_mean"]) == (91.0, 92.0)
    assert found["cifar10_test_acc_sd"] == 2.828
    assert (found["kendall_tau_mean"], found["search_time_s_mean"]) == (0.5, 15.0)
    assert (found["cifar10_identity_as_edge_mean"], found["cifar10_identity_as_edge_sd"]) == (91.0, None)
    (single,) = summary([_line(1, 90.0, None)])
    assert single["cifar10_test_acc_sd"] is None
    assert single["kendall_tau_mean"] is None


def test_a_record_holds_each_run_with_its_look_up(store: SyntheticStore, tmp_path: Path) -> None:
    lines = [("retrain", 0, {"loss": 1.0}), ("search", 1, {"skip_count": 6.0}), ("search", 0, {"skip_count": 2.0})]
    for seed in range(2):
        store.add(tiny(seed), {"test_error_pct": 3.0}, check=check_content(seed), curves=lines)
        store.add(tiny(seed, **PLAIN), methods=("csc", "darts2"), check=check_content(seed, shift=1.0))
    store.add(tiny(2), {"test_error_pct": 3.0})  # finished, never looked up
    path = tmp_path / "new" / "record.json"
    found = write_record("quickstart", path, uri=store.finish())
    assert json.loads(path.read_text(encoding="utf-8")) == found
    assert (len(found["runs"]), found["runs_planned"], found["scale"], found["data"]) == (4, 5, "reduced", "digits")
    means = {line["setting"]: line for line in found["summary"]}
    assert means["csc r=1/2 identity=cell order=2"]["digits_test_acc_mean"] == 95.5
    assert means["csc r=1 identity=none order=2"]["digits_test_acc_mean"] == 96.5
    assert found["runs"][1]["test_acc_by_epoch"] == [90.0, 97.0]
    # By epoch, whatever the order of the lines; empty where no search recorded any.
    assert {tuple(run["skip_count_by_epoch"]) for run in found["runs"]} == {(2, 6), ()}
    assert found["runs"][0]["identity_as_edge"]["test_acc"] == {"digits": 97.0}
    assert (found["benchmark"]["epochs"], found["benchmark"]["trial"]) == (6, "mean")
    assert [row["number"] for row in found["claims"]] == [1, 2, 3, 4, 5, 6, 7]
    # Neither of the two settings differs from the other in one thing alone, and no cell has two depths.
    assert {row["verdict"] for row in found["claims"]} <= {"not run", "not testable"}
    assert {row["data"] for row in found["claims"]} == {"digits"}


def test_a_record_names_phases_and_depths_apart() -> None:
    base = apply_preset(protocol("quickstart", "smoke"), "csc")
    names = [
        setting_name(with_values(base, {"supernet.identity_phases": phases}), ["csc"])
        for phases in ("both", "search", "eval")
    ]
    common = f"csc r={base.supernet.split_ratio} identity=cell"
    assert names == [f"{common}{place} order=2" for place in ("", " in search", " in eval")]
    cell = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|avg_pool_3x3~1|skip_connect~2|"
    deep = with_values(apply_cell(base, cell, "csc"), {"evaluation.cells": 3})
    assert setting_name(deep, ["csc"]) == "given cells=3 identity=cell"
    assert setting_name(apply_cell(base, cell), ["cell"]) == "given cells=1 identity=none"


def test_a_record_holds_what_retraining_came_to() -> None:
    runs = [{**_line(seed, 90.0, None), "retraining": {"test_error_pct": 2.0 + seed}} for seed in (1, 3)]
    (found,) = summary(runs)
    assert (found["test_error_pct_mean"], found["test_error_pct_sd"]) == (4.0, 1.414)


def test_departures_are_what_differs_from_the_nearest_published_protocol() -> None:
    base = apply_preset(protocol("nasbench201", "paper"), "csc")
    assert departures([base, apply_preset(base, "pcdarts"), with_values(base, {"seed": 3})]) == {}
    shorter = with_values(base, {"search.epochs": 12, "evaluation.epochs": 3})
    assert departures([shorter]) == {"search.epochs": 12, "evaluation.epochs": 3}
    assert departures([with_values(shorter, {"runtime.retrain": False})]) == {"search.epochs": 12}
    assert departures([shorter, with_values(shorter, {"search.epochs": 13})])["search.epochs"] == [12, 13]
    assert departures([protocol("cifar10", "paper")]) == {}
    assert departures([apply_cell(protocol("cifar10", "paper"), "PDARTS")]) == {}


def test_the_commands_name_no_place_on_this_machine() -> None:
    overrides = {
        "runtime.data_root": "/data",
        "runtime.benchmark": "index:/data/table.parquet",
        "labels.data": "a copy",
    }
    first, second = commands(Manifest("mine", "reduced", {}, overrides), "record.json")
    assert first == (
        "cscdarts ablate run mine --scale reduced --data-root DIR --set runtime.benchmark=index:table.parquet "
        "--set 'labels.data=a copy'"
    )
    assert second == "cscdarts report record mine --out record.json"


def test_what_is_no_record_is_refused_and_nothing_written(store: SyntheticStore, tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    store.add(tiny(0), {"test_error_pct": 3.0})
    store.add(tiny(0, "smoke"), {"test_error_pct": 3.0}, check=check_content(0))
    other = check_content(1)
    store.add(
        tiny(1, "smoke"), {"test_error_pct": 3.0}, check={**other, "benchmark": {**other["benchmark"], "source": "b"}}
    )
    uri = store.finish()
    with pytest.raises(UserError, match="reduced or smoke"):
        write_record("quickstart", out, uri=uri)
    with pytest.raises(UserError, match="no run with a look-up"):
        write_record("quickstart", out, "reduced", uri)
    with pytest.raises(UserError, match="2 tables"):
        write_record("quickstart", out, "smoke", uri)
    assert not out.exists()


def test_a_place_that_cannot_be_written_is_one_sentence(
    store: SyntheticStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(tiny(0), {"test_error_pct": 3.0}, check=check_content(0))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out"):
        write_record("quickstart", tmp_path / "file" / "record.json", uri=store.finish())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    done = CliRunner().invoke(
        report, ["record", "quickstart", "--out", str(tmp_path / "r.json")], catch_exceptions=False
    )
    assert done.output.strip() == f"{tmp_path / 'r.json'}: 1 of 1 run, 1 setting"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"arch": None}, "it has other values at arch"),
        ({"kendall_tau": ..., "trajectory": ...}, "it lacks trajectory, kendall_tau"),
        ({"benchmark": {"kind": "embedded"}}, "it lacks benchmark.source"),
        (
            {"datasets": {"digits": {"valid_acc": 1.0, "test_acc": 2.0}}},
            "it lacks datasets.digits.epochs, datasets.digits.trial",
        ),
        ({"primary": "cifar10"}, "it lacks datasets.cifar10"),
        ({"trajectory": [{"epoch": 0}]}, r"it lacks trajectory\[0\].test_acc"),
    ],
)  # fmt: skip
def test_a_look_up_that_lacks_keys_is_told_key_by_key(
    store: SyntheticStore, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    content = {key: value for key, value in {**check_content(0), **change}.items() if value is not ...}
    store.add(tiny(0), {"test_error_pct": 3.0}, check=content)
    out = tmp_path / "record.json"
    with pytest.raises(UserError, match=sentence):
        write_record("quickstart", out, uri=store.finish())
    assert not out.exists()
