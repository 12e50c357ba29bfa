"""Every number of a run's check by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.checks import run as checks
from benchmarks.checks.baselines import random_search, regularised_evolution
from benchmarks.checks.run import check, check_run, describe_run
from benchmarks.tabular.index import write_index
from benchmarks.tabular.space import SIZE, official_archs, read_cell
from benchmarks.tabular.table import BenchmarkTable
from cscdarts.data.randomness import numpy_generator
from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder, append_line, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import build, with_values
from cscdarts.spaces import NASBENCH201
from tests.support.benchmark_table import sparse, table
from tests.support.records import written


def config(**values: Any) -> RunConfig:
    sizes = {"supernet.space": "nasbench201", "search.epochs": 3, "search.alpha_warmup": 0, "runtime.device": "cpu"}
    return with_values(build({}), sizes | values)


def derived(path: Path, cells: list[int], settings: RunConfig) -> RunFolder:
    """A run folder whose alpha picks the cells of these indices epoch by epoch, the last one derived."""
    folder = RunFolder(path)
    folder.create(settings)
    for epoch, index in enumerate(cells):
        alpha = [[float(op == chosen) for op in NASBENCH201.ops] for chosen in read_cell(official_archs()[index]).ops]
        append_line(folder.file("alphas.jsonl"), {"epoch": epoch, "alpha": {"cell": alpha}})
    write_json(folder.file("genotype.json"), {"text": official_archs()[cells[-1]], "epoch": len(cells) - 1})
    return folder


def test_the_trajectory_by_hand(tmp_path: Path) -> None:
    found = describe_run(derived(tmp_path / "run", [6, 9, 5], config()), table(), cells=0)
    assert [(line["epoch"], line["index"], line["arch"]) for line in found["trajectory"]] == [
        (epoch, index, official_archs()[index]) for epoch, index in enumerate((6, 9, 5))
    ]
    last = found["trajectory"][-1]
    kept = {"valid_acc": 90.0, "test_acc": 88.0, "rank": 2, "percentile": 80.0, "regret": 1.0, "query_cost_s": 1.5}
    assert {key: last[key] for key in kept} == kept
    assert last["datasets"]["digits"] == kept
    assert list(last["datasets"]) == ["cifar10", "digits"]
    assert found["index"] == 5
    shorter = describe_run(derived(tmp_path / "short", [5, 6], config()), table(), epochs=12, cells=0)
    assert [line["test_acc"] for line in shorter["trajectory"]] == [42.0, 41.5]
    assert shorter["primary"] == "cifar10"
    trial = describe_run(derived(tmp_path / "one", [5], config()), table(), epochs=200, trial=777, cells=0)
    assert trial["trajectory"][0]["test_acc"] == 93.5


@pytest.mark.parametrize(
    ("values", "primary"),
    [
        ({}, "digits"),
        ({"data.dataset": "cifar10"}, "cifar10"),
        ({"data.dataset": "image-folder"}, "cifar10"),
        ({"data.dataset": "cifar10", "data.search_dataset": "digits"}, "digits"),
        ({"data.dataset": "cifar100"}, "cifar10"),  # not held: the first one
        ({"data.dataset": "fashion-mnist"}, "cifar10"),
    ],
)
def test_the_primary_data_set_is_the_nearest_to_the_searched(
    values: dict[str, Any], primary: str, tmp_path: Path
) -> None:
    found = describe_run(derived(tmp_path / "run", [5], config(**values)), table(), cells=0)
    assert found["primary"] == primary
    assert found["trajectory"][0]["test_acc"] == found["datasets"][primary]["test_acc"]


def test_a_run_on_cifar_100_is_held_against_cifar_100(tmp_path: Path) -> None:
    more = {"cifar100_valid_acc_200": sparse({5: 71.0}), "cifar100_test_acc_200": sparse({5: 72.0})}
    found = describe_run(derived(tmp_path / "run", [5], config(**{"data.dataset": "cifar100"})), table(**more), cells=0)
    assert (next(iter(found["datasets"])), found["primary"]) == ("cifar10", "cifar100")
    assert found["trajectory"][0]["test_acc"] == 72.0


def test_baselines_are_repeated_500_times_and_told_up_to_200_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (checks.REPEATS, checks.QUERIES) == (500, 200)
    monkeypatch.setattr(checks, "REPEATS", 3)
    found = describe_run(derived(tmp_path / "run", [5], config()), table(), cells=0)["baselines"]["random_search"]
    assert (found["repeats"], found["queries"]) == (3, [1, 2, 5, 10, 20, 50, 100, 150, 200])
    assert len(found["test_acc_mean"]) == len(found["test_acc_sd"]) == 9


def test_baselines_are_summed_up_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "REPEATS", 30)
    monkeypatch.setattr(checks, "QUERIES", 12)
    found = describe_run(derived(tmp_path / "run", [5], config()), table(), cells=0)["baselines"]
    assert list(found) == ["random_search"]  # evolution needs the whole space
    valid, test = table().accuracy("digits", "valid"), table().accuracy("digits", "test")
    curves = random_search(valid, test, 12, 30, numpy_generator(0, "random search"))
    summary = found["random_search"]
    assert (summary["repeats"], summary["queries"]) == (30, [1, 2, 5, 10])
    assert summary["test_acc_mean"] == pytest.approx([np.mean(curves[:, k - 1]) for k in (1, 2, 5, 10)])
    assert summary["test_acc_sd"] == pytest.approx([np.std(curves[:, k - 1], ddof=1) for k in (1, 2, 5, 10)])
    means = [float(np.mean(curves[:, k])) for k in range(12)]
    reached = next((k + 1 for k, value in enumerate(means) if value >= 88.0), None)
    assert summary["queries_to_match"] == reached
    assert summary["beaten_repeats_pct"] == pytest.approx(100 * np.mean([row[-1] < 88.0 for row in curves]))


def test_baselines_of_a_whole_space_hold_both_searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "REPEATS", 10)
    monkeypatch.setattr(checks, "QUERIES", 20)
    valid = np.random.default_rng(0).permutation(SIZE) / 200
    whole = BenchmarkTable({"digits_valid_acc_6": valid, "digits_test_acc_6": valid - 1}, {})
    found = describe_run(derived(tmp_path / "run", [5], config()), whole, cells=0)["baselines"]
    assert list(found) == ["random_search", "regularised_evolution"]
    curve = regularised_evolution(valid, valid - 1, 20, 10, numpy_generator(0, "regularised evolution"))
    assert found["regularised_evolution"]["test_acc_mean"][-1] == pytest.approx(curve[:, 19].mean())
    best = int(np.argmax(valid))
    top = describe_run(derived(tmp_path / "best", [best], config()), whole, cells=0)["baselines"]["random_search"]
    assert (top["queries_to_match"], top["beaten_repeats_pct"]) == (None, 100.0)
    half = BenchmarkTable({"digits_valid_acc_6": valid, "digits_test_acc_6": sparse({5: 1.0})}, {})
    assert list(describe_run(derived(tmp_path / "half", [5], config()), half, cells=0)["baselines"]) == [
        "random_search"
    ]


def test_without_both_accuracies_there_are_no_baselines(tmp_path: Path) -> None:
    lone = BenchmarkTable({"digits_valid_acc_6": sparse({6: 1.0}), "digits_test_acc_6": sparse({5: 1.0})}, {})
    assert describe_run(derived(tmp_path / "run", [5], config()), lone, cells=0)["baselines"] == {}
    unmeasured = BenchmarkTable(
        {"digits_valid_acc_6": sparse({6: 1.0, 5: 1.0}), "digits_test_acc_6": sparse({6: 1.0})}, {}
    )
    found = describe_run(derived(tmp_path / "other", [5], config()), unmeasured, cells=0)["baselines"]["random_search"]
    assert (found["queries_to_match"], found["beaten_repeats_pct"]) == (None, None)


class Scores:
    """Stands for the one-shot scoring of a supernet: the validation accuracy turned round, and what it was asked."""

    def __init__(self, valid: np.ndarray) -> None:
        self.valid = valid
        self.asked: list[int] = []
        self.images: int | None = -1

    def __call__(
        self, settings: RunConfig, folder: RunFolder, cells: Any, images: int | None, report: Any
    ) -> list[float]:
        assert settings == folder.config()
        report("scoring")
        self.asked, self.images = [official_archs().index(str(cell)) for cell in cells], images
        return [100.0 - float(self.valid[index]) for index in self.asked]


def test_the_supernets_agreement_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    valid = sparse({k: k + 0.123456 for k in range(40)})
    held = BenchmarkTable({"digits_valid_acc_6": valid, "digits_test_acc_6": valid}, {})
    scores = Scores(valid)
    monkeypatch.setattr("cscdarts.training.one_shot.one_shot_scores", scores)
    said: list[str] = []
    folder = derived(tmp_path / "run", [5], config())
    found = describe_run(folder, held, cells=None, images=7, report=said.append)
    assert (scores.asked, scores.images, said) == (list(range(40)), 7, ["scoring"])
    assert (found["kendall_tau"], found["spearman_rho"]) == (pytest.approx(-1), pytest.approx(-1))
    assert found["top_k_overlap_pct"] == 0.0
    one_shot = found["one_shot"]
    assert (one_shot["cells"], one_shot["images_at_most"], one_shot["k"]) == (40, 7, 4)
    assert one_shot["index"] == list(range(40))
    assert one_shot["benchmark_valid_acc"] == [round(k + 0.1235, 4) for k in range(40)]
    assert one_shot["supernet_valid_acc"] == [round(99.8765 - k, 4) for k in range(40)]

    sample = describe_run(folder, held, cells=30)["one_shot"]
    assert sample["index"] == sorted(
        numpy_generator(0, "one-shot cells", 30).choice(40, size=30, replace=False).tolist()
    )
    assert (sample["k"], sample["images_at_most"]) == (3, None)
    assert describe_run(folder, held, cells=40)["one_shot"]["index"] == list(range(40))
    few = describe_run(folder, held, cells=2)
    assert few["one_shot"]["k"] == 1
    assert few["top_k_overlap_pct"] == 0.0
    lone = describe_run(folder, held, cells=1)
    assert (lone["one_shot"]["cells"], lone["kendall_tau"], lone["top_k_overlap_pct"]) == (1, None, None)


def test_without_a_supernet_the_check_says_so_and_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    found = describe_run(derived(tmp_path / "run", [5], config()), table(), cells=3, report=said.append)
    assert found["one_shot"] is None
    assert found["kendall_tau"] is None
    assert said[-1].startswith("no one-shot scores: the supernet is not at hand (")


@pytest.mark.parametrize(
    "values", [{"search.strategy": "random"}, {"search.strategy": "given", "search.genotype": official_archs()[5]}]
)
def test_architectures_without_a_search_have_no_supernet_to_ask(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cscdarts.training.one_shot.one_shot_scores", None)
    folder = RunFolder(tmp_path / "run")
    folder.create(config(**values))
    write_json(folder.file("genotype.json"), {"text": official_archs()[5], "epoch": 2})
    found = describe_run(folder, table())
    assert found["one_shot"] is None
    assert [(line["epoch"], line["index"]) for line in found["trajectory"]] == [(2, 5)]
    write_json(folder.file("genotype.json"), {"text": official_archs()[5]})
    assert [line["epoch"] for line in describe_run(folder, table())["trajectory"]] == [0]


def test_a_runs_check_is_written_and_its_numbers_follow_the_epochs(tmp_path: Path) -> None:
    write_index(
        BenchmarkTable(table().columns, {"kind": "invented", "name": "n", "source": "s"}), tmp_path / "t.parquet"
    )
    folder = derived(tmp_path / "run", [9, 5], config(**{"search.strategy": "random-ws"}))
    found = check_run(folder, f"index:{tmp_path / 't.parquet'}", cells=2)
    assert written(folder.file("check.json")) == found
    lines = [line for line in folder.curves() if line["stage"] == "check"]
    assert [(line["epoch"], line["step"]) for line in lines] == [(0, 0), (1, 0)]
    assert lines[0]["values"] == {  # cell 9 has no validation accuracy: nothing stands in its place
        "benchmark_test_acc_pct": 50.0, "benchmark_percentile": 20.0, "benchmark_regret_pct": 39.0,
    }  # fmt: skip
    assert lines[1]["values"] == {
        "benchmark_valid_acc_pct": 90.0, "benchmark_test_acc_pct": 88.0, "benchmark_percentile": 80.0,
        "benchmark_regret_pct": 1.0,
    }  # fmt: skip
    assert "no one-shot scores" in folder.file("log.txt").read_text()


def test_check_takes_a_run_folder_or_a_cell(tmp_path: Path) -> None:
    write_index(table(), tmp_path / "t.parquet")
    index = f"index:{tmp_path / 't.parquet'}"
    folder = derived(tmp_path / "run", [6, 5], config())
    said: list[str] = []
    found = check(str(folder.path), index, epochs=6, cells=2, report=said.append)
    assert [line["index"] for line in found["trajectory"]] == [6, 5]
    assert said
    assert list(found["datasets"]) == ["digits"]
    assert check("5", index, epochs=12)["datasets"]["cifar10"]["test_acc"] == 42.0
    assert check("5", index, epochs=200, trial=777)["datasets"]["cifar10"]["test_acc"] == 93.5
    trial = check(str(folder.path), index, epochs=200, cells=0)
    assert trial["primary"] == "cifar10"
    with pytest.raises(UserError):
        check("y" * 5000, index)


def test_a_check_passes_its_options_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = Scores(table().accuracy("cifar10", "valid"))
    monkeypatch.setattr("cscdarts.training.one_shot.one_shot_scores", scores)
    folder = derived(tmp_path / "run", [6, 5], config(**{"data.dataset": "cifar10"}))
    asked: list[tuple[str, Any]] = []

    def opened(name: str, report: Any) -> BenchmarkTable:
        asked.append((name, report))
        return table()

    monkeypatch.setattr(checks, "open_table", opened)
    said: list[str] = []
    shorter = check(str(folder.path), "b", epochs=12, cells=None, report=said.append)
    assert (shorter["datasets"]["cifar10"]["epochs"], shorter["one_shot"]["index"]) == (12, [5, 6])
    assert (scores.images, said, asked) == (None, ["scoring"], [("b", said.append)])
    assert shorter["one_shot"]["benchmark_valid_acc"] == [40.0, 41.0]
    one = check(str(folder.path), epochs=200, trial=777)
    assert (one["datasets"]["cifar10"]["test_acc"], asked[-1][0]) == (93.5, "embedded")
    assert one["one_shot"]["benchmark_valid_acc"] == [90.5]
    assert check(str(folder.path), cells=0)["one_shot"] is None
    cell = check("5", "b", epochs=200, trial=777)
    assert (cell["datasets"]["cifar10"]["test_acc"], cell["index"]) == (93.5, 5)


def test_by_default_a_check_scores_100_cells_and_that_of_a_grid_40_on_512_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valid = np.arange(SIZE, dtype=np.float64) / 200
    whole = BenchmarkTable({"digits_valid_acc_6": valid, "digits_test_acc_6": valid}, {})
    scores = Scores(valid)
    monkeypatch.setattr("cscdarts.training.one_shot.one_shot_scores", scores)
    monkeypatch.setattr(checks, "open_table", lambda name, report=None: whole)
    monkeypatch.setattr(checks, "_baselines", lambda *_: {})
    folder = derived(tmp_path / "run", [5], config())
    assert check(str(folder.path))["one_shot"]["cells"] == 100
    assert describe_run(folder, whole)["one_shot"]["cells"] == 100
    found = check_run(folder)
    assert (found["one_shot"]["cells"], found["one_shot"]["images_at_most"]) == (40, 512)


def test_a_run_that_no_benchmark_holds_is_refused_in_one_sentence(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(with_values(build({}), {"supernet.space": "darts", "supernet.ops": ["none", "skip_connect"]}))
    with pytest.raises(UserError) as caught:
        describe_run(folder, table())
    assert str(caught.value) == (
        f"{folder.path}: 'a run in the darts space with operations none, skip_connect' is not valid; allowed: a run in "
        "the nasbench201 space with its own operations. Tabular benchmarks hold no other cells."
    )
    unfinished = RunFolder(tmp_path / "unfinished")
    unfinished.create(config())
    with pytest.raises(UserError) as missing:
        describe_run(unfinished, table())
    assert str(missing.value) == f"{unfinished.path} has no genotype.json. Finish its search first."
