"""Checks of cells and runs, agreement of scorings, and the searches that only query a table."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.checks import run as checks
from benchmarks.checks.baselines import _mutate, random_search, regularised_evolution
from benchmarks.checks.run import check, check_run, describe_run
from benchmarks.tabular.agreement import agreement_of, kendall_tau, spearman_rho, top_k_overlap_pct
from benchmarks.tabular.index import write_index
from benchmarks.tabular.space import POWERS, SIZE, index_of_code, official_archs, official_codes, read_cell
from benchmarks.tabular.table import BenchmarkTable
from cscdarts.errors import UserError
from cscdarts.models.network import Network
from cscdarts.records.run_folder import RunFolder, append_line, read_json, write_json
from cscdarts.settings.config import EvaluationConfig, RunConfig
from cscdarts.settings.overrides import build, with_values
from cscdarts.spaces import NASBENCH201
from cscdarts.spaces.genotype import parse_genotype
from cscdarts.training.derivation import derive
from cscdarts.training.search import search
from tests.support.official_files import OfficialFiles, accuracy, mean_accuracy

REQUIRED = {"valid_acc", "test_acc", "rank", "percentile", "regret"}


def invented(dataset: str = "digits", epochs: int = 6) -> BenchmarkTable:
    """A table in which accuracy counts 3x3 convolutions, so that the best cell is known."""
    convolutions = np.array([arch.count("nor_conv_3x3") for arch in official_archs()], dtype=np.float64)
    skips = np.array([arch.count("skip_connect") for arch in official_archs()], dtype=np.float64)
    valid = 50 + 6 * convolutions + 0.1 * skips
    columns = {f"{dataset}_valid_acc_{epochs}": valid, f"{dataset}_test_acc_{epochs}": valid - 1}
    return BenchmarkTable(columns, {"kind": "invented", "name": "invented", "source": "test"})


ALL_CONV = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
ALL_SKIP = official_archs()[1835]


@pytest.fixture
def index(tmp_path: Path) -> str:
    write_index(invented(), tmp_path / "invented.parquet")
    return f"index:{tmp_path / 'invented.parquet'}"


def tiny(**values: Any) -> RunConfig:
    settings = {
        "data.search_fraction": 0.15,
        "supernet.space": "nasbench201",
        "supernet.channels": 4,
        "supernet.cells": 1,
        "search.epochs": 2,
        "search.batch_size": 32,
        "search.alpha_warmup": 0,
        "search.order": 1,
        "runtime.device": "cpu",
        "runtime.threads": 1,
    }
    return with_values(build({}), settings | values)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A real tiny search, derived."""
    folder = RunFolder(tmp_path_factory.mktemp("run") / "run")
    config = tiny()
    folder.create(config)
    search(config, folder, lambda: False, lambda line: None)
    derive(config, folder)
    return folder


def drawn(folder: RunFolder, archs: list[str], config: RunConfig | None = None) -> RunFolder:
    """A run folder whose alpha picks these cells, epoch by epoch; without a supernet."""
    config = with_values(config or tiny(), {"search.epochs": len(archs), "search.alpha_warmup": 0})
    folder.create(config)
    for epoch, arch in enumerate(archs):
        alpha = [[float(op == chosen) for op in NASBENCH201.ops] for chosen in read_cell(arch).ops]
        append_line(folder.file("alphas.jsonl"), {"epoch": epoch, "alpha": {"cell": alpha}})
    write_json(folder.file("search.json"), {"values": {}})
    derive(config, folder)
    return folder


def test_a_cell_has_the_declared_keys(index: str) -> None:
    found = check(ALL_CONV, index)
    assert {"arch", "index", "benchmark", "datasets"} <= set(found)
    assert found["arch"] == ALL_CONV
    assert official_archs()[found["index"]] == ALL_CONV
    assert found["benchmark"]["holds"] == SIZE
    entry = found["datasets"]["digits"]
    assert set(entry) >= REQUIRED
    assert (entry["valid_acc"], entry["test_acc"], entry["rank"], entry["percentile"], entry["regret"]) == (
        86,
        85,
        1,
        100,
        0,
    )
    json.dumps(found, allow_nan=False)


def test_string_index_and_file_name_the_same_cell(index: str, tmp_path: Path) -> None:
    (tmp_path / "cell.txt").write_text(ALL_SKIP + "\n", encoding="utf-8")
    found = [check(what, index) for what in (ALL_SKIP, "1835", str(tmp_path / "cell.txt"))]
    assert found[0] == found[1] == found[2]
    assert found[0]["datasets"]["digits"]["regret"] == pytest.approx(36 - 0.6)


@pytest.mark.parametrize("what", ["-1", "15625", "nothing", "DARTS_V2", "", "|none~0|"])
def test_what_is_neither_run_nor_cell_is_one_sentence(what: str, index: str) -> None:
    with pytest.raises(UserError) as error:
        check(what, index)
    assert "\n" not in str(error.value)


def test_epochs_and_trial_have_to_be_there(index: str) -> None:
    with pytest.raises(UserError, match="--epochs"):
        check("11", index, epochs=200)
    with pytest.raises(UserError, match="--trial"):
        check("11", index, trial=777)


def test_a_benchmark_that_holds_a_part_answers_from_it(files: OfficialFiles) -> None:
    name = f"nats:{files.folder}"
    found = check("11", name)
    assert found["benchmark"]["holds"] == 3
    assert sorted(found["datasets"]) == ["cifar10", "cifar100", "imagenet16-120"]
    assert found["datasets"]["cifar10"]["test_acc"] == pytest.approx(mean_accuracy(11, "cifar10", "ori-test", 200))
    assert found["datasets"]["cifar10"]["rank"] == 2  # behind architecture 284
    assert found["datasets"]["cifar10"]["percentile"] == pytest.approx(100 * 2 / 3)
    trial = check("11", name, trial=999)["datasets"]["cifar10"]
    assert (trial["test_acc"], trial["trial"]) == (accuracy(11, "cifar10", "ori-test", 200, 999), 999)
    with pytest.raises(UserError, match="3 of 15625"):
        check("12", name)


FREE = "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
WITH_SKIP = FREE.replace("none~0", "skip_connect~0")
LAST_NODE = "|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2"
ALL_CONV_WITH_SKIP = ALL_CONV.replace(LAST_NODE, LAST_NODE.replace("nor_conv_3x3~0", "skip_connect~0"))


def test_the_identity_is_the_edge_from_input_to_output() -> None:
    """A cell without that edge and with the identity is the table's cell with `skip_connect` there: equal outputs."""
    settings = EvaluationConfig(channels=4, cells=2)
    with_identity, with_edge = (
        Network(parse_genotype(arch), settings, tiny().supernet, identity, classes=10).double().eval()
        for arch, identity in ((FREE, "cell"), (WITH_SKIP, "none"))
    )
    with_edge.load_state_dict(with_identity.state_dict())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert torch.allclose(with_identity(x)[0], with_edge(x)[0], rtol=1e-12)


@pytest.mark.parametrize(
    ("arch", "values", "expected"),
    [
        (FREE, {}, ("none", True, WITH_SKIP)),
        (ALL_CONV, {}, ("nor_conv_3x3", False, ALL_CONV_WITH_SKIP)),
        (FREE, {"supernet.identity_phases": "eval"}, ("none", True, WITH_SKIP)),
        (FREE, {"supernet.identity_phases": "search"}, None),
        (FREE, {"supernet.identity": "edge"}, None),
        (FREE, {"supernet.identity_scale": 0.5}, None),
        (FREE, {"evaluation.split_eval": True}, None),
    ],
)  # fmt: skip
def test_a_run_is_looked_up_with_its_identity_as_well(
    tmp_path: Path, arch: str, values: dict[str, Any], expected: tuple[str, bool, str] | None
) -> None:
    """Where the retrained network adds each whole cell's input to its output."""
    found = describe_run(drawn(RunFolder(tmp_path / "run"), [arch], tiny(**values)), invented(), cells=0)
    assert found["arch"] == arch
    reading = found["identity_as_edge"]
    if expected is None:
        assert reading is None
        return
    assert (reading["instead_of"], reading["exact"], reading["arch"]) == expected
    table = invented()
    assert reading["datasets"]["digits"]["test_acc"] == table.accuracy("digits", "test")[table.index(expected[2])]


def test_the_trajectory_follows_alpha(tmp_path: Path) -> None:
    folder = drawn(RunFolder(tmp_path / "run"), [ALL_SKIP, ALL_CONV, ALL_SKIP])
    found = describe_run(folder, invented(), cells=0)
    assert [line["test_acc"] for line in found["trajectory"]] == [pytest.approx(49.6), 85.0, pytest.approx(49.6)]
    assert [line["epoch"] for line in found["trajectory"]] == [0, 1, 2]
    assert found["trajectory"][1]["rank"] == 1
    assert found["trajectory"][1]["datasets"]["digits"]["regret"] == 0
    assert found["arch"] == ALL_SKIP
    assert found["kendall_tau"] is None
    assert found["primary"] == "digits"


def test_a_run_with_a_supernet_is_checked_whole(
    searched: RunFolder, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "REPEATS", 20)
    found = check_run(searched, index, cells=12)
    assert read_json(searched.file("check.json")) == found
    json.dumps(found, allow_nan=False)
    assert len(found["trajectory"]) == 2
    assert found["one_shot"]["cells"] == len(found["one_shot"]["supernet_valid_acc"]) == 12
    scores = np.array(found["one_shot"]["supernet_valid_acc"])
    truth = np.array(found["one_shot"]["benchmark_valid_acc"])
    assert found["kendall_tau"] == pytest.approx(kendall_tau(scores, truth), abs=1e-9)
    assert 0 <= found["top_k_overlap_pct"] <= 100
    assert found["baselines"]["random_search"]["repeats"] == 20
    lines = [line for line in searched.curves() if line["stage"] == "check"]
    assert [line["epoch"] for line in lines] == [0, 1]
    assert set(lines[0]["values"]) == {
        "benchmark_valid_acc_pct", "benchmark_test_acc_pct", "benchmark_percentile", "benchmark_regret_pct",
    }  # fmt: skip
    assert lines[1]["values"]["benchmark_test_acc_pct"] == found["trajectory"][1]["test_acc"]
    assert check_run(searched, index, cells=12) == found
    assert len([line for line in searched.curves() if line["stage"] == "check"]) == 2


def test_check_of_a_run_writes_nothing(searched: RunFolder, index: str) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in searched.path.iterdir()}
    found = check(str(searched.path), index, cells=3)
    assert found["one_shot"]["cells"] == 3
    assert {path.name: path.stat().st_mtime_ns for path in searched.path.iterdir()} == before


def test_the_sample_of_cells_is_the_same_for_every_run(searched: RunFolder) -> None:
    first, second = (describe_run(searched, invented(), cells=5)["one_shot"]["index"] for _ in range(2))
    assert first == second


def test_runs_of_another_space_or_without_a_cell_are_refused(tmp_path: Path, index: str) -> None:
    darts = RunFolder(tmp_path / "darts")
    darts.create(with_values(build({}), {"supernet.space": "darts"}))
    with pytest.raises(UserError, match="darts space"):
        check_run(darts, index)
    unfinished = RunFolder(tmp_path / "unfinished")
    unfinished.create(tiny())
    with pytest.raises(UserError, match=r"genotype\.json"):
        check(str(unfinished.path), index)
    assert not unfinished.file("check.json").exists()


def test_a_random_run_has_one_line_and_no_supernet(tmp_path: Path) -> None:
    config = tiny(**{"search.strategy": "random"})
    folder = RunFolder(tmp_path / "run")
    folder.create(config)
    search(config, folder, lambda: False, lambda line: None)
    derive(config, folder)
    found = describe_run(folder, invented())
    assert len(found["trajectory"]) == 1
    assert found["trajectory"][0]["arch"] == found["arch"]
    assert found["kendall_tau"] is None


def test_look_ups_say_what_they_cannot_say(index: str) -> None:
    assert "without identity connection and without channel split" in check("11", index)["limits"]


def test_equal_networks_under_other_names_are_listed(index: str) -> None:
    dead = check("|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|", index)
    same = [official_archs()[place] for place in dead["same_network"]["index"]]
    assert "|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|" in same
    assert dead["same_network"]["count"] == len(same)
    assert dead["index"] not in dead["same_network"]["index"]
    assert check(ALL_CONV, index)["same_network"]["count"] == 0


# --- agreement


def test_kendall_and_spearman_by_hand() -> None:
    a, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])
    assert kendall_tau(a, b) == pytest.approx(4 / 6)
    assert spearman_rho(a, b) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert kendall_tau(a, -a) == pytest.approx(-1)
    assert np.isnan(kendall_tau(a, np.ones(4)))
    assert np.isnan(spearman_rho(a[:1], b[:1]))


def test_top_k_overlap_by_hand() -> None:
    a, b = np.array([4.0, 3.0, 2.0, 1.0]), np.array([4.0, 1.0, 3.0, 2.0])
    assert top_k_overlap_pct(a, b, 1) == 100
    assert top_k_overlap_pct(a, b, 2) == 50
    assert top_k_overlap_pct(a, b, 4) == 100
    # A constant scoring overlaps with any as chance does: k / n.
    assert top_k_overlap_pct(np.ones(4), a, 2) == pytest.approx(50)
    order = np.array([2, 0, 3, 1])
    assert top_k_overlap_pct(a[order], b[order], 2) == 50
    with pytest.raises(ValueError, match="k=5"):
        top_k_overlap_pct(a, b, 5)


def test_a_table_agrees_with_itself_and_disagrees_with_its_reverse() -> None:
    table = invented()
    (same,) = agreement_of(table, table)
    assert (same["spearman"], same["kendall"]) == (pytest.approx(1), pytest.approx(1))
    assert 0 < same["top_10_overlap_pct"] <= 100  # many cells are tied here, and ties are broken at random
    turned = BenchmarkTable({name: 100 - values for name, values in invented("cifar10").columns.items()}, {})
    (reverse,) = agreement_of(table, turned)
    assert reverse["spearman"] == pytest.approx(-1)
    assert (reverse["first"], reverse["second"], reverse["cells"]) == ("digits", "cifar10", SIZE)


# --- searches on a table


def test_incumbents_are_chosen_by_validation_and_reported_by_test() -> None:
    valid, test = np.full(SIZE, np.nan), np.full(SIZE, np.nan)
    valid[[1, 2]], test[[1, 2]] = [90.0, 80.0], [10.0, 20.0]
    found = random_search(valid, test, queries=200, repeats=50, draw=np.random.default_rng(0))
    assert found.shape == (50, 200)
    assert (found[:, -1] == 10).all()  # the better by validation, though worse by test
    assert set(np.unique(found)) == {10.0, 20.0}


def test_random_search_matches_its_expectation() -> None:
    table = invented()
    valid = table.accuracy("digits", "valid")
    found = random_search(valid, valid, queries=8, repeats=4000, draw=np.random.default_rng(1))
    # E[max of n uniform draws] from the sorted values: sum v_(i) ((i/N)^n - ((i-1)/N)^n).
    ordered, steps = np.sort(valid), np.arange(SIZE + 1) / SIZE
    for count in (1, 3, 8):
        expected = float((ordered * np.diff(steps**count)).sum())
        assert found[:, count - 1].mean() == pytest.approx(expected, abs=0.35)
    assert (np.diff(found, axis=1) >= 0).all()


def test_mutation_changes_one_edge_to_another_operation() -> None:
    draw = np.random.default_rng(2)
    codes = draw.integers(0, SIZE, 3000)
    changed = _mutate(codes, draw)
    before, after = (values[:, None] // POWERS % 5 for values in (codes, changed))
    assert ((before != after).sum(1) == 1).all()
    edges = np.bincount(np.argmax(before != after, axis=1), minlength=6)
    assert (edges > 400).all()


def test_evolution_climbs_faster_than_chance_and_ends_at_the_best() -> None:
    valid = invented().accuracy("digits", "valid")
    draw = np.random.default_rng(3)
    evolved = regularised_evolution(valid, valid, queries=200, repeats=60, draw=draw)
    drawn_at_random = random_search(valid, valid, queries=200, repeats=60, draw=draw)
    assert evolved.shape == (60, 200)
    assert (np.diff(evolved, axis=1) >= 0).all()
    assert evolved[:, -1].mean() > drawn_at_random[:, -1].mean() + 3
    assert evolved[:, :10].mean() == pytest.approx(drawn_at_random[:, :10].mean(), abs=2.5)  # the first ten are random


def test_evolution_asks_only_neighbours_of_the_living() -> None:
    # One lonely peak: once it is in the population every child within its life time can descend from it.
    valid = np.zeros(SIZE)
    peak = int(index_of_code()[0])
    near = [int(index_of_code()[digit * power]) for power in POWERS.tolist() for digit in range(1, 5)]
    valid[near] = 1.0
    valid[peak] = 2.0
    assert len(set(near)) == 24
    assert official_codes()[peak] == 0
    found = regularised_evolution(valid, valid, queries=3000, repeats=20, draw=np.random.default_rng(4))
    assert (found[:, -1] >= 1).mean() > 0.9


def plain_evolution(valid: np.ndarray, queries: int, population: int, tournament: int, seed: int) -> list[int]:
    """What one repeat of aging evolution asks, cell by cell, with the draws of `regularised_evolution`."""
    draw = np.random.default_rng(seed)
    asked = [int(index) for index in draw.integers(SIZE, size=(1, min(population, queries)))[0]]
    while len(asked) < queries:
        keys = draw.random((1, population))[0].tolist()
        alive = asked[-population:]
        chosen = [alive[place] for place in sorted(range(population), key=keys.__getitem__)[:tournament]]
        edge, ahead = int(draw.integers(6, size=1)[0]), int(draw.integers(1, 5, size=1)[0])
        # A cell's code is six base-5 digits, one per edge, the first edge's the highest.
        code = int(official_codes()[max(chosen, key=lambda index: valid[index])])
        digits = [code // 5**place % 5 for place in (5, 4, 3, 2, 1, 0)]
        digits[edge] = (digits[edge] + ahead) % 5
        asked.append(int(index_of_code()[int("".join(map(str, digits)), base=5)]))
    return asked


@pytest.mark.parametrize(("queries", "population", "tournament"), [(60, 10, 3), (25, 6, 5), (4, 10, 3), (10, 10, 3)])
def test_evolution_equals_a_plainly_written_one(queries: int, population: int, tournament: int) -> None:
    """On a table without equal accuracies, whose test accuracies name the cells."""
    valid = np.random.default_rng(7).permutation(SIZE).astype(np.float64)
    names = np.arange(SIZE, dtype=np.float64)
    for seed in (1, 2, 3):
        draw = np.random.default_rng(seed)
        found = regularised_evolution(valid, names, queries, 1, draw, population, tournament)
        asked = plain_evolution(valid, queries, population, tournament, seed)
        best = [max(asked[: count + 1], key=lambda index: valid[index]) for count in range(queries)]
        assert found.tolist() == [best]
    default = regularised_evolution(valid, names, 60, 2, np.random.default_rng(1))
    assert np.array_equal(default, regularised_evolution(valid, names, 60, 2, np.random.default_rng(1), 10, 3))
