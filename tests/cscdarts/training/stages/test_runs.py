"""Searches in stages as they run: each stage starts afresh with what the one before left, one stage is DARTS, and what
is killed in any stage ends with the bits of what was not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.checks.run import _holds
from cscdarts.errors import Stopped
from cscdarts.records.checkpoint import read_state
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import with_values
from cscdarts.spaces import SPACES, parse_genotype
from cscdarts.spaces.rules import open_columns, strongest_columns
from cscdarts.training.derivation import derived_cell
from cscdarts.training.guards.standstill import SearchProgress
from cscdarts.training.one_shot import one_shot_scores
from cscdarts.training.search import SearchRun, search
from tests.cscdarts.training.test_search import CPU, Crash, fingerprint, go, never, silent, tiny
from tests.support.records import written


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def staged(space: str = "nasbench201", /, **values: Any) -> RunConfig:
    """Three stages of one epoch with three steps each: 1, 1 and 2 cells, 5, 4 and 3 operations an edge."""
    return tiny("pdarts", space, **{"evaluation.epochs": 1, **values})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return go(staged(), tmp_path_factory.mktemp("staged"))


def searched(config: RunConfig, path: Path) -> RunFolder:
    folder = RunFolder(path)
    folder.create(config)
    search(config, folder, never, silent)
    return folder


def alphas(folder: RunFolder) -> list[dict[str, Any]]:
    return [{kind: np.array(rows) for kind, rows in line["alpha"].items()} for line in folder.alphas()]


def test_each_stage_has_what_the_one_before_left(whole: RunFolder) -> None:
    first, second, third = alphas(whole)
    assert open_columns(first)["cell"] == [(0, 1, 2, 3, 4)] * 6
    assert open_columns(second) == strongest_columns(first, 4)
    assert open_columns(third) == strongest_columns(second, 3)
    assert {len(edge) for edge in open_columns(third)["cell"]} == {3}


def test_the_records_say_stage_depth_and_what_was_left(whole: RunFolder) -> None:
    curves = [line["values"] for line in whole.curves() if line["stage"] == "search"]
    told = [(values["search_stage"], values["search_cells"], values["weight_lr"]) for values in curves]
    assert told == [(1, 1, 0.1), (2, 1, 0.1), (3, 2, 0.1)]
    genotype = written(whole.file("genotype.json"))
    names = [[SPACES["nasbench201"].ops[column] for column in edge] for edge in open_columns(alphas(whole)[2])["cell"]]
    assert (genotype["candidates"], genotype["epoch"], genotype["rule"]) == ({"cell": names}, 2, "skip-cap")
    assert _holds(genotype["candidates"], genotype["text"])
    dropped = next(op for op in SPACES["nasbench201"].ops if op not in names[0])
    other = genotype["text"].replace(genotype["text"][1:].split("~")[0], dropped, 1)
    assert not _holds(genotype["candidates"], other)
    record = written(whole.file("search.json"))
    assert [stage["search_cells"] for stage in record["stages"]] == [1, 1, 2]
    for name in ("supernet_params_m", "supernet_macs_m", "memory_access_mb", "saved_mb"):
        assert record["values"][name] == max(stage[name] for stage in record["stages"])
    macs = [stage["supernet_macs_m"] for stage in record["stages"]]
    assert macs[0] > macs[1]


def test_a_stage_starts_afresh(tmp_path: Path) -> None:
    run = SearchRun(staged(), RunFolder(tmp_path), never, silent)
    start = [alpha.detach().clone() for alpha in run.architecture]
    run.train_epoch()
    run.close_epoch()
    assert (run.number, run.epoch, run.epoch_of_stage) == (1, 1, 0)
    assert not run.weight_optimizer.state
    assert not run.alpha_optimizer.state
    open_now = run.supernet.alphas["cell"].detach() > -1
    assert float(run.supernet.alphas["cell"].detach()[open_now].abs().max()) < 0.01
    assert not torch.equal(run.supernet.alphas["cell"].detach()[open_now], start[0][open_now])


def test_one_stage_is_darts_bit_for_bit(tmp_path: Path) -> None:
    darts = tiny("darts1", **{"search.epochs": 2})
    one = with_values(darts, {"search.stage_candidates": 3})
    assert one.hash != darts.hash
    found, wanted = (searched(config, tmp_path / config.hash) for config in (one, darts))
    assert found.alphas() == wanted.alphas()
    mine, theirs = (read_state(folder.file("checkpoint.pt"), CPU)["supernet"] for folder in (found, wanted))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_the_first_stage_is_darts_of_its_length_and_depth(whole: RunFolder, tmp_path: Path) -> None:
    darts = searched(tiny("darts1", **{"search.epochs": 1, "search.alpha_warmup": 0}), tmp_path)
    assert whole.alphas()[0] == darts.alphas()[0]


@pytest.mark.parametrize(("kind", "after"), [("stop", 1), ("stop", 2), ("crash", 2)])
def test_killed_in_every_stage_and_resumed_is_undisturbed(
    whole: RunFolder, kind: str, after: int, tmp_path: Path
) -> None:
    """Interrupted again and again, so many questions after it went on: within all stages, and between them."""
    stages, calls = set(), 0

    def disturbed() -> bool:
        nonlocal calls
        calls = (calls + 1) % after
        if calls == 0 and kind == "crash":
            raise Crash
        return calls == 0

    # What crashes saves at each step, or it would never get on.
    config = staged(**{"runtime.checkpoint_minutes": 0.0 if kind == "crash" else 5.0})
    for _ in range(60):
        try:
            folder = go(config, tmp_path, disturbed)
            break
        except (Stopped, Crash):
            calls = 0
            state = read_state(RunFolder(tmp_path).file("checkpoint.pt"), CPU)
            stages.add(config.search.stage_of(state["epoch"]))
    assert stages == {0, 1, 2}
    assert fingerprint(folder) == fingerprint(whole)


def test_a_torn_checkpoint_falls_back_into_the_stage_before(whole: RunFolder, tmp_path: Path) -> None:
    folder, calls = RunFolder(tmp_path), 0
    folder.create(staged())

    def at_the_second_stage() -> bool:
        nonlocal calls
        calls += 1
        return calls == 3  # the question after the first stage's last step

    with pytest.raises(Stopped):
        search(staged(), folder, at_the_second_stage, silent)
    newest = folder.file("checkpoint.pt")
    assert read_state(newest, CPU)["epoch"] == 1
    newest.write_bytes(newest.read_bytes()[:-1])
    assert fingerprint(go(staged(), tmp_path)) == fingerprint(whole)


def test_without_any_good_checkpoint_the_first_stage_comes_again(whole: RunFolder, tmp_path: Path) -> None:
    folder, said = RunFolder(tmp_path), list[str]()
    config = staged()
    folder.create(config)
    run = SearchRun(config, folder, never, said.append)
    for _ in range(2):
        run.train_epoch()
        run.close_epoch()
    for path in tmp_path.glob("checkpoint*"):
        path.write_bytes(path.read_bytes()[:-1])
    again = SearchRun(config, folder, never, said.append)
    again.resume()
    assert (again.epoch, again.number, again.present.supernet.cells) == (0, 0, 1)
    assert any("starts afresh" in line for line in said)


VARIANTS = [
    ("nasbench201", {"supernet.split_ratio": "1/2", "supernet.split_pick": "random", "supernet.identity": "cell"}),
    pytest.param(
        "darts",
        {"supernet.split_ratio": "1/2", "supernet.identity": "edge", "supernet.edge_norm": True},
        marks=pytest.mark.slow,
    ),
    ("nasbench201", {"search.weighting": "gumbel-hard", "search.order": 2, "search.derive": "last"}),
    ("nasbench201", {"search.weighting": "dirichlet", "search.derive": "perturbation", "search.derive_finetune": 0}),
    pytest.param("darts_s1", {"supernet.cells": 3, "evaluation.cells": 3}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("space", "values"), VARIANTS, ids=str)
def test_stages_go_with_split_identity_and_other_members(space: str, values: dict[str, Any], tmp_path: Path) -> None:
    config = staged(space, **values)
    folder = go(config, tmp_path / "whole")
    cell = parse_genotype(str(written(folder.file("genotype.json"))["text"]), space)
    for kind, edges in open_columns(alphas(folder)[-1]).items():
        for source, target, op in cell.edges(kind):
            row = SPACES[space].edges.index((source, target))
            assert (config.supernet.ops or ()).index(op) in edges[row]
    if space == "nasbench201":
        (score,) = one_shot_scores(config, folder, [cell])
        assert 0 <= score <= 100


def test_rules_read_the_last_stage_alone(whole: RunFolder) -> None:
    """Also where an earlier epoch would be taken: no supernet of another stage is compared with the last one's."""
    curves = [dict(line) for line in whole.curves()]
    curves[0]["values"] = {**curves[0]["values"], "search_valid_error_pct": 0.0}
    for name in ("best", "skip-stop"):
        config = staged(**{"search.derive": name, "search.derive_skips": 1})
        found = derived_cell(config, whole.alphas(), curves, {})
        assert found.epoch == 2
        assert found.candidates == written(whole.file("genotype.json"))["candidates"]


def test_alpha_that_waits_in_each_stage_is_not_told_as_at_rest() -> None:
    config = staged(**{"search.epochs": 8, "search.alpha_warmup": 3, "runtime.standstill_epochs": 2})
    progress = SearchProgress(config, [10, 10])

    def told(moving: Callable[[int], bool]) -> list[str]:
        value, found = 0.0, list[str]()
        for epoch in range(12):
            value += 0.1 * moving(epoch)
            alpha = [[value, -value]] * 6
            found += progress.epoch({"epoch": epoch, "alpha": {"cell": alpha}}, 1.0)
        return found

    assert told(lambda epoch: epoch % 4 == 3) == []
    assert config.search.epochs_of_stage == 4
