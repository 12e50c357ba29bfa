"""Verdicts on the claims where the truth is known: upheld, refuted and undecided as the runs were made to be."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from reports.read.claims.contrasts import contrast
from reports.read.claims.declared import CLAIMS, MARGIN, _has_identity, _splits
from reports.read.claims.evidence import FEWEST, Evidence
from reports.read.claims.weighed import weighed
from reports.read.settings import Setting, Study
from reports.tables.claims import claims_table
from tests.reports.claims.conftest import Make

SEEDS = range(100, 120)
CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|avg_pool_3x3~1|skip_connect~2|"


def errors(centre: float, spread: float, seed: int = 0, seeds: Sequence[int] = SEEDS) -> dict[int, dict[str, float]]:
    """Test errors of exactly this mean, with the quantiles of a normal distribution in a random order."""
    places = np.random.default_rng(seed).permutation(len(seeds))
    quantiles = stats.norm.ppf((places + 0.5) / len(seeds))
    return {number: {"test_error_pct": centre + spread * float(q)} for number, q in zip(seeds, quantiles, strict=True)}


def drawn(centre: float, spread: float, seed: int) -> dict[int, dict[str, float]]:
    """Test errors drawn around a centre."""
    draw = np.random.default_rng(seed)
    return {number: {"test_error_pct": centre + spread * float(draw.standard_normal())} for number in SEEDS}


def ablation(setting: Make, of: Mapping[tuple[str, str, int], Mapping[int, Mapping[str, float]]]) -> list[Setting]:
    """Settings by (ratio, identity, order)."""
    return [
        setting(runs, **{"supernet.split_ratio": ratio, "supernet.identity": identity, "search.order": order})
        for (ratio, identity, order), runs in of.items()
    ]


def verdict(number: int, settings: Sequence[Setting]) -> Evidence:
    return CLAIMS[number - 1].evidence(settings)


def test_there_are_the_seven_claims_of_the_abstract() -> None:
    assert [claim.number for claim in CLAIMS] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("number", range(1, 8))
def test_without_runs_nothing_is_said(number: int) -> None:
    assert verdict(number, []).word in ("not run", "not testable")
    assert verdict(number, []).effect is None


def test_only_settings_that_differ_in_the_factor_alone_are_compared(setting: Make) -> None:
    found = ablation(
        setting,
        {
            ("1/2", "cell", 2): errors(10, 1),
            ("1", "cell", 2): errors(10, 1),
            ("1/4", "none", 2): errors(10, 1),
            ("1", "none", 1): errors(10, 1),
        },
    )
    other = setting(errors(10, 1), **{"supernet.split_ratio": "1", "search.epochs": 7, "search.order": 2})
    pairs = contrast([*found, other], ("supernet.split_ratio",), _splits).pairs
    assert [(a.params["supernet.split_ratio"], b.params["supernet.split_ratio"]) for a, b in pairs] == [("1/2", "1")]
    given = {"search.strategy": "given", "search.genotype": CELL, "search.order": 1}
    cells = [setting(errors(1, 1), **given, **{"supernet.identity": name}) for name in ("cell", "none")]
    assert contrast(cells, ("supernet.identity",), _has_identity).pairs == ()


def test_memory_access_is_counted_and_needs_no_seeds(setting: Make) -> None:
    def access(split: float, whole: float) -> list[Setting]:
        values = {"1/2": {0: {"memory_access_mb": split}}, "1": {0: {"memory_access_mb": whole}}}
        return ablation(setting, {(ratio, "cell", 2): runs for ratio, runs in values.items()})

    found = verdict(1, access(60.0, 100.0))
    assert found.word == "upheld"
    assert found.effect == pytest.approx(0.6)
    assert verdict(1, access(100.0, 100.0)).word == "refuted"


@pytest.mark.parametrize(
    ("difference", "spread", "word"),
    [(0.0, 0.3, "upheld"), (2.0, 0.3, "refuted"), (0.4, 2.0, "undecided"), (-3.0, 0.3, "upheld")],
)
def test_no_loss_is_held_against_the_margin(setting: Make, difference: float, spread: float, word: str) -> None:
    settings = ablation(
        setting,
        {("1/2", "cell", 2): errors(10 + difference, spread, 1), ("1", "cell", 2): errors(10, spread, 2)},
    )
    found = verdict(2, settings)
    assert found.word == word
    assert found.interval is not None
    paired = [a["test_error_pct"] - b["test_error_pct"] for a, b in zip(*(s.runs for s in settings), strict=True)]
    low, high = stats.t.interval(0.95, len(paired) - 1, np.mean(paired), stats.sem(paired))
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
    assert (word == "upheld") == (high < MARGIN)


def test_seeds_are_the_units_not_pairs_of_settings(setting: Make) -> None:
    """The same runs under more settings are no more evidence."""
    once = ablation(setting, {("1/2", "cell", 2): errors(10, 1, 1), ("1", "cell", 2): errors(10, 1, 2)})
    twice = [
        *once,
        *ablation(setting, {("1/2", "none", 2): errors(10, 1, 1), ("1", "none", 2): errors(10, 1, 2)}),
    ]
    one, two = verdict(2, once), verdict(2, twice)
    assert (one.pairs, two.pairs) == (1, 2)
    assert (one.seeds, two.seeds) == (20, 20)
    assert one.interval == two.interval


def test_a_seed_that_one_setting_lacks_is_left_out_of_all(setting: Make) -> None:
    runs = errors(10, 1, 1)
    fewer = {seed: values for seed, values in errors(10, 1, 2).items() if seed != 105}
    assert verdict(2, ablation(setting, {("1/2", "cell", 2): runs, ("1", "cell", 2): fewer})).seeds == 19


@pytest.mark.parametrize(("spread", "word"), [(0.3, "upheld"), (3.0, "refuted"), (1.0, "undecided")])
def test_variability_is_a_ratio_of_variances(setting: Make, spread: float, word: str) -> None:
    settings = ablation(setting, {("1/2", "cell", 2): errors(10, spread, 1), ("1/2", "none", 2): errors(12, 1, 4)})
    found = verdict(3, settings)
    assert found.word == word
    variances = [np.var([run["test_error_pct"] for run in one.runs], ddof=1) for one in settings]
    assert found.effect == pytest.approx(variances[0] / variances[1])
    assert (found.needed is not None) == (word == "undecided")


def test_the_interval_of_a_variance_ratio_covers_the_truth(setting: Make) -> None:
    covered = 0
    for number in range(40):
        settings = ablation(
            setting,
            {("1/2", "cell", 2): drawn(10, 0.7, 2 * number), ("1/2", "none", 2): drawn(10, 1, 2 * number + 1)},
        )
        interval = verdict(3, settings).interval
        assert interval is not None
        covered += interval.low < 0.49 < interval.high
    assert covered >= 33  # 95 % of 40 are 38; the percentile bootstrap is a little narrow at n = 20


@pytest.mark.parametrize(("effect", "word"), [(-1.0, "upheld"), (1.0, "refuted"), (0.0, "undecided")])
def test_second_order_against_first(setting: Make, effect: float, word: str) -> None:
    settings = ablation(
        setting, {("1/2", "cell", 2): errors(10 + effect, 0.5, 1), ("1/2", "cell", 1): errors(10, 0.5, 2)}
    )
    assert verdict(5, settings).word == word


def test_too_few_seeds_decide_nothing(setting: Make) -> None:
    few = range(FEWEST - 1)
    settings = ablation(
        setting,
        {("1/2", "cell", 2): errors(1, 0.01, 1, few), ("1/2", "cell", 1): errors(50, 0.01, 2, few)},
    )
    found = verdict(5, settings)
    assert (found.word, found.seeds) == ("undecided", FEWEST - 1)
    assert found.why == f"only {FEWEST - 1} seeds; a verdict takes {FEWEST}"


def test_how_many_seeds_would_decide(setting: Make) -> None:
    """The half width shrinks with 1 / sqrt(n): with that many, the interval would just reach 0."""
    settings = ablation(setting, {("1/2", "cell", 2): errors(9.8, 1, 1), ("1/2", "cell", 1): errors(10, 1, 2)})
    found = verdict(5, settings)
    assert found.word == "undecided"
    assert found.needed is not None
    assert found.interval is not None
    assert found.effect is not None
    half = (found.interval.high - found.interval.low) / 2
    assert half * (20 / found.needed) ** 0.5 <= abs(found.effect) < half * (20 / (found.needed - 1)) ** 0.5


def depths(setting: Make, noise_with: float, noise_without: float) -> list[Setting]:
    """24 given cells whose deep error follows the shallow one, with noise."""
    draw, found = np.random.default_rng(5), []
    ops = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
    for number in range(24):
        o = [ops[(number // 5**k) % 5] for k in range(3)]
        cell = f"|nor_conv_3x3~0|+|{o[0]}~0|{o[1]}~1|+|{o[2]}~0|nor_conv_1x1~1|nor_conv_3x3~2|"
        for identity, noise in (("cell", noise_with), ("none", noise_without)):
            for depth in (1, 3):
                values: dict[str, Any] = {
                    "search.strategy": "given",
                    "search.genotype": cell,
                    "supernet.identity": identity,
                    "evaluation.cells": depth,
                }
                error = 10 + number + noise * float(draw.standard_normal())
                found.append(setting({100: {"test_error_pct": error}}, **values))
    return found


@pytest.mark.parametrize(
    ("with_it", "without", "word"), [(0.1, 30.0, "upheld"), (30.0, 0.1, "refuted"), (5.0, 5.0, "undecided")]
)
def test_the_depth_gap_is_how_alike_depths_rank_cells(setting: Make, with_it: float, without: float, word: str) -> None:
    found = verdict(4, depths(setting, with_it, without))
    assert (found.word, found.seeds) == (word, 24)
    assert "networks of 1 and of 3 stacked" in found.why


def test_stated_errors_are_not_tested_below_the_papers_scale(setting: Make) -> None:
    small = ablation(setting, {("1/2", "cell", 2): errors(2.5, 0.05)})
    found = verdict(6, small)
    assert found.word == "not testable"
    assert found.effect is None


def test_resources_need_both_and_one_machine(setting: Make) -> None:
    def runs(memory: float, seconds: float, seed: int) -> dict[int, dict[str, float]]:
        draw = np.random.default_rng(seed)
        return {
            number: {
                "peak_memory_mib": memory * float(np.exp(0.01 * draw.standard_normal())),
                "search_time_s": seconds * float(np.exp(0.01 * draw.standard_normal())),
            }
            for number in SEEDS
        }

    def both(memory: float, seconds: float, machine: str = "one") -> list[Setting]:
        whole = {"supernet.split_ratio": "1/2", "supernet.identity": "cell", "search.order": 2}
        plain = {"supernet.split_ratio": "1", "supernet.identity": "none", "search.order": 2}
        return [
            setting(runs(memory, seconds, 1), "reduced", "digits", ("csc",), machine, **whole),
            setting(runs(100, 100, 2), "reduced", "digits", ("csc",), "one", **plain),
        ]

    found = verdict(7, both(60, 80))
    assert found.word == "upheld"
    assert found.effect == pytest.approx(0.6, rel=0.02)
    assert verdict(7, both(160, 180)).word == "refuted"
    mixed = verdict(7, both(60, 120))
    assert mixed.word == "undecided"
    assert mixed.why.endswith(", refuted")
    assert verdict(7, both(60, 80, "another")).word == "not testable"


def test_the_table_has_a_block_for_each_scale_and_never_mixes_them(setting: Make) -> None:
    small = ablation(setting, {("1/2", "cell", 2): errors(10, 0.5, 1), ("1/2", "cell", 1): errors(12, 0.5, 2)})
    values = {"supernet.split_ratio": "1/2", "search.order": 1}
    other = setting(errors(2, 0.5, 3), "paper", **values)
    found = [
        Study("digits", "reduced", "", tuple(small), None, ()),
        Study("digits", "paper", "", (other,), None, ()),
    ]
    table = claims_table(found)
    assert [block.title for block in table.blocks] == ["digits · scale reduced", "digits · scale paper"]
    words = {block.title: [row.cells[1].text for row in block.rows] for block in table.blocks}
    assert words["digits · scale reduced"][4] == "upheld"
    assert words["digits · scale paper"][4] == "not run"
    assert table.number == "T0"
    nothing = claims_table([])
    assert {row.cells[1].text for row in nothing.rows} == {"not run"}


def test_a_run_that_stood_still_decides_as_it_came_and_is_named(setting: Make) -> None:
    """One run at chance among the seeds without identity: the variance is its own, and the remark says what is left."""
    draw = np.random.default_rng(5)
    own = {number: {"test_error_pct": 2 + 0.5 * float(draw.standard_normal())} for number in SEEDS}
    plain: dict[int, dict[str, Any]] = {
        number: {"test_error_pct": 2 + 0.5 * float(draw.standard_normal())} for number in SEEDS
    }
    first = min(SEEDS)
    plain[first] = {"test_error_pct": 90.0, "notes": "no operation of the cell leads from its input to its output"}
    pair = [setting(own, **{"supernet.identity": "cell"}), setting(plain, **{"supernet.identity": "none"})]
    (block,) = weighed([Study("digits", "reduced", "", tuple(pair), None, ())])
    whole = block.rows[2][1]
    assert whole.effect is not None
    assert whole.effect < 0.01
    assert whole.seeds == len(SEEDS)
    assert "without the run that stood still: undecided, " in whole.why
    assert f"n = {len(SEEDS) - 1}" in whole.why
    # Where nothing stood still, or nothing moves, the evidence is the claim's own.
    del plain[first]
    pair[1] = setting(plain, **{"supernet.identity": "none"})
    (block,) = weighed([Study("digits", "reduced", "", tuple(pair), None, ())])
    assert "stood still" not in block.rows[2][1].why
