"""Each member of the family that a published table names fills that row with its own runs, and no row of a search on
other data."""

import pytest

from benchmarks.published.rows import PUBLISHED_NAMES, PublishedTable, find_published, published_rows
from cscdarts.settings.methods import PRESETS, apply_preset
from cscdarts.settings.protocols import protocol
from reports.read.settings import Setting, normal_text, studies
from reports.read.store import load
from reports.read.verdicts import departs, why_not
from reports.tables.benchmark import CheckBook, benchmark_table
from reports.tables.published import cifar_table, imagenet_table
from reports.tables.table import ReportTable
from tests.support.report_store import SyntheticStore, check_content, flatten

DATA = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet", "nasbench201": "CIFAR-10"}


def filled(store: SyntheticStore, recipe: str, methods: list[str]) -> ReportTable:
    """The table that mirrors a protocol, with a run of each method at the paper's scale: a test error of 3 %."""
    target = recipe.split("-")[0]
    for method in methods:
        store.add(
            apply_preset(protocol(recipe, "paper"), method),
            {"test_error_pct": 3.0},
            grid="family",
            methods=[method],
            tags={"cscdarts.data": DATA[target]},
            check=check_content(0, "nasbench201", "cifar10") if target == "nasbench201" else None,
        )
    loaded = load(["family"], uri=store.finish())
    found = studies(loaded)
    if target == "nasbench201":
        return benchmark_table(found, CheckBook(loaded))
    return imagenet_table(found) if target == "imagenet" else cifar_table(found)


def texts(table: ReportTable, block: str) -> list[dict[str, str]]:
    keys = [column.key for column in table.columns]
    (found,) = (one for one in table.blocks if one.title.startswith(block))
    return [{key: cell.text for key, cell in zip(keys, row.cells, strict=True)} for row in found.rows]


def members(table: str) -> list[str]:
    return [name for name in PRESETS if name in PUBLISHED_NAMES[table]]


def test_every_name_is_a_published_one() -> None:
    for table, names in PUBLISHED_NAMES.items():
        kind: PublishedTable = table  # type: ignore[assignment]
        assert set(names.values()) <= {row.method for row in published_rows(kind)}
        assert set(names) <= set(PRESETS)
        # A member without a row is one that no table prints under any spelling of its name.
        printed = {row.method.lower() for row in published_rows(kind)}
        assert {name for name in PRESETS if name not in names and PRESETS[name].title.lower() in printed} == set()


@pytest.mark.parametrize(
    ("recipe", "block"),
    [
        ("cifar10", "CIFAR-10: published"),
        ("cifar100-transfer", "CIFAR-100: published"),
        ("imagenet-transfer", "ImageNet"),
    ],
)
def test_each_member_stands_in_its_own_row(store: SyntheticStore, recipe: str, block: str) -> None:
    target = recipe.split("-")[0]
    table: PublishedTable = "imagenet" if target == "imagenet" else "cifar"
    there = [
        name for name in members(table) if find_published(table, name, "" if table == "imagenet" else target, "cifar10")
    ]
    assert len(there) >= 7
    made = filled(store, recipe, there)
    rows = {row["method"]: row for row in texts(made, block) if row["n"] != "0"}
    assert set(rows) == {PUBLISHED_NAMES[table][name] for name in there}
    for name in there:
        row = rows[PUBLISHED_NAMES[table][name]]
        assert row["ours_test_error_pct"] == "3.00"
        assert row["verdict"] in ("within tolerance", "outside", "not public")
        assert PRESETS[name].deviation in " ".join(text for _, text in made.notes)
    assert not [one for one in made.blocks if one.title.startswith("Ours, not comparable")]


def test_each_member_stands_in_its_own_row_of_the_benchmark(store: SyntheticStore) -> None:
    names = members("nasbench201")
    rows = texts(filled(store, "nasbench201", names), "Published")
    whose = {row["method"]: rows[place + 1]["whose"] for place, row in enumerate(rows[:-1]) if row["whose"] == "paper"}
    assert {method for method, next_row in whose.items() if next_row == "ours"} == {
        PUBLISHED_NAMES["nasbench201"][name] for name in names
    }


def test_a_search_on_other_data_takes_no_row_of_it(store: SyntheticStore) -> None:
    """P-DARTS has a row for each: 16.55 searched on CIFAR-10, 15.92 on CIFAR-100; DARTS has only the first."""
    made = filled(store, "cifar100", ["pdarts", "darts1"])
    published = texts(made, "CIFAR-100: published")
    (ours,) = (row for row in published if row["n"] != "0")
    assert (ours["method"], ours["searched_on"], ours["paper_test_error_pct"]) == ("P-DARTS", "CIFAR-100", "15.92")
    apart = texts(made, "Ours, not comparable")
    assert [(row["method"], row["verdict_reason"]) for row in apart] == [
        ("DARTS (1st order)", "the published row's search was on CIFAR-10")
    ]


def test_a_row_that_is_not_printed_otherwise_comes_with_a_run_of_ours_alone(store: SyntheticStore) -> None:
    assert "SDARTS-RS" not in {row["method"] for row in texts(cifar_table([]), "CIFAR-10: published")}
    shown = texts(filled(store, "cifar10", ["sdarts-rs"]), "CIFAR-10: published")
    assert len(shown) == len(texts(cifar_table([]), "CIFAR-10: published")) + 1


@pytest.mark.parametrize("name", PRESETS)
def test_what_a_method_sets_is_no_departure_of_it(name: str) -> None:
    params = flatten(apply_preset(protocol("cifar10", "paper"), name))
    mine = Setting("s", (name,), "paper", "CIFAR-10", "cifar10", params["supernet.space"], params, ())
    assert why_not(mine, "cifar10") is None
    other = Setting("s", ("pcdarts",), "paper", "CIFAR-10", "cifar10", params["supernet.space"], params, ())
    decays = params["search.alpha_weight_decay"]
    assert (why_not(other, "cifar10") is None) == (normal_text(decays) == "0.001")
    assert departs(mine) == [f"our reading: {PRESETS[name].deviation}"]


def test_yes_one_and_one_point_nought_are_three_texts() -> None:
    assert [normal_text(value) for value in (1, True, 1.0)] == ["1", "true", "1.0"]
