"""T5's block of the DARTS space: a surrogate's predictions, said to be such, never beside measured numbers."""

from typing import Any

from reports.read.settings import studies
from reports.read.store import load
from reports.tables.benchmark import CheckBook, benchmark_table, check_table
from tests.support.report_store import SyntheticStore, check_content, tiny


def prediction(accuracy: float) -> dict[str, Any]:
    return {
        "arch": "Genotype(...)",
        "space": "darts",
        "benchmark": {"kind": "nasbench301-surrogate", "source": "xgb.onnx"},
        "datasets": {},
        "predicted": {"cifar10": {"valid_acc": accuracy, "sd": None}},
    }


def test_predictions_have_a_block_of_their_own(store: SyntheticStore) -> None:
    values = {"test_error_pct": 3.0}
    for seed, accuracy in enumerate((93.0, 95.0)):
        its: dict[str, Any] = {"supernet__space": "darts", "supernet__cells": 3}
        store.add(tiny(seed, **its), values, check=prediction(accuracy), name=f"d{seed:015d}")
        store.add(tiny(seed), values, check=check_content(seed), name=f"e{seed:015d}")
    found = load(["quickstart"], store.finish())
    book, its_studies = CheckBook(found), studies(found)
    published, predicted = benchmark_table(its_studies, book).blocks
    assert predicted.title.startswith("DARTS space, predicted, not measured: ")
    assert predicted.title.endswith("nasbench301-surrogate xgb.onnx")
    (row,) = predicted.rows
    texts = [cell.text for cell in row.cells]
    assert texts[1] == "surrogate"
    assert row.cells[2].value == 94.0
    assert row.cells[2].spread == 2**0.5
    assert all(cell.value is None for cell in row.cells[3:8])
    assert texts[8:10] == ["2", "predicted, not measured"]
    assert all("94.00" not in cell.text for line in published.rows for cell in line.cells)
    checks = check_table(its_studies, book)
    assert all("surrogate" not in block.title for block in checks.blocks)
    assert checks.blocks
