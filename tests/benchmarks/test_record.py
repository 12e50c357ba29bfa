"""The record of searches in the NAS-Bench-201 space: its settings, its summary, and that its look-ups are the table's."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.checks.cell import identity_as_edge
from benchmarks.nasbench201_record import CPU, SEEDS, configs, run, settings_of, summary
from benchmarks.tabular.csv_table import read_csv
from benchmarks.tabular.space import official_archs
from cscdarts.records.run_folder import RunFolder

RECORD = Path(__file__).parents[2] / "benchmarks" / "records" / "nasbench201-cifar10-cpu.json"


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_every_setting_is_another_run_on_one_budget(scale: str) -> None:
    found = list(configs(scale, "image-folder", "data", "cpu"))
    assert len(found) == len(SEEDS) * len(settings_of(scale))
    assert len({config.hash for _, config in found}) == len(found)
    for key in ("epochs", "batch_size", "lr", "alpha_lr", "momentum", "weight_decay"):
        assert len({getattr(config.search, key) for _, config in found}) == 1
    assert len({(config.supernet.channels, config.supernet.cells, config.supernet.space) for _, config in found}) == 1


def test_settings_are_the_methods_they_are_called() -> None:
    by_name = {
        setting.name: config for setting, config in configs("paper", "cifar10", "data", "cpu") if config.seed == 0
    }
    darts = by_name["darts1"]
    assert (str(darts.supernet.split_ratio), darts.supernet.identity, darts.search.order) == ("1", "none", 1)
    assert darts.search.alpha_warmup == 0
    ours = by_name["csc r=1/4 identity=cell order=2"]
    assert (str(ours.supernet.split_ratio), ours.supernet.identity, ours.search.order) == ("1/4", "cell", 2)
    assert (ours.supernet.channels, ours.supernet.cells, ours.search.epochs) == (16, 5, 50)
    assert by_name["pcdarts"].supernet.edge_norm


def test_a_run_takes_the_threads_of_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs side by side on two cores, each with a thread a core, take many times as long."""
    seen: list[int] = []
    monkeypatch.setattr("cscdarts.training.search.search", lambda *_: seen.append(torch.get_num_threads()))
    monkeypatch.setattr("cscdarts.training.derivation.derive", lambda *_: None)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(next(configs("cpu", "image-folder", "data", "cpu"))[1], RunFolder(tmp_path / "run"))
    finally:
        torch.set_num_threads(before)
    assert seen == [1]


def test_summary_by_hand() -> None:
    def line(seed: int, accuracy: float, tau: float | None) -> dict[str, Any]:
        entry = {"valid_acc": accuracy - 1, "test_acc": accuracy}
        return {
            "setting": "darts1",
            "seed": seed,
            "datasets": dict.fromkeys(("cifar10", "cifar100", "imagenet16-120"), entry),
            "identity_as_edge": {"test_acc": {"cifar10": accuracy + 1}} if tau else None,
            "kendall_tau": tau,
            "search": {"search_time_s": 10.0 * seed},
        }

    (found,) = summary([line(1, 90.0, 0.5), line(2, 94.0, None)])
    assert (found["setting"], found["n"]) == ("darts1", 2)
    assert (found["cifar10_test_acc_mean"], found["cifar10_test_acc_sd"]) == (92.0, 2.828)
    assert (found["kendall_tau_mean"], found["search_time_s_mean"]) == (0.5, 15.0)
    assert (found["cifar10_identity_as_edge_mean"], found["cifar10_identity_as_edge_sd"]) == (91.0, None)
    (single,) = summary([line(1, 90.0, None)])
    assert single["cifar10_test_acc_sd"] is None
    assert single["kendall_tau_mean"] is None


def test_the_shipped_record_is_what_the_table_says(shared: Path) -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    table = read_csv(shared / "data" / "nasbench201.csv.gz")
    assert record["data"] == "CIFAR-10 (JPEG copy)"
    assert record["departures"] == CPU
    assert record["summary"] == summary(record["runs"])
    for line in record["runs"]:
        assert official_archs()[line["index"]] == line["arch"]
        for dataset, entry in line["datasets"].items():
            assert entry["test_acc"] == table.accuracy(dataset, "test")[line["index"]]
            assert entry["valid_acc"] == table.accuracy(dataset, "valid")[line["index"]]
        assert (line["identity_as_edge"] is not None) == (line["identity"] == "cell")
        if line["identity_as_edge"] is not None:
            expected = identity_as_edge(table, line["arch"], None, None)
            assert expected is not None
            found = expected.pop("datasets")
            test_acc = {dataset: entry["test_acc"] for dataset, entry in found.items()}
            assert line["identity_as_edge"] == {**expected, "test_acc": test_acc}
    assert not any(str(part).startswith("/") for part in record["command"].split())
