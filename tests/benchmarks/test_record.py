"""The shipped record of searches in the NAS-Bench-201 space: its grid, and what can be told of it without the real
table."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ablations.grid.load import Grid, load_grid
from ablations.grids.nasbench201_ablation import REDUCED, SEEDS
from ablations.run.stages import stages_of
from benchmarks.tabular.space import official_archs
from cscdarts.settings.overrides import parse_assignments
from reports.record import departures, setting_name, summary

RECORDS = Path(__file__).parents[2] / "benchmarks" / "records"
RECORD = RECORDS / "nasbench201-cifar10-cpu.json"


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return content


def _grid(scale: str, *assignments: str) -> Grid:
    return load_grid("nasbench201_ablation", scale, assignments)


@pytest.mark.parametrize(("scale", "settings"), [("smoke", 15), ("reduced", 17), ("paper", 15)])
def test_every_setting_is_another_run_on_one_budget(scale: str, settings: int) -> None:
    points = _grid(scale).points
    assert len(points) == len(SEEDS) * settings
    for key in ("epochs", "batch_size", "lr", "alpha_lr", "momentum", "weight_decay"):
        assert len({getattr(point.config.search, key) for point in points}) == 1
    supernets = [point.config.supernet for point in points]
    assert len({(supernet.channels, supernet.cells, supernet.space) for supernet in supernets}) == 1
    assert {stages_of(point.config) for point in points} == {("search", "derive", "check")}


def test_settings_are_the_methods_they_are_called() -> None:
    by_name = {
        setting_name(point.config, point.methods): point.config
        for point in _grid("paper").points
        if not point.config.seed
    }
    darts = by_name["darts1"]
    assert (str(darts.supernet.split_ratio), darts.supernet.identity, darts.search.order) == ("1", "none", 1)
    assert darts.search.alpha_warmup == 0
    ours = by_name["csc r=1/4 identity=cell order=2"]
    assert (str(ours.supernet.split_ratio), ours.supernet.identity, ours.search.order) == ("1/4", "cell", 2)
    assert (ours.supernet.channels, ours.supernet.cells, ours.search.epochs) == (16, 5, 50)
    assert by_name["pcdarts"].supernet.edge_norm
    assert "none" not in (by_name["darts1 without none"].supernet.ops or ("none",))


def test_the_shipped_record_is_the_grid_s(record: dict[str, Any]) -> None:
    """Its command names the grid and what was set; every run in it is one that this command would run, none is
    missing."""
    command = record["commands"][0].split("--set ")
    assigned = [part.strip().strip("'") for part in command[1:]]
    points = {point.hash: point for point in _grid(record["scale"], *assigned).points}
    assert command[0].split()[:4] == ["cscdarts", "ablate", "run", "nasbench201_ablation"]
    assert sorted(run["hash"] for run in record["runs"]) == sorted(points)
    assert record["runs_planned"] == len(points)
    for run in record["runs"]:
        point = points[run["hash"]]
        config = point.config
        assert run["setting"] == setting_name(config, point.methods)
        assert (run["split_ratio"], run["identity"]) == (str(config.supernet.split_ratio), config.supernet.identity)
        assert (run["order"], run["seed"], run["method"]) == (config.search.order, config.seed, config.labels.method)
    assert record["data"] == parse_assignments(assigned)["labels.data"]
    assert record["departures"] == departures([points[run["hash"]].config for run in record["runs"]])
    assert REDUCED.keys() <= record["departures"].keys()


def test_the_shipped_record_agrees_with_itself(record: dict[str, Any]) -> None:
    assert record["summary"] == summary(record["runs"])
    for run in record["runs"]:
        assert official_archs()[run["index"]] == run["arch"]
        assert (run["identity_as_edge"] is not None) == (run["identity"] == "cell")
        assert run["test_acc_by_epoch"][-1] == pytest.approx(run["datasets"]["cifar10"]["test_acc"])
    assert not any(word.startswith("/") for command in record["commands"] for word in command.split())


CLAIMS_RECORD = RECORDS / "claims"


def test_the_record_of_the_claims_is_its_grid_s_and_its_page_is_the_record_s() -> None:
    content: dict[str, Any] = json.loads((CLAIMS_RECORD / "digits.json").read_text(encoding="utf-8"))
    points = {point.hash: point for point in load_grid("claims", content["scale"]).points}
    assert content["commands"][0] == "cscdarts ablate run claims --scale reduced"
    assert sorted(run["hash"] for run in content["runs"]) == sorted(points)
    for run in content["runs"]:
        assert run["setting"] == setting_name(points[run["hash"]].config, points[run["hash"]].methods)
    assert content["summary"] == summary(content["runs"])
    page = (CLAIMS_RECORD / "README.md").read_text(encoding="utf-8").replace("−", "-")
    second = json.loads((CLAIMS_RECORD / "cifar10.json").read_text(encoding="utf-8"))
    assert second["summary"] == summary(second["runs"])
    assert (len(second["runs"]), second["runs_planned"]) == (84, 84)
    depths = json.loads((CLAIMS_RECORD / "cifar10-depths.json").read_text(encoding="utf-8"))
    assert depths["summary"] == summary(depths["runs"])
    assert (len(depths["runs"]), depths["runs_planned"]) == (144, 144)
    # Which cells they are and how deep does not depend on the data; their runs' hashes do.
    assert Counter((run["arch"], run["cells"], run["identity"], run["seed"]) for run in depths["runs"]) == Counter(
        (run["arch"], run["cells"], run["identity"], run["seed"])
        for run in content["runs"]
        if run["method"].startswith("cell")
    )
    (depth,) = [claim for claim in depths["claims"] if claim["number"] == 4]
    told = [*content["claims"], *(depth if claim["number"] == 4 else claim for claim in second["claims"])]
    lines = [line for line in page.splitlines() if re.match(r"\| [1-7] ", line)]
    assert len(lines) == 2 * len(content["claims"]) == 14
    for line, claim in zip(lines, told, strict=True):
        assert claim["verdict"] in line
        if claim["interval_95"] is not None:
            for number in claim["interval_95"]:
                assert any(f"{number:.{digits}f}" in line for digits in (2, 3)), line
    for name, row in {
        "ratio 1/2, identity, 1st order": "csc r=1/2 identity=cell order=1",
        "ratio 1/2, identity in the retrained network only, 2nd order": "csc r=1/2 identity=cell in eval order=2",
        "PC-DARTS": "pcdarts",
    }.items():
        (means,) = [one for one in content["summary"] if one["setting"] == row]
        line = next(line for line in page.splitlines() if line.startswith(f"| {name} |"))
        assert f"{means['test_error_pct_mean']:.2f} ± {means['test_error_pct_sd']:.2f}" in line


LONG = {
    "DARTS, 1st order": "darts1",
    "neither split nor identity, 1st order": "csc r=1 identity=none order=1",
    "identity alone, 1st order": "csc r=1 identity=cell order=1",
    "split alone, 1st order": "csc r=1/2 identity=none order=1",
    "split and identity, 1st order": "csc r=1/2 identity=cell order=1",
    "DARTS, 2nd order": "darts2",
    "split and identity, 2nd order": "csc r=1/2 identity=cell order=2",
}


def test_the_long_search_is_its_grid_s_and_told_as_recorded() -> None:
    content: dict[str, Any] = json.loads((CLAIMS_RECORD / "collapse.json").read_text(encoding="utf-8"))
    wanted = Counter(
        (setting_name(point.config, point.methods), point.config.seed)
        for point in load_grid("collapse", "reduced").points
    )
    there = Counter((run["setting"], run["seed"]) for run in content["runs"])
    assert there <= wanted
    assert content["runs_planned"] == wanted.total()
    assert {setting for setting, _ in there} == set(LONG.values())
    page = (CLAIMS_RECORD / "README.md").read_text(encoding="utf-8").partition("## A search of 150 epochs")[2]
    for name, setting in LONG.items():
        runs = sorted((run for run in content["runs"] if run["setting"] == setting), key=lambda run: int(run["seed"]))
        assert {len(run["skip_count_by_epoch"]) for run in runs} == {150}
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {name} |"))
        _, ends, since, convolutions, errors = (cell.strip() for cell in line.strip("|").split("|"))
        assert ends == ", ".join(str(run["skip_count_by_epoch"][-1]) for run in runs)
        assert errors == ", ".join(f"{run['retraining']['test_error_pct']:.2f}" for run in runs)
        assert [run["skip_count_by_epoch"][-1] for run in runs] == [run["arch"].count("skip_connect") for run in runs]
        assert convolutions == ", ".join(str(run["arch"].count("nor_conv")) for run in runs)
        assert since == ", ".join(_six_from(run["skip_count_by_epoch"]) for run in runs)


def _six_from(counts: list[int]) -> str:
    """The first epoch, from 1, from which on all six edges hold skip connections."""
    others = [epoch for epoch, count in enumerate(counts, start=1) if count != 6]
    last = others[-1] if others else 0
    return "never" if last == len(counts) else str(last + 1)
