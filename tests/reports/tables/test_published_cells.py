"""Published cells that were trained here: which printed number stands beside them, and what keeps them apart."""

from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.published.rows import PUBLISHED_CELLS, find_published_cell, published_rows
from cscdarts.settings.config import RunConfig
from cscdarts.settings.methods import apply_cell, apply_preset
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import protocol
from cscdarts.spaces.known import KNOWN_CELLS, KNOWN_GENOTYPES
from reports.read.settings import Study, studies
from reports.read.store import load
from reports.tables.published import cifar_table, imagenet_table
from reports.tables.table import Block, ReportTable
from tests.support.report_store import SyntheticStore

TITLE = "CIFAR-10: published cell, our training"


def gathered(store: SyntheticStore, runs: Sequence[tuple[RunConfig, float]], data: str = "CIFAR-10") -> list[Study]:
    for config, error in runs:
        values = {"test_error_pct": error, "params_m": 3.4, "search_time_s": 0.0, "retrain_time_s": 5.0}
        store.add(config, values, grid="published_cells", methods=[config.labels.method], tags={"cscdarts.data": data})
    return studies(load(["published_cells"], uri=store.finish()))


def cell(name: str, seed: int = 0, scale: str = "paper", **values: Any) -> RunConfig:
    base = apply_cell(with_values(protocol("cifar10", scale), {"seed": seed}), name)
    return with_values(base, {key.replace("__", "."): value for key, value in values.items()})


def block(table: ReportTable, title: str) -> Block | None:
    return next((found for found in table.blocks if found.title == title), None)


def rows(table: ReportTable, title: str) -> dict[str, dict[str, str]]:
    """First cell of a row -> its texts by column."""
    found = block(table, title)
    assert found is not None
    names = [column.key for column in table.columns]
    return {row.cells[0].text: {n: c.text for n, c in zip(names, row.cells, strict=True)} for row in found.rows}


def test_a_published_cell_stands_beside_its_printed_number(store: SyntheticStore) -> None:
    runs = [(cell("PDARTS", seed), error) for seed, error in enumerate((2.5, 2.7, 2.6))]
    runs += [(cell("MdeNAS"), 2.6), (cell("SGAS_Cri2"), 3.5)]
    table = cifar_table(gathered(store, runs))
    found = rows(table, TITLE)
    assert list(found) == ["PDARTS (P-DARTS)", "SGAS_Cri2 (SGAS (Cri.2 best))", "MdeNAS"]
    pdarts = found["PDARTS (P-DARTS)"]
    assert pdarts["paper_test_error_pct"] == "2.50"
    assert pdarts["ours_test_error_pct"].startswith("2.60")
    assert (pdarts["difference_pct"], pdarts["n"], pdarts["verdict"]) == ("+0.10", "3", "within tolerance")
    assert "cell: chenxin061/pdarts:genotypes.py" in pdarts["source"]
    assert "P-DARTS Table 1" in pdarts["source"]
    assert found["SGAS_Cri2 (SGAS (Cri.2 best))"]["verdict"] == "outside"
    assert found["MdeNAS"]["verdict"] == "not public"
    assert "beside the number printed for it" in table.caption
    # It was given: there is no search whose cost could stand beside the printed one.
    assert pdarts["ours_search_time_gpu_days"] in ("", "–")


def test_a_published_cell_is_no_result_of_the_method_that_found_it(store: SyntheticStore) -> None:
    """Not even where the run is labelled so."""
    label: dict[str, Any] = {"labels__method": "pcdarts"}
    table = cifar_table(
        gathered(store, [(cell("PC_DARTS_cifar", **label), 2.6), (cell("ENAS", labels__method="csc"), 2.5)])
    )
    published = rows(table, "CIFAR-10: published")
    assert published["PC-DARTS"]["verdict"] == published["CSC-DARTS"]["verdict"] == "not run"
    assert set(rows(table, TITLE)) == {"PC_DARTS_cifar (PC-DARTS)", "ENAS (ENAS)"}
    assert len(table.blocks) == 3


def test_a_search_of_the_method_stands_in_its_own_row_alone(store: SyntheticStore) -> None:
    runs = [(apply_preset(protocol("cifar10", "paper"), "pcdarts"), 2.7), (cell("PC_DARTS_cifar"), 2.5)]
    table = cifar_table(gathered(store, runs))
    assert rows(table, "CIFAR-10: published")["PC-DARTS"]["ours_test_error_pct"].startswith("2.70")
    assert rows(table, TITLE)["PC_DARTS_cifar (PC-DARTS)"]["ours_test_error_pct"].startswith("2.50")


def test_numbers_of_another_scale_keep_their_own_block(store: SyntheticStore) -> None:
    table = cifar_table(gathered(store, [(cell("PDARTS", scale="reduced"), 9.0)]))
    row = rows(table, TITLE)["PDARTS (P-DARTS)"]
    assert (row["verdict"], row["verdict_reason"]) == ("not comparable", "scale reduced")
    assert row["ours_test_error_pct"] in ("", "–")
    (apart,) = [found for found in table.blocks if found.title.startswith("Ours, not comparable")]
    (own,) = apart.rows
    assert [own.cells[0].text, own.cells[2].text] == ["cell PDARTS", "given"]
    assert any(value.text.startswith("9.00") for value in own.cells)


@pytest.mark.parametrize(
    "values",
    [
        {"supernet__identity": "cell", "supernet__split_ratio": "1"},
        {"evaluation__split_eval": "true", "supernet__split_ratio": "1/2"},
    ],
)
def test_a_cell_in_another_network_is_not_the_published_one(store: SyntheticStore, values: dict[str, Any]) -> None:
    table = cifar_table(gathered(store, [(cell("PDARTS", **values), 2.5)]))
    assert block(table, TITLE) is None
    (apart,) = [found for found in table.blocks if found.title.startswith("Ours, not comparable")]
    assert [row.cells[0].text for row in apart.rows] == ["cell PDARTS"]


def test_an_identity_that_is_active_in_the_search_alone_changes_no_retraining(store: SyntheticStore) -> None:
    values: dict[str, Any] = {"supernet__identity": "edge", "supernet__identity_phases": "search"}
    assert set(rows(cifar_table(gathered(store, [(cell("PDARTS", **values), 2.5)])), TITLE)) == {"PDARTS (P-DARTS)"}


def test_a_cell_of_ones_own_has_no_printed_number(store: SyntheticStore) -> None:
    own = str(KNOWN_GENOTYPES["PDARTS"]).replace("dil_conv_5x5", "sep_conv_5x5")
    table = cifar_table(gathered(store, [(cell(own), 2.5)]))
    assert block(table, TITLE) is None
    (apart,) = [found for found in table.blocks if found.title.startswith("Ours, not comparable")]
    assert [row.cells[0].text for row in apart.rows] == ["cell"]


def test_without_published_cells_nothing_is_said_of_them(store: SyntheticStore) -> None:
    table = cifar_table(gathered(store, [(apply_preset(protocol("cifar10", "paper"), "csc"), 2.6)]))
    assert [found.title for found in table.blocks] == ["CIFAR-10: published", "CIFAR-100: published"]
    assert "beside the number printed for it" not in table.caption


def test_imagenet_has_the_cells_that_were_searched_on_it(store: SyntheticStore) -> None:
    runs = [(apply_cell(protocol("imagenet-transfer", "paper"), name), 25.0) for name in ("PC_DARTS_image", "PDARTS")]
    found = rows(imagenet_table(gathered(store, runs, "ImageNet")), "ImageNet: published cell, our training")
    assert {name: row["paper_top1_error_pct"] for name, row in found.items()} == {
        "PC_DARTS_image (PC-DARTS)": "24.2",
        "PDARTS (P-DARTS)": "24.4",
    }


def test_a_known_cell_goes_by_the_row_of_its_own_search() -> None:
    for table, cells in PUBLISHED_CELLS.items():
        methods = {row.method for row in published_rows(table)}
        for name, (method, searched) in cells.items():
            assert name in KNOWN_CELLS
            assert method in methods
            row = find_published_cell(table, name, "cifar10" if table == "cifar" else "")
            assert row is not None
            assert (row.method, row.searched_on) == (method, searched)
    one, other = (find_published_cell("imagenet", name) for name in ("PC_DARTS_cifar", "PC_DARTS_image"))
    assert one is not None
    assert other is not None
    assert (one.numbers["top1_error_pct"], other.numbers["top1_error_pct"]) == (25.1, 24.2)
    assert find_published_cell("cifar", "MdeNAS", "cifar10") is None
    # Nobody says which cell these trainings on CIFAR-100 are of.
    assert find_published_cell("cifar", "PC_DARTS_cifar", "cifar100") is None
    assert find_published_cell("nasbench201", "PDARTS") is None
