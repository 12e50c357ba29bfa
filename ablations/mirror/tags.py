"""The tags of a run's row: short names for MLflow's search box, and those that our own readers go by."""

from pathlib import Path
from typing import Any

from ablations.grid.load import Grid, Point
from ablations.mirror.records import Records, as_dict
from ablations.run.state import RunState
from cscdarts.records.environment import code_text, hardware, stage_environments, surroundings

#: Most characters of a tag that holds a text of any length.
LONGEST = 4000


def search_tags(grid: Grid, point: Point, status: str) -> dict[str, str]:
    """Tags that need no quotes in the search box, `tags.method = 'csc' and tags.split_ratio = '1/2'`.

    A tag whose setting changes nothing in the run is left out: a random cell has no order, and its network no split.
    """
    config = point.config
    searched = config.search.trains_supernet
    found = {
        "grid": grid.name,
        "scale": grid.scale,
        "hash": point.hash,
        "method": point.methods[0],
        "seed": str(config.seed),
        "identity": config.supernet.identity,
        "space": config.supernet.space,
        "dataset": config.data.dataset,
        "status": status,
    }
    if searched:
        found["order"] = str(config.search.order)
    if searched or config.evaluation.split_eval:
        found["split_ratio"] = str(config.supernet.split_ratio)
    return found


def own_tags(grid: Grid, point: Point, status: str, state: RunState) -> dict[str, str]:
    """The tags that hang on no file."""
    return {
        **search_tags(grid, point, status),
        "cscdarts.kind": "run",
        "cscdarts.grid": grid.name,
        "cscdarts.hash": point.hash,
        "cscdarts.seed": str(point.config.seed),
        "cscdarts.methods": ",".join(point.methods),
        "cscdarts.scale": grid.scale,
        "cscdarts.status": status,
        "cscdarts.failure": state.detail[:LONGEST] if status == "failed" else "",
        "cscdarts.damaged": Path(state.damage).name,
    }


def all_tags(grid: Grid, point: Point, records: Records, status: str, state: RunState) -> dict[str, str]:
    """All tags of a run but its description and its home."""
    environment = records["environment.json"]
    # What a retrained network was tested on names the data; a run without retraining knows those of its search only.
    result = as_dict(records["result.json" if point.config.runtime.retrain else "search.json"].get("data"))
    stages = stage_environments(records.folder, point.config)
    searched: dict[str, Any] = stages.get("search", {})
    keys = records.folder.keys() or {}
    return {
        **own_tags(grid, point, status, state),
        "cscdarts.commit": str(environment.get("commit") or ""),
        "cscdarts.dirty": str(environment.get("dirty", "")),
        "cscdarts.hardware": hardware(environment) if environment else "",
        "cscdarts.host": str(environment.get("hostname") or ""),
        "cscdarts.data": str(result.get("label") or point.config.data.dataset),
        "cscdarts.contents": str(result.get("contents") or ""),
        "cscdarts.notes": notes(records),
        "cscdarts.genotype": str(records["genotype.json"].get("text") or ""),
        "cscdarts.torch": str(environment.get("torch") or ""),
        "cscdarts.search": str(keys.get("search") or ""),
        "cscdarts.retraining": str(keys.get("retrain") or ""),
        # Of the search itself: another run, on another machine, may have made it.
        "cscdarts.search_hardware": hardware(searched) if searched else "",
        "cscdarts.search_code": code_text(searched),
        **{f"cscdarts.{name}": value for name, value in surroundings(stages).items()},
    }


def notes(records: Records) -> str:
    """What the stages noted of themselves: standstill, answers by chance, a cell that leads nowhere."""
    found = [records[name].get("notes") for name in ("search.json", "genotype.json", "result.json")]
    return "; ".join(str(note) for told in found if isinstance(told, list) for note in told)[:LONGEST]
