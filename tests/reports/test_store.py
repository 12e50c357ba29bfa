"""Reading MLflow: both ways in agree, gaps and repeats are seen, bad input is one sentence."""

from pathlib import Path

import pandas as pd
import pytest

from cscdarts.errors import UserError
from reports.read import store as reading
from reports.read.artifacts import local_path
from reports.read.settings import studies
from reports.read.store import load
from tests.support.report_store import SyntheticStore, tiny


def test_queries_and_client_give_the_same_frame(store: SyntheticStore) -> None:
    for seed in range(3):
        store.add(tiny(seed), {"test_error_pct": 3.0 + seed, "macs_m": float("nan")})
    store.add(tiny(3), {"test_error_pct": float("inf")}, tags={"cscdarts.host": "größe,'\"<b>"})
    store.add(tiny(4), status="failed", tags={"cscdarts.failure": "out of memory"})
    uri = store.finish()
    fast = reading._read_sqlite(["quickstart"], uri)
    slow = reading._read_client(["quickstart"], uri)
    one, two = (reading._assemble(uri, ["quickstart"], *found, None) for found in (fast, slow))
    columns = sorted(one.runs.columns)
    assert columns == sorted(two.runs.columns)
    pd.testing.assert_frame_equal(one.runs[columns], two.runs[columns])
    assert one.manifests == two.manifests
    assert one.not_a_number == two.not_a_number


def test_numbers_that_are_none_are_noted_and_become_missing(store: SyntheticStore) -> None:
    store.add(tiny(0), {"test_error_pct": float("nan")})
    store.add(tiny(1), {"test_error_pct": float("inf")})
    found = load(["quickstart"], store.finish())
    assert found.runs["test_error_pct"].isna().all()
    assert {metric for _, metric in found.not_a_number} == {"test_error_pct"}
    assert len(found.not_a_number) == 2


def test_a_hash_in_two_grids_is_one_run(store: SyntheticStore) -> None:
    store.add(tiny(0), {"test_error_pct": 3.0}, grid="identity", methods=("csc",))
    store.add(tiny(0), {"test_error_pct": 3.0}, grid="order", methods=("csc", "darts2"))
    found = load(["identity", "order"], store.finish())
    assert len(found.runs) == 1
    assert found.runs.loc[0, "grid"] == "identity,order"
    assert found.runs.loc[0, "methods"] == "csc,darts2"
    assert found.repeats == {tiny(0).hash: 2}
    assert found.conflicts == []


def test_the_same_hash_with_another_number_is_a_conflict(store: SyntheticStore) -> None:
    store.add(tiny(0), {"test_error_pct": 3.0}, grid="identity")
    store.add(tiny(0), {"test_error_pct": 3.1}, grid="order")
    assert load(["identity", "order"], store.finish()).conflicts == [tiny(0).hash]


def test_a_finished_run_is_preferred_to_a_failed_repeat(store: SyntheticStore) -> None:
    store.add(tiny(0), status="failed", grid="identity")
    store.add(tiny(0), {"test_error_pct": 3.0}, grid="order")
    assert load(["identity", "order"], store.finish()).runs.loc[0, "status"] == "done"


def test_scale_keeps_only_its_runs(store: SyntheticStore) -> None:
    store.add(tiny(0, "smoke"), {"test_error_pct": 30.0})
    store.add(tiny(0, "reduced"), {"test_error_pct": 3.0})
    uri = store.finish()
    found = load(["quickstart"], uri, "smoke")
    assert set(found.runs["scale"]) == {"smoke"}
    assert [manifest.scale for manifest in found.manifests] == ["smoke"]
    with pytest.raises(UserError, match="'paper' is not valid; allowed: reduced or smoke"):
        load(["quickstart"], uri, "paper")


def test_settings_gather_seeds_and_nothing_else(quick: SyntheticStore) -> None:
    (study,) = studies(load(["quickstart"], quick.uri))
    assert len(study.settings) == 16
    assert all([run["seed"] for run in setting.runs] == [0, 1, 2] for setting in study.settings)
    assert study.reference is not None
    assert study.reference.describe() == "ratio 1/2, identity cell, order 2"
    assert study.varied == ()


def test_a_grid_file_stands_for_its_name(quick: SyntheticStore) -> None:
    assert len(load(["ablations/grids/quickstart.py"], quick.uri).runs) == 48


@pytest.mark.parametrize(
    ("grids", "uri", "sentence"),
    [
        ([], "sqlite:///x.db", "at least one grid"),
        (["quickstart"], "sqlite:////nowhere/mlflow.db", "an MLflow store that exists"),
        (["nosuch"], None, "'nosuch' is not valid; allowed: a grid recorded in"),
    ],
)
def test_bad_input_is_one_sentence(quick: SyntheticStore, grids: list[str], uri: str | None, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load(grids, uri or quick.uri)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be looked at by sqlite " * 30)
    with pytest.raises(UserError, match="an MLflow database"):
        load(["quickstart"], f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_artifact_places() -> None:
    assert local_path("/a/b") == Path("/a/b")
    assert local_path("file:///a/b%20c") == Path("/a/b c")
    assert local_path("mlflow-artifacts:/0/x/artifacts") is None
    assert local_path("mlruns/1/x/artifacts", "sqlite:////srv/mlflow.db") == Path("/srv/mlruns/1/x/artifacts")
