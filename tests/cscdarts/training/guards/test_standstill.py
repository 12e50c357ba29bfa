"""Runs that go on and learn nothing: each sign on known rows of numbers, then in a search and a retraining."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cscdarts.errors import Stopped
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import build, with_values
from cscdarts.spaces import CLOSED, parse_genotype
from cscdarts.training.guards.standstill import AlphaAtRest, Chance, Repeated
from cscdarts.training.retrain import RetrainRun
from cscdarts.training.search import search
from tests.support.records import written

NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def test_a_sign_counts_once_after_so_many_epochs_on_end() -> None:
    rows = Repeated(3)
    signs = [True, True, False, True, True, True, True, False, True, True, True]
    assert [rows.seen(sign) for sign in signs].index(True) == 5
    assert sum(rows.seen(sign) for sign in signs) == 0
    assert Repeated(1).seen(True)


def told(values: list[Any], epochs: int = 2, first: int = 0, beta: list[Any] | None = None) -> dict[int, list[str]]:
    """Epoch -> what is said, of one row of alpha an epoch."""
    watch = AlphaAtRest(epochs, first)
    said = {
        epoch: watch.epoch(epoch, {"cell": [row]}, {} if beta is None else {"cell": beta[epoch]})
        for epoch, row in enumerate(values)
    }
    return {epoch: lines for epoch, lines in said.items() if lines}


def test_alpha_that_does_not_move_is_told_when_the_last_epoch_of_the_row_ends() -> None:
    still = [[0.1, 0.2], [0.3, 0.1], [0.3, 0.1], [0.3, 0.1 + 1e-7], [0.3, 0.1], [0.5, 0.1]]
    found = told(still)
    assert list(found) == [3]
    assert found[3][0].startswith("for 2 epochs no architecture parameter has moved by more than 1e-06 in one, up to")
    assert "epoch 4" in found[3][0]
    assert told(still, epochs=4) == {}
    assert told([[0.0, 1.0], [0.0, 1.00001], [0.0, 1.00002]]) == {}
    moving_beta = [[0.1], [0.2], [0.3], [0.4], [0.5], [0.6]]
    assert told(still, beta=moving_beta) == {}


def test_alpha_before_its_warm_up_ends_is_not_held_against_it() -> None:
    frozen = [[0.1, 0.2]] * 4
    assert told([*frozen, [0.4, 0.2], [0.5, 0.2]], first=4) == {}
    assert list(told([*frozen, [0.1, 0.2], [0.1, 0.2]], first=4)) == [5]


def test_equal_weights_are_told_wherever_alpha_stands() -> None:
    """Softmax knows no level: alpha may move as a whole and still choose nothing."""
    found = told([[level, level + 1e-7, level] for level in (0.0, 0.1, 0.2)])
    assert list(found) == [1]
    assert "all operations have weighed the same on every edge, up to epoch 2" in found[1][0]
    assert told([[0.0, 1e-3], [0.1, 0.101], [0.2, 0.2005]]) == {}  # as DARTS begins


def test_one_edge_that_has_decided_is_enough() -> None:
    watch = AlphaAtRest(1, 0)
    assert watch.epoch(0, {"normal": [[0.0, 0.0]], "reduce": [[0.0, 0.0], [0.0, 1.0]]}, {}) == []
    assert len(watch.epoch(1, {"normal": [[0.5, 0.5]], "reduce": [[0.2, 0.2], [0.3, 0.3]]}, {})) == 1


def test_an_operation_that_is_no_candidate_of_its_edge_decides_nothing() -> None:
    closed = [[0.2, CLOSED, 0.2], [0.3, CLOSED, 0.3], [0.4, CLOSED, 0.4]]
    assert list(told(closed)) == [1]
    assert told([[0.2, CLOSED, 0.3], *closed[1:]], epochs=3) == {}


def test_chance_is_the_error_of_the_most_frequent_class_less_two_standard_errors() -> None:
    assert Chance([50, 50], 1).error_pct == 50
    skewed = Chance([900, 50, 50], 1)
    assert skewed.error_pct == pytest.approx(10)
    # standard error sqrt(0.9 * 0.1 / 1000) = 0.949 points
    assert skewed.limit_pct == pytest.approx(10 - 2 * 100 * np.sqrt(0.09 / 1000))
    assert [skewed.reached(error) for error in (8.0, 8.2, 10.0, 50.0)] == [False, True, True, True]


def test_answers_by_chance_are_told_once() -> None:
    watch = Chance([100] * 10, 3)
    said = [watch.epoch(epoch, error, "training error") for epoch, error in enumerate([90, 89.5, 60, 90, 91, 90, 90])]
    assert [bool(lines) for lines in said] == [False, False, False, False, False, True, False]
    assert "no better than one answer to all images, 90.00 %, up to epoch 6" in said[5][0]
    assert Chance([100] * 10, 1).tested(50.0) == []
    assert "test error of 90.00 %" in Chance([100] * 10, 1).tested(90.0)[0]


def config(**values: Any) -> RunConfig:
    sizes = {
        "data.search_fraction": 0.03, "supernet.space": "nasbench201", "supernet.channels": 4, "supernet.cells": 1,
        "supernet.identity": "none", "search.order": 1, "search.epochs": 4, "search.batch_size": 20,
        "search.alpha_warmup": 0, "evaluation.channels": 4, "evaluation.cells": 1, "evaluation.epochs": 3,
        "evaluation.batch_size": 700, "evaluation.cutout": 0, "runtime.device": "cpu", "runtime.threads": 1,
        "runtime.standstill_epochs": 2,
    }  # fmt: skip
    return with_values(build({}), sizes | values)


def searched(path: Path, stops: int, /, **values: Any) -> tuple[dict[str, Any], list[str]]:
    """The record of a search and what it said; it is stopped and taken up again so many times."""
    chosen, said, left = config(**values), list[str](), [stops]
    folder = RunFolder(path)
    folder.create(chosen)

    def stop() -> bool:
        left[0] -= 1
        return left[0] >= 0

    while not folder.has("search"):
        try:
            search(chosen, folder, stop, said.append)
        except Stopped:
            assert stops
    return written(folder.file("search.json")), [line for line in said if line.startswith("search: ")]


@pytest.mark.parametrize("stops", [0, 3])
def test_a_search_whose_alpha_rests_says_so_once_and_records_it(stops: int, tmp_path: Path) -> None:
    """A step of 1e-12 is lost in alpha's own digits; stopping and resuming neither forgets nor repeats."""
    record, said = searched(tmp_path, stops, **{"search.alpha_lr": 1e-12})
    resting = [line for line in said if "no architecture parameter has moved" in line]
    assert len(resting) == 1
    assert resting[0].removeprefix("search: ") in record["notes"]


def test_a_search_that_chooses_is_not_told_to_rest(tmp_path: Path) -> None:
    record, said = searched(tmp_path, 0, **{"search.alpha_lr": 0.1})
    assert not any("architecture parameter" in line or "weighed the same" in line for line in said)
    assert not any("architecture parameter" in note for note in record.get("notes", []))


def test_weights_shared_by_sampled_paths_have_no_alpha_to_rest(tmp_path: Path) -> None:
    _, said = searched(tmp_path, 0, **{"search.strategy": "random-ws"})
    assert not any("architecture parameter" in line or "weighed the same" in line for line in said)


def test_a_network_that_gives_one_answer_says_so_in_training_and_testing(tmp_path: Path) -> None:
    chosen, said = config(), list[str]()
    run = RetrainRun(chosen, RunFolder(tmp_path), parse_genotype(NOTHING), lambda: False, said.append)
    while run.epoch < 3:
        run.train_epoch()
        run.close_epoch()
    run.finish()
    notes = written(run.folder.file("result.json"))["notes"]
    assert [line.removeprefix("retrain: ") for line in said if line.startswith("retrain: ")] == notes
    assert "training error has been no better than one answer to all images" in notes[0]
    assert notes[1].startswith("the test error of ")
    again = RetrainRun(chosen, RunFolder(tmp_path), parse_genotype(NOTHING), lambda: False, said.append)
    again.resume()
    assert again.progress.notes == notes[:1]
