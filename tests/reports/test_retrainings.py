"""Several retrainings of one search: averaged within the search first, never counted as results of their own."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from reports.build import Report, build_report
from reports.read.comparison import differences, selected_search
from reports.read.pairs import pairs
from reports.read.searches import by_search, one_of_each
from reports.read.settings import Setting, Study, code, studies
from reports.read.store import load
from reports.tables.ablation import ablation_table, variance_table
from reports.tables.cost import cost_table
from reports.tables.table import ReportTable, TableCell
from tests.support.report_store import SyntheticStore, tiny

PLAIN = {"supernet__split_ratio": "1", "supernet__identity": "none"}
#: Test errors of two searches, the first retrained three times and the second twice.
ERRORS = ((3.0, 4.0, 5.0), (7.0, 9.0))


def _add(
    made: SyntheticStore,
    errors: tuple[tuple[float, ...], ...] = ERRORS,
    settings: Mapping[str, Any] = MappingProxyType({}),
    tag: bool = True,
) -> None:
    for seed, values in enumerate(errors):
        for time, error in enumerate(values):
            config = tiny(seed, evaluation__seed=seed + 1000 * time, **settings)
            found = {"test_error_pct": error, "derived_valid_error_pct": 9.0 - seed, "search_time_s": 100.0 + seed}
            found |= {"supernet_params_m": 0.5, "peak_memory_mib": 50.0, "retrain_time_s": 1.0 + time}
            tags = {"cscdarts.search": f"{seed:016d}", "cscdarts.retraining": f"{seed:08d}{time:08d}"} if tag else {}
            made.add(config, found, tags=tags)


def _setting(made: SyntheticStore, place: int = 0) -> tuple[Study, Setting]:
    (study,) = studies(load(["quickstart"], made.finish()))
    return study, study.settings[place]


def _row(table: ReportTable, place: int = 0) -> dict[str, TableCell]:
    return dict(zip((column.key for column in table.columns), table.rows[place].cells, strict=True))


@pytest.mark.parametrize("tag", [True, False], ids=["keys known", "records without keys"])
def test_a_mean_over_searches_averages_within_each_first(store: SyntheticStore, tag: bool) -> None:
    _add(store, tag=tag)
    study, setting = _setting(store)
    assert [len(same) for same in setting.searches] == [3, 2]
    assert setting.values("test_error_pct").tolist() == [4.0, 8.0]
    row = _row(ablation_table([study]))
    assert row["test_error_pct"].value == 6.0
    assert row["test_error_pct"].spread == pytest.approx(math.sqrt(8.0))
    assert (row["n"].text, row["each_seed"].text) == ("2", "4.00 · 8.00")
    notes = dict(ablation_table([study]).notes)
    assert any("n counts searches" in notes[mark] for mark in row["test_error_pct"].marks.split(","))


def test_one_retraining_a_search_changes_nothing(store: SyntheticStore) -> None:
    _add(store, ((3.0,), (7.0,)))
    study, setting = _setting(store)
    assert setting.values("test_error_pct").tolist() == [3.0, 7.0]
    assert not any("n counts searches" in text for _, text in ablation_table([study]).notes)
    row = _row(variance_table([study]))
    assert row["means_sd_pct"].value == row["total_sd_pct"].value == pytest.approx(math.sqrt(8.0))
    assert (row["search_sd_pct"].value, row["retrain_sd_pct"].value) == (None, None)


def test_the_variance_of_searches_and_of_retrainings_by_hand(store: SyntheticStore) -> None:
    """W = ((1 + 0 + 1) + (1 + 1)) / 3 = 4/3; means 4 and 8, overall mean 5.6;
    B = 3 (4 - 5.6)² + 2 (8 - 5.6)² = 19.2; n_0 = 5 - 13/5 = 2.4; search variance (19.2 - 4/3) / 2.4 = 7.4444."""
    _add(store)
    study, _ = _setting(store)
    row = _row(variance_table([study]))
    assert (row["searches"].text, row["retrainings"].text) == ("2", "5")
    assert row["total_sd_pct"].value == pytest.approx(math.sqrt((2.6**2 + 1.6**2 + 0.6**2 + 1.4**2 + 3.4**2) / 4))
    assert row["means_sd_pct"].value == pytest.approx(math.sqrt(8.0))
    assert row["retrain_sd_pct"].value == pytest.approx(math.sqrt(4 / 3))
    assert row["search_sd_pct"].value == pytest.approx(math.sqrt((19.2 - 4 / 3) / 2.4))


def test_validation_chooses_a_search_and_its_retrainings_are_averaged(store: SyntheticStore) -> None:
    _add(store)
    study, setting = _setting(store)
    chosen = selected_search(setting)
    assert chosen is not None
    # The second search has the lower validation error and the worse test errors.
    assert (chosen.error, chosen.n) == (8.0, 2)
    cell = _row(variance_table([study]))["selected_test_error_pct"]
    assert (cell.value, cell.n) == (8.0, 2)
    assert chosen.hash in {str(run["hash"]) for run in setting.searches[1]}
    assert "lowest validation error" in variance_table([study]).caption


def test_pairs_are_of_searches_over_the_retrainings_that_both_finished(store: SyntheticStore) -> None:
    _add(store)
    _add(store, ((1.0, 1.0), (2.0, 4.0)), PLAIN)
    study, _ = _setting(store)
    ours, plain = (next(s for s in study.settings if s.params["supernet.split_ratio"] == r) for r in ("1/2", "1"))
    both = pairs(ours, plain, "test_error_pct")
    # Of the first search only two retrainings are shared: (3 + 4) / 2.
    assert (both.a, both.b) == ((3.5, 8.0), (1.0, 3.0))
    assert (both.unpaired, both.other_code) == (1, 0)
    assert study.reference is not None
    (difference,) = differences(study).values()
    assert difference.n == 2


def test_a_shared_search_is_paid_once(store: SyntheticStore) -> None:
    _add(store)
    study, setting = _setting(store)
    table = cost_table([study])
    (row,) = (r for r in table.rows if r.source == "ours")
    cells = dict(zip((column.key for column in table.columns), row.cells, strict=True))
    assert (cells["n"].text, cells["search_time_s"].n, cells["search_time_s"].value) == ("2", 2, 100.5)
    # A retraining's own time is averaged within its search too: (1 + 2 + 3) / 3 and (1 + 2) / 2.
    assert setting.values("retrain_time_s").tolist() == [2.0, 1.5]


def test_the_search_s_own_machine_and_code_stand_beside_it(store: SyntheticStore) -> None:
    own = {"cscdarts.search": "a" * 16, "cscdarts.search_hardware": "Other GPU", "cscdarts.search_code": "f" * 40}
    store.add(tiny(0), {"test_error_pct": 3.0, "search_time_s": 9.0, "retrain_time_s": 2.0}, tags=own)
    study, setting = _setting(store)
    (row,) = (r for r in cost_table([study]).rows if r.source == "ours")
    assert "Other GPU" in [cell.text for cell in row.cells]
    assert setting.hardware == ("Example CPU, 2 cores", "Other GPU")
    assert code(setting.done[0]) == "0123456 (search fffffff)"
    assert code({**setting.done[0], "search_code": "0" * 40 + "+dirty"}) == "0123456 (search 0000000+)"
    assert code({**setting.done[0], "search_code": setting.done[0]["commit"]}) == "0123456"


def test_retrainings_of_a_given_cell_are_each_a_result(store: SyntheticStore) -> None:
    given = {"search__strategy": "given", "search__genotype": "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"}
    _add(store, ((3.0, 5.0), (7.0,)), given)
    study, setting = _setting(store)
    assert setting.given
    assert sorted(setting.values("test_error_pct")) == [3.0, 5.0, 7.0]
    row = _row(variance_table([study]))
    assert (row["searches"].text, row["retrainings"].text, row["means_sd_pct"].text) == ("–", "3", "–")
    assert row["retrain_sd_pct"].value == pytest.approx(2.0)
    assert row["search_sd_pct"].value is None
    notes = dict(ablation_table([study]).notes)
    marks = _row(ablation_table([study]))["test_error_pct"].marks.split(",")
    assert any("n counts its retrainings" in notes[mark] for mark in marks)


def test_two_seeds_whose_best_search_is_one_are_retrainings_of_it() -> None:
    runs = [{"seed": 0, "search": "s1"}, {"seed": 1, "search": "s1"}, {"seed": 4, "search": "s5"}]
    assert by_search(runs) == [runs[:2], runs[2:]]
    assert one_of_each(runs) == [runs[0], runs[2]]
    # A run whose key is not recorded yet goes with those of its seed.
    assert by_search([{"seed": 0, "search": ""}, {"seed": 0, "search": "s1"}, {"seed": 1, "search": ""}]) == [
        [{"seed": 0, "search": ""}, {"seed": 0, "search": "s1"}], [{"seed": 1, "search": ""}],
    ]  # fmt: skip


def _report(made: SyntheticStore, tmp_path: Path) -> Report:
    return build_report(["quickstart"], tmp_path / "report", uri=made.finish(), formats=("csv", "html", "md"))


def test_the_report_says_that_n_is_not_the_number_of_runs(store: SyntheticStore, tmp_path: Path) -> None:
    _add(store)
    report = _report(store, tmp_path)
    (finding,) = (one for one in report.findings if one.title == "Several retrainings a search")
    assert "5 runs are retrainings of 2 searches" in finding.text
    assert "Several numbers of threads" not in {one.title for one in report.findings}


@pytest.mark.parametrize(
    ("tag", "values", "title", "words"),
    [
        ("threads", ("1", "2", "2"), "Several numbers of threads", "(threads 1: 1, threads 2: 2) in one mean"),
        ("processes", ("1", "1", "4"), "Several numbers of processes", "(processes 1: 2, processes 4: 1) in one mean"),
        ("device", ("cpu", "cuda", "cuda"), "Several kinds of device", "(cpu: 1, cuda: 2) in one mean"),
        (
            "deterministic",
            ("yes", "no", "yes"),
            "Several modes of determinism",
            "(deterministic kernels no: 1, deterministic kernels yes: 2) in one mean",
        ),
    ],
)
def test_surroundings_that_differ_in_one_mean_are_said(
    store: SyntheticStore, tmp_path: Path, tag: str, values: tuple[str, ...], title: str, words: str
) -> None:
    for seed, value in enumerate(values):
        store.add(tiny(seed), {"test_error_pct": 3.0}, tags={f"cscdarts.{tag}": value})
    report = _report(store, tmp_path)
    (finding,) = (one for one in report.findings if one.title == title)
    assert words in finding.text
    assert any("in one mean" in note for _, note in report.table("T3").notes)


def test_surroundings_that_agree_or_are_not_recorded_are_not_said(store: SyntheticStore, tmp_path: Path) -> None:
    for seed, tags in enumerate(({"cscdarts.threads": "2"}, {"cscdarts.threads": "2"}, {})):
        store.add(tiny(seed), {"test_error_pct": 3.0}, tags=tags)
    store.add(tiny(0, **PLAIN), {"test_error_pct": 3.0}, tags={"cscdarts.threads": "1"})  # another mean
    assert not [one.title for one in _report(store, tmp_path).findings if "threads" in one.title]


def test_settings_that_differ_in_no_factor_have_names_of_their_own(store: SyntheticStore) -> None:
    _add(store)
    _add(store, settings={"search__best_of": 2})
    study, _ = _setting(store)
    names = [study.label(setting) for setting in study.settings]
    assert len(set(names)) == len(names) == 2
    assert {name.rpartition(", ")[2] for name in names} == {"best of 1", "best of 2"}
    assert {_row(variance_table([study]), place)["method"].text for place in (0, 1)} == set(names)
