"""Rules that stop a search in its record, on alphas made by hand, and what is recorded of each rule."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder, append_line, write_json
from cscdarts.settings.overrides import build, with_values
from cscdarts.spaces import DARTS, NASBENCH201, SPACES, register_space
from cscdarts.training.derivation import DerivedCell, derive, derived_cell, genotype_of_line
from tests.support.records import written
from tests.support.training.alphas import CONV, SKIP, config, curves, lines, with_skips

# --- stop at k skip connections -------------------------------------------------------------------


def stopped(skips: Sequence[int], most: int, **values: Any) -> DerivedCell:
    chosen = config(search__derive="skip-stop", search__derive_skips=most, **values)
    return derived_cell(chosen, lines([with_skips(count) for count in skips]), [], {})


@pytest.mark.parametrize(
    ("skips", "most", "epoch"),
    [
        ([0, 1, 2, 3, 4], 2, 2),
        ([0, 1, 3, 0, 2], 2, 2),  # more at once counts too, and what comes after does not matter
        ([0, 1, 1, 2, 0], 1, 1),
        ([2, 0, 0, 0, 0], 2, 0),
        ([0, 1, 2, 3, 6], 6, 4),
        ([0, 1, 1, 1, 0], 2, 4),  # never: the last
    ],
)
def test_a_search_stops_at_the_first_epoch_with_k_skip_connections(skips: list[int], most: int, epoch: int) -> None:
    found = stopped(skips, most)
    assert found.epoch == epoch
    assert found.genotype.skips == skips[epoch]
    fired = any(count >= most for count in skips)
    assert found.why == (
        f"the first epoch whose cell has {most} or more skip connections: it has {skips[epoch]}"
        if fired
        else f"no epoch's cell has {most} or more skip connections, so the last epoch"
    )


def test_epochs_before_alpha_is_trained_stop_nothing() -> None:
    """Alpha is random there, and a random cell may have many skip connections."""
    assert stopped([6, 6, 0, 2, 2], 2, search__alpha_warmup=2).epoch == 3
    assert stopped([6, 6, 6, 2, 2], 2, search__alpha_warmup=2).epoch == 2


def test_only_the_normal_cell_stops_a_search_in_the_darts_space() -> None:
    def alpha(normal: int, reduce: int) -> dict[str, Any]:
        """So many skip connections among the first inputs of the nodes of each kind of cell."""
        kinds = {}
        for kind, count in (("normal", normal), ("reduce", reduce)):
            rows = np.zeros((14, 8))
            rows[:, DARTS.ops.index(CONV)] = 1.0
            for node in list(DARTS.incoming.values())[:count]:
                rows[node[0], DARTS.ops.index(SKIP)] = 2.0
            kinds[kind] = rows.tolist()
        return {"alpha": kinds}

    chosen = config("darts", search__derive="skip-stop")
    found = derived_cell(chosen, lines([alpha(0, 4), alpha(1, 4), alpha(2, 0), alpha(4, 4)]), [], {})
    assert found.epoch == 2
    assert found.why == "the first epoch whose normal cell has 2 or more skip connections: it has 2"


# --- stop when the largest eigenvalue grows -------------------------------------------------------


def eigenvalues(values: Sequence[float | None]) -> list[dict[str, Any]]:
    return curves([{} if value is None else {"alpha_hessian_eigenvalue": value} for value in values])


def grown(values: Sequence[float | None], window: int, growth: float = 4 / 3, **more: Any) -> DerivedCell:
    given = {"search__derive_window": window, "search__derive_growth": growth, "search__hessian_every": 1, **more}
    chosen = config(search__derive="eigenvalue-stop", search__epochs=len(values), **given)
    cells = lines([with_skips(number % 7) for number in range(len(values))])
    return derived_cell(chosen, cells, eigenvalues(values), {})


@pytest.mark.parametrize(
    ("values", "window", "epoch"),
    [
        ([1, 1, 1, 2, 2, 2], 1, 2),  # each epoch against the one before it
        ([1, 1.3, 1.6, 2.2], 1, 2),  # 30 %, then 23 %, then 37 %
        ([1, 1, 1, 1], 1, 3),
        ([4, 3, 2, 1], 1, 3),
        ([0.75, 1, 1, 1], 1, 3),  # a ratio of 0.75 is not below 0.75
        ([0.75, 1.001, 1, 1], 1, 0),
        # Means over three epochs around: 1, 1, 1, 4/3, 7/3, 10/3; three epochs apart 4/3, 7/3, 10/3.
        ([1, 1, 1, 1, 1, 2, 4, 4], 3, 2),
        ([1, 1, 1, 1, 1, 4, 4, 4], 3, 1),
        # Whole windows only: the last two epochs alone, or the first two, would say that it grew.
        ([1, 1, 1, 1, 1, 1, 1, 1.9], 3, 7),
        ([0.4, 1, 1, 1, 1, 1, 1, 1], 3, 7),
        # One that stands out is smoothed away: the means are 3.8, 3.8, ... and 1.
        ([1, 1, 1, 15, 1, 1, 1, 1, 1, 1, 1], 5, 10),
    ],
)
def test_a_search_stops_where_the_mean_eigenvalue_grows(values: list[float], window: int, epoch: int) -> None:
    found = grown(values, window)
    assert found.epoch == epoch
    assert found.genotype.skips == epoch % 7
    assert ("so the last epoch" in found.why) == (epoch == len(values) - 1)


def test_the_stop_is_the_one_of_its_definition() -> None:
    """Against the definition, window by window, on growing sequences of every window and length."""
    draw = np.random.default_rng(5)
    fired = 0
    for window, length in itertools.product(range(1, 7), (5, 12, 23)):
        values = list(np.exp(np.cumsum(draw.normal(0.05, 0.15, length))))
        mean = {
            at: float(np.mean(values[at - window // 2 : at - window // 2 + window]))
            for at in range(window // 2, length - window + window // 2 + 1)
        }
        first = next((at for at in sorted(mean) if at - window in mean and mean[at - window] / mean[at] < 0.75), None)
        expected = length - 1 if first is None else first - window
        assert grown(values, window).epoch == expected
        fired += first is not None
    assert 3 < fired < 18


def test_the_sign_of_an_eigenvalue_says_nothing() -> None:
    """Power iteration finds the one of largest magnitude."""
    assert grown([-1, 1, -1, -2, 2, 2], 1).epoch == 2
    assert grown([-1, -0.5, -0.4, -0.3], 1).epoch == 3


def test_a_mean_is_over_the_measured_epochs_of_its_window() -> None:
    # Every other epoch: around epochs 1 to 7 a window of two epochs holds 1, 1, 1, 1, 2, 2, 2.
    assert grown([None, 1, None, 1, None, 2, None, 2], 2, search__hessian_every=2).epoch == 3


def test_epochs_in_which_alpha_is_frozen_take_no_part() -> None:
    values = [1, 2, 4, 4, 4, 8, 8]
    assert grown(values, 1).epoch == 0
    assert grown(values, 1, search__alpha_warmup=3).epoch == 4


def test_an_eigenvalue_that_is_not_a_number_is_no_measurement() -> None:
    assert grown([1, math.nan, 1, 1, math.nan, 2, 2], 1).epoch == 6
    assert grown([1, math.nan, 1, 1, math.nan, 9, 9], 2).epoch == 3


def test_a_search_too_short_for_two_windows_is_told_so() -> None:
    found = grown([1, 9, 9], 5)
    assert (found.epoch, found.why) == (2, "the search has no two windows of 5 epochs to compare, so the last epoch")


def test_a_stop_says_how_much_and_where() -> None:
    found = grown([1, 1, 1, 3], 1)
    assert found.why == (
        "the 1-epoch mean of the largest eigenvalue is 3.00 times as large around epoch 3 as around epoch 2, "
        "above 1.333"
    )
    assert grown([1, 1.2, 1.2], 1).why == (
        "the 1-epoch mean of the largest eigenvalue never grew above 1.333 times, at most 1.20, so the last epoch"
    )


def test_a_record_without_eigenvalues_names_the_setting(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    append_line(folder.file("alphas.jsonl"), {"epoch": 0, **with_skips(1)})
    write_json(folder.file("search.json"), {"values": {}})
    folder.record("search", 0, 1, {"search_valid_error_pct": 1.0})
    chosen = config(search__derive="eigenvalue-stop", search__hessian_every=1)
    words = (
        r"^search\.derive: 'eigenvalue-stop' is not valid; allowed: a search that recorded the largest eigenvalue of "
        r"the Hessian\. Search with search\.hessian_every=1, or derive by another rule\.$"
    )
    with pytest.raises(UserError, match=words):
        derive(chosen, folder)
    assert not folder.has("genotype")


# --- what is recorded -----------------------------------------------------------------------------


def measured(tmp_path: Path, skips: Sequence[int]) -> RunFolder:
    folder = RunFolder(tmp_path)
    for epoch, count in enumerate(skips):
        append_line(folder.file("alphas.jsonl"), {"epoch": epoch, **with_skips(count)})
        values = {"search_valid_error_pct": 10.0 + epoch, "discretisation_gap_pct": 1.0}
        folder.record("search", epoch, 1, values | {"alpha_hessian_eigenvalue": 1.0})
    write_json(folder.file("search.json"), {"values": {}})
    return folder


def test_the_record_says_rule_epoch_and_why(tmp_path: Path) -> None:
    folder = measured(tmp_path, [0, 1, 2, 3])
    derive(config(search__derive="skip-stop"), folder)
    wanted = {
        "space": "nasbench201",
        "text": str(genotype_of_line(config().supernet, with_skips(2))),
        "epoch": 2,
        "rule": "skip-stop",
        "why": "the first epoch whose cell has 2 or more skip connections: it has 2",
        "values": {"derived_valid_error_pct": 13.0},
    }
    found = written(folder.file("genotype.json"))
    assert {key: found[key] for key in wanted} == wanted


@pytest.mark.parametrize(("most", "error"), [(3, {"derived_valid_error_pct": 14.0}), (2, None)])
def test_a_capped_cell_has_no_error_that_another_was_measured_with(
    tmp_path: Path, most: int, error: dict[str, float] | None
) -> None:
    folder = measured(tmp_path, [0, 0, 0, 3])
    derive(config(search__derive="skip-cap", search__derive_skips=most), folder)
    found = written(folder.file("genotype.json"))
    assert (found["epoch"], found.get("values")) == (3, error)
    assert found["why"] == (
        "the last epoch, whose cell has 3 skip connections, at most 3"
        if most == 3
        else "the last epoch with at most 2 skip connections in its cell; taken out: 0 to 1"
    )


def test_one_search_gives_several_cells(tmp_path: Path) -> None:
    """Nothing of the search's record changes, so each rule finds the same cell whichever came first."""
    folder = measured(tmp_path, [0, 1, 2, 4])
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    cells = set()
    for rule in ("last", "best", "skip-stop", "eigenvalue-stop", "skip-cap"):
        cells.add(derive(config(search__derive=rule, search__hessian_every=1, search__epochs=4), folder))
        folder.file("genotype.json").unlink()
    assert {cell.skips for cell in cells} == {0, 2, 4}
    assert len(cells) == 4
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept


@pytest.mark.parametrize(
    ("strategy", "epoch", "why"),
    [
        ("random", 11, "drawn uniformly, without a search"),
        ("random-ws", 11, "the sampled cell with the lowest validation error under shared weights"),
        ("given", 0, "the cell was given"),
    ],
)
def test_a_cell_that_the_search_names_is_no_rule_s(tmp_path: Path, strategy: str, epoch: int, why: str) -> None:
    cell = str(genotype_of_line(config().supernet, with_skips(4)))
    given = {"search__genotype": cell} if strategy == "given" else {}
    chosen = config(search__strategy=strategy, search__derive="skip-cap", search__derive_skips=1, **given)
    folder = RunFolder(tmp_path)
    write_json(folder.file("search.json"), {"values": {}, "genotype": cell, "candidate_error_pct": 7.5})
    assert derive(chosen, folder).skips == 4
    wanted = {
        "space": "nasbench201",
        "text": cell,
        "epoch": epoch,
        "rule": strategy,
        "why": why,
        "values": {"derived_valid_error_pct": 7.5},
    }
    found = written(folder.file("genotype.json"))
    assert {key: found[key] for key in wanted} == wanted


def test_a_named_cell_is_read_in_the_space_of_the_run(tmp_path: Path) -> None:
    """Its text may be that of another space too."""
    register_space(replace(NASBENCH201, name="twin", benchmark=None))
    try:
        cell = str(genotype_of_line(config().supernet, with_skips(4)))
        chosen = config("twin", search__strategy="given", search__genotype=cell)
        folder = RunFolder(tmp_path)
        write_json(folder.file("search.json"), {"values": {}, "genotype": cell})
        assert [derive(chosen, folder).space for _ in range(2)] == ["twin", "twin"]
    finally:
        SPACES.unregister("twin")


@pytest.mark.parametrize("rule", ["last", "best", "skip-stop", "eigenvalue-stop", "skip-cap"])
def test_a_record_without_alphas_is_refused(rule: str) -> None:
    with pytest.raises(UserError, match=r"alphas\.jsonl: 'no epoch'.*a line for each epoch.* Search again\."):
        derived_cell(config(search__derive=rule, search__hessian_every=1), [], [], {"values": {}})


@pytest.mark.parametrize("rule", ["last", "skip-stop", "skip-cap"])
def test_a_torn_record_is_derived_from_what_it_has(rule: str) -> None:
    """Epoch 1 is missing; the curves of other stages say nothing."""
    torn = [line for line in lines([with_skips(0), with_skips(2), with_skips(1)]) if line["epoch"] != 1]
    other = [{"stage": "check", "epoch": 7, "values": {"search_valid_error_pct": 0.0}}]
    assert derived_cell(config(search__derive=rule), torn, other, {}).epoch == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"derive": "skip-stop", "derive_skips": 0}, "derive=skip-stop takes 1 or more"),
        ({"derive": "eigenvalue-stop"}, "hessian_every"),
        ({"derive": "eigenvalue-stop", "hessian_every": 6}, "widen the window"),
        ({"derive_growth": 1.0}, "a number above 1 and at most 100"),
        ({"derive_window": 0}, "a whole number from 1 to 1,000"),
        ({"derive": "first"}, "last, best, skip-stop, eigenvalue-stop or skip-cap"),
    ],
)
def test_rules_that_cannot_work_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        with_values(build({}), {f"search.{name}": value for name, value in values.items()})


def test_the_default_growth_is_the_papers_ratio() -> None:
    assert 1 / build({}).search.derive_growth == pytest.approx(0.75)
