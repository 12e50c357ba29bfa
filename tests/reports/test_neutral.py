"""Runs from before a field of the configuration came stand beside later ones that have its neutral value."""

from pathlib import Path

import numpy as np
import pytest

from reports.read.settings import studies
from reports.read.store import load
from tests.support.report_store import SyntheticStore, tiny


@pytest.mark.parametrize(
    ("values", "seeds"), [((None, "squeeze", None), [[0, 1, 2]]), ((None, "pad", "squeeze"), [[0, 2], [1]])]
)
def test_an_absent_field_has_its_neutral_value(
    values: tuple[str | None, ...], seeds: list[list[int]], tmp_path: Path, empty_store: Path
) -> None:
    made = SyntheticStore(tmp_path, empty_store)
    for seed in range(3):
        made.add(tiny(seed), {"test_error_pct": 3.0}, name=f"a{seed:015d}")
    made.add(tiny(3), {"test_error_pct": 3.0}, name="b" * 16, params=False)  # its parameters are not mirrored yet
    store = load(["quickstart"], made.finish())
    assert "data.square" not in store.runs
    store.runs["data.square"] = [np.nan if value is None else value for value in (*values, None)]
    settings = [setting for study in studies(store) for setting in study.settings]
    mirrored = [setting for setting in settings if any(setting.params.values())]
    assert sorted([int(run["seed"]) for run in setting.runs] for setting in mirrored) == seeds
    assert {setting.params["data.square"] for setting in mirrored} == {value or "squeeze" for value in values}
    assert len(settings) == len(mirrored) + 1
