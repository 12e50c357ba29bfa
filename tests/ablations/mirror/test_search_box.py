"""What MLflow's users look for in a store: the searches of docs/mlflow.md, data sets, system metrics, descriptions."""

import json
import re
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablations.drive.driver import Driver
from ablations.mirror.datasets import _SOURCES, _searched
from ablations.mirror.description import NOTE, drawing
from ablations.mirror.tags import search_tags
from ablations.mirror.updates import CURSOR, SYSTEM
from cscdarts.data.limits import KNOWN_SETS
from cscdarts.data.source import search_halves
from cscdarts.records.run_folder import RunFolder, read_json, write_json
from cscdarts.settings.overrides import with_values
from cscdarts.spaces.known import KNOWN_GENOTYPES
from tests.support.harness.engine import DATA
from tests.support.harness.finished import CELL
from tests.support.harness.mirrors import content_of, driver_of, mirror_once, name_of, work

PAGE = Path(__file__).parents[3] / "docs" / "mlflow.md"


def _searches() -> list[str]:
    part = PAGE.read_text().partition("## Searching")[2].partition("\n## ")[0]
    return re.findall(r"```text\n(.+?)\n```", part, re.DOTALL)


@pytest.fixture
def driver(tmp_path: Path, uri: str) -> Driver:
    """Four mirrored runs: three done, the third of them with a cell without skips, and one failed."""
    driver = driver_of(tmp_path, ["", "", "", "raise"])
    work(driver, [0, 1, 2, 3], ("search",))
    for index, cell in enumerate((CELL.replace("none", "skip_connect"), CELL, CELL.replace("skip_connect", "none"))):
        path = RunFolder(driver.path(driver.grid.points[index])).file("genotype.json")
        write_json(path, {"space": "nasbench201", "text": cell, "epoch": 2})
    work(driver, [0, 1, 2])
    mirror_once(driver, uri)
    return driver


def _found(uri: str, query: str) -> set[str]:
    """The seeds of the runs that a search finds, and "" for the grid's own row."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("mine")
    assert experiment is not None
    return {run.data.tags.get("seed", "") for run in client.search_runs([experiment.experiment_id], query)}


def test_each_search_of_the_page_finds_what_it_says(driver: Driver, uri: str) -> None:
    values = [read_json(RunFolder(driver.path(p)).file("result.json")) for p in driver.grid.points[:3]]
    errors = [(one or {})["values"]["test_error_pct"] for one in values]
    everything = {"0", "1", "2", "3"}
    expected = [
        everything,
        everything,
        {"0", "1", "3"},
        {str(seed) for seed, error in enumerate(errors) if error < 60},
        {"3"},
        {"1"},
        {"0", "1"},
        {"0", "1", "2"},
        everything,
        {"0", "1", "2"},
        {"0", "1", "2"},
    ]
    searches = _searches()
    assert len(searches) == len(expected)
    for query, seeds in zip(searches, expected, strict=True):
        filled = query.replace("{hash}", driver.grid.points[1].hash[:8]).replace("{digest}", DATA["sha256"][:16])
        assert _found(uri, filled) == seeds, query


def test_the_page_names_every_short_tag(driver: Driver, uri: str) -> None:
    tags = content_of(uri, driver.grid)[name_of(driver, 0)][1]
    short = {key for key in tags if "." not in key} - {"parent"}
    table = PAGE.read_text().partition("| tag | is |")[2].partition("\n## ")[0]
    assert short == set(re.findall("`([a-z_]+)`", table)) - {"pending", "running", "done", "failed"} - {"ablate"}


def test_the_pages_searches_go_through_mlflows_own_function(
    driver: Driver, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        frame = mlflow.search_runs(experiment_names=["mine"], filter_string=_searches()[2])
    finally:
        mlflow.set_tracking_uri(before)
    assert sorted(frame["tags.seed"]) == ["0", "1", "3"]


def test_a_random_cell_has_no_order_and_no_split(tmp_path: Path, uri: str) -> None:
    driver = driver_of(tmp_path, [""])
    (point,) = driver.grid.points
    drawn = replace(point, config=with_values(point.config, {"search.strategy": "random"}))
    tags = search_tags(driver.grid, drawn, "done")
    assert not {"order", "split_ratio"} & tags.keys()
    assert {"order", "split_ratio"} <= search_tags(driver.grid, point, "done").keys()


def test_data_sets_stand_at_each_run(driver: Driver, uri: str) -> None:
    from mlflow.data.schema import TensorDatasetSchema

    row = _row(uri, "0")
    used = {one.dataset.name: one for one in row.inputs.dataset_inputs}
    contexts = {name: [tag.value for tag in one.tags] for name, one in used.items()}
    assert contexts == {
        "digits/search-weights": ["training"],
        "digits/search-alphas": ["validation"],
        "digits/train": ["training"],
        "digits/test": ["testing"],
    }
    counts = {name: json.loads(one.dataset.profile)["images"] for name, one in used.items()}
    assert counts["digits/train"] == DATA["train_images"]
    assert counts["digits/test"] == DATA["test_images"]
    share = driver.grid.points[0].config.data.search_fraction
    assert counts["digits/search-weights"] + counts["digits/search-alphas"] == _searched(dict(DATA), share)
    digests = {name: one.dataset.digest for name, one in used.items()}
    assert digests["digits/train"] == digests["digits/test"] == DATA["sha256"][:16]
    assert digests["digits/search-weights"] not in (digests["digits/train"], "")
    for one in used.values():
        schema = TensorDatasetSchema.from_dict(json.loads(one.dataset.schema))
        assert schema.features.inputs[0].shape == (-1, 1, 8, 8)
    failed = _row(uri, "3")
    assert failed.inputs.dataset_inputs == [], "its search left no record"


@pytest.mark.parametrize("share", [1.0, 0.125, 0.3])
def test_counts_of_halves_are_those_of_the_engine(share: float) -> None:
    counts = KNOWN_SETS["digits"][0]
    first, second = search_halves(np.repeat(np.arange(10), counts), share, 0)
    total = _searched(dict(DATA), share)
    assert total is not None
    assert ((total + 1) // 2, total // 2) == (len(first), len(second))
    assert share == 1 or _searched({**DATA, "dataset": "image-folder"}, share) is None


def test_addresses_of_downloaded_sets_are_torchvisions() -> None:
    from torchvision import datasets

    assert _SOURCES["cifar10"][1]["url"] == datasets.CIFAR10.url
    assert _SOURCES["cifar100"][1]["url"] == datasets.CIFAR100.url
    assert _SOURCES["fashion-mnist"][1]["url"] in datasets.FashionMNIST.mirrors


def test_system_metrics_repeat_what_is_measured(driver: Driver, uri: str) -> None:
    curves = content_of(uri, driver.grid)[name_of(driver, 0)][3]
    assert {name for name in curves if name.startswith("system/")} == set(SYSTEM.values())
    for name, system in SYSTEM.items():
        assert curves[system] == curves[name]


def test_a_description_tells_result_check_and_cell(driver: Driver, uri: str) -> None:
    folder = RunFolder(driver.path(driver.grid.points[0]))
    check = {
        "benchmark": {"holds": 15625, "name": "a_b|c"}, "primary": "digits",
        "datasets": {"digits": {"percentile": 55.7, "test_acc": 87.5, "regret": 9.2}},
    }  # fmt: skip
    write_json(folder.file("check.json"), check)
    mirror_once(driver, uri)
    tags = content_of(uri, driver.grid)[name_of(driver, 0)][1]
    error = (read_json(folder.file("result.json")) or {})["values"]["test_error_pct"]
    assert f"| test error | {error:.2f} % |" in tags[NOTE]
    assert "a\\_b\\|c* gives this cell 87.50 % test accuracy on digits: better than 55.7 % of the 15,625" in tags[NOTE]
    assert drawing(CELL.replace("none", "skip_connect"), "nasbench201") in tags[NOTE]
    failed = content_of(uri, driver.grid)[name_of(driver, 3)][1][NOTE]
    assert "**Failed:**" in failed
    assert "the loss went astray" in failed
    assert "### Cell" not in failed


def test_an_edited_description_stays_and_an_emptied_one_comes_back(driver: Driver, uri: str) -> None:
    from mlflow import MlflowClient

    client, ours = MlflowClient(uri), _row(uri, "0").data.tags[NOTE]
    client.set_tag(_row(uri, "0").info.run_id, NOTE, f"Look here.\n\n{ours}")
    client.set_tag(_row(uri, "1").info.run_id, NOTE, "")
    for index in (0, 1):
        RunFolder(driver.path(driver.grid.points[index])).log("one more line")
    assert mirror_once(driver, uri) == 2
    assert _row(uri, "0").data.tags[NOTE].startswith("Look here.")
    assert "### Cell" in _row(uri, "1").data.tags[NOTE]


def test_each_arrow_of_a_drawing_begins_and_ends_below_its_nodes() -> None:
    for name, cell in KNOWN_GENOTYPES.items():
        for kind in drawing(str(cell), cell.space).split("\n\n"):
            _, nodes, *arrows = kind.splitlines()
            begins = [match.start() for match in re.finditer(r"\(", nodes)]
            found = [(len(line) - len(line.lstrip()), len(line), line.split("- ")[1].split()[0]) for line in arrows]
            expected = {
                (begins[edge.source] + 1, edge.op, begins[edge.target])
                for which in ("normal", "reduce")
                for edge in cell.edges(which)
                if kind.startswith(which) and edge.op != "none"
            }
            assert {(start, op, end) for start, end, op in found} == expected, name


def test_a_row_of_an_earlier_form_gets_what_is_new_and_nothing_twice(driver: Driver, uri: str) -> None:
    before = content_of(uri, driver.grid)
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        database.execute(
            "DELETE FROM tags WHERE key NOT LIKE 'cscdarts.%' AND key NOT LIKE 'mlflow.%' OR key = ?", [NOTE]
        )
        for table in ("metrics", "latest_metrics"):
            database.execute(f"DELETE FROM {table} WHERE key LIKE 'system/%'")
        for table in ("input_tags", "inputs", "datasets"):
            database.execute(f"DELETE FROM {table}")
        notes = database.execute("SELECT run_uuid, value FROM tags WHERE key = ?", [CURSOR]).fetchall()
        for run_id, note in notes:
            earlier = {key: value for key, value in json.loads(note).items() if key not in ("form", "datasets")}
            database.execute(
                "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?", [json.dumps(earlier), run_id, CURSOR]
            )
    database.close()
    assert content_of(uri, driver.grid) != before
    assert mirror_once(driver, uri) == 4
    assert content_of(uri, driver.grid) == before
    assert mirror_once(driver, uri) == 0


def _row(uri: str, seed: str) -> Any:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("mine")
    assert experiment is not None
    (row,) = client.search_runs([experiment.experiment_id], f"tags.seed = '{seed}'")
    return client.get_run(row.info.run_id)
