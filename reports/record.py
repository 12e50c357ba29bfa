"""A grid's looked-up runs as one JSON record: what was searched on what, which table answered, and how to do it
again."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cscdarts.errors import BrokenFile, CannotWrite, UserError
from cscdarts.records.run_folder import RunFolder, read_record, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.methods import PRESETS
from cscdarts.settings.overrides import dotted
from cscdarts.settings.protocols import PROTOCOLS, protocol
from reports import statistics
from reports.read.claims.weighed import weighed
from reports.read.form import problem
from reports.read.settings import SEEDS, studies
from reports.read.store import Manifest, Store, load

#: What is kept of a data set's look-up and of a run's surroundings.
_ACCURACIES = ("valid_acc", "test_acc", "rank", "percentile", "regret")
_SURROUNDINGS = ("commit", "python", "torch", "platform", "cpu", "cores", "gpu")


def write_record(grid: str, out: Path, scale: str | None = None, uri: str | None = None) -> dict[str, Any]:
    """Write the record of a grid's runs that a benchmark has answered for, and return it.

    Args:
        grid: its name, or the path of its file.
        scale: which scale's runs; needed where the store has several.
        uri: tracking URI, the environment's if None.

    Errors:
        UserError: no such grid or scale, no run with a look-up, look-ups in several tables, or a file that cannot be
        written.
    """
    record = grid_record(load([grid], uri, scale), out.name)
    try:
        write_json(out, record)
    except OSError as error:
        raise CannotWrite("--out", str(out), error) from error
    return record


def grid_record(store: Store, name: str) -> dict[str, Any]:
    """The record of a store that holds one grid at one scale; see `write_record`.

    Args:
        name: the record's file name, for its own command.
    """
    grid = store.grids[0]
    scales = sorted({manifest.scale for manifest in store.manifests})
    if len(scales) > 1:
        raise UserError("--scale", "none", " or ".join(scales), "The store has runs at each; choose one.")
    rows = {str(row["hash"]): row for row in store.runs.to_dict("records")}
    planned = [key for manifest in store.manifests for key in manifest.runs]
    runs, configs, checks, environments, labels = [], [], [], [], []
    for key in planned:
        folder = store.folder(rows[key]["run_id"], rows[key]["artifact_uri"]) if key in rows else None
        check = read_record(folder.file("check.json")) if folder is not None else None
        if folder is not None and check is not None and "predicted" not in check:
            why = problem(_LookUp, check) or _missing_primary(check)
            if why is not None:
                fix = f"Move the run's own check.json away and run {grid} again."
                raise BrokenFile(folder.file("check.json"), why, "a whole look-up", fix)
            runs.append(entry(folder, check, str(rows[key]["methods"]).split(",")))
            configs.append(folder.config())
            checks.append(check)
            environments.append(_kept(read_record(folder.file("environment.json")) or {}, _SURROUNDINGS))
            labels.append(str(rows[key]["data"]))
    tables = {str(check["benchmark"].get("sha256", check["benchmark"]["source"])) for check in checks}
    if len(tables) != 1:
        words = f"look-ups in {len(tables)} tables" if tables else "no run with a look-up"
        fix = f"cscdarts ablate run {grid} --set runtime.benchmark=NAME, after removing other check.json files."
        raise UserError(grid, words, "a grid whose runs were looked up in one benchmark", fix)
    check = checks[0]
    primary = check["datasets"][check["primary"]]
    table = check["benchmark"].get("name", "a table")
    return {
        "title": f"Runs of the grid {grid}, their derived cells looked up in {table}",
        "data": ", ".join(dict.fromkeys(labels)),
        "scale": scales[0],
        "departures": departures(configs),
        "commands": commands(store.manifests[0], name),
        "benchmark": {**check["benchmark"], "epochs": primary["epochs"], "trial": primary["trial"]},
        **_environments(runs, environments),
        "runs_planned": len(planned),
        "claims": claims(store),
        "summary": summary(runs),
        "runs": runs,
    }


def claims(store: Store) -> list[dict[str, Any]]:
    """T0's rows, of each data set the store holds, with numbers as they are."""
    return [
        {
            "data": block.data,
            "number": claim.number,
            "claim": claim.text,
            "test": claim.test,
            "refuted_by": claim.refuted_by,
            "unit": claim.unit,
            "verdict": found.word,
            "effect": found.effect,
            "interval_95": found.interval and [found.interval.low, found.interval.high],
            "seeds": found.seeds,
            "pairs": found.pairs,
            "needed": found.needed,
            "remarks": found.why,
        }
        for block in weighed(studies(store))
        for claim, found in block.rows
    ]


class _Benchmark(BaseModel):
    source: str


class _Dataset(BaseModel):
    valid_acc: float | None
    test_acc: float | None
    epochs: int
    trial: Any


class _EpochLookUp(BaseModel):
    test_acc: float | None


class _CarriedDataset(BaseModel):
    test_acc: float | None


class _Carried(BaseModel):
    arch: str
    datasets: dict[str, _CarriedDataset]


class _LookUp(BaseModel):
    """What a record takes from `check.json`."""

    arch: str
    index: int
    primary: str
    benchmark: _Benchmark
    datasets: dict[str, _Dataset]
    identity_as_edge: _Carried | None
    trajectory: list[_EpochLookUp]
    kendall_tau: float | None
    top_k_overlap_pct: float | None
    baselines: Any


def _missing_primary(check: Mapping[str, Any]) -> str | None:
    return None if check["primary"] in check["datasets"] else f"it lacks datasets.{check['primary']}"


def setting_name(config: RunConfig, methods: Sequence[str]) -> str:
    """`csc r=1/2 identity=cell order=1`, a baseline's own name, or a given cell's network; and the grid's note on what
    else was changed."""
    supernet, phases = config.supernet, config.supernet.identity_phases
    place = supernet.identity if supernet.identity == "none" or phases == "both" else f"{supernet.identity} in {phases}"
    name = (
        f"csc r={supernet.split_ratio} identity={place} order={config.search.order}" if "csc" in methods else methods[0]
    )
    if config.search.strategy == "given":
        name = f"given cells={config.evaluation.cells} identity={config.identity_in('eval')}"
    return " ".join(part for part in (name, config.labels.note) if part)


def entry(folder: RunFolder, check: Mapping[str, Any], methods: Sequence[str]) -> dict[str, Any]:
    """One run: its setting, its cell, and what the table says of it."""
    config, carried = folder.config(), check["identity_as_edge"]
    return {
        "setting": setting_name(config, methods),
        "method": config.labels.method,
        "split_ratio": str(config.supernet.split_ratio),
        "identity": config.supernet.identity,
        "identity_phases": config.supernet.identity_phases,
        "order": config.search.order,
        "cells": config.evaluation.cells,
        "seed": config.seed,
        "hash": config.hash,
        "arch": check["arch"],
        "index": check["index"],
        "primary": check["primary"],
        "datasets": {name: _kept(values, _ACCURACIES) for name, values in check["datasets"].items()},
        "identity_as_edge": carried
        and {
            **_kept(carried, ("arch", "index", "instead_of", "exact")),
            "test_acc": {name: values["test_acc"] for name, values in carried["datasets"].items()},
        },
        "test_acc_by_epoch": [line["test_acc"] for line in check["trajectory"]],
        "skip_count_by_epoch": _skip_counts(folder),
        "kendall_tau": check["kendall_tau"],
        "top_k_overlap_pct": check["top_k_overlap_pct"],
        "baselines": check["baselines"],
        "search": (read_record(folder.file("search.json")) or {}).get("values", {}),
        "retraining": (read_record(folder.file("result.json")) or {}).get("values", {}),
    }


def _skip_counts(folder: RunFolder) -> list[int]:
    """Skip connections in the cell that each epoch of the search would have derived, as far as they were recorded."""
    lines = ((line["stage"], line["epoch"], line["values"].get("skip_count")) for line in folder.curves())
    counts = sorted((epoch, int(count)) for stage, epoch, count in lines if stage == "search" and count is not None)
    return [count for _, count in counts]


def _kept(values: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: values.get(key) for key in keys}


def summary(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean and deviation over seeds by setting, in the order of the runs."""
    by_setting: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        by_setting.setdefault(str(run["setting"]), []).append(run)
    lines = []
    for name, chosen in by_setting.items():
        line: dict[str, Any] = {"setting": name, "n": len(chosen)}
        for dataset in chosen[0]["datasets"]:
            for key in ("valid_acc", "test_acc"):
                line |= _spread(f"{dataset}_{key}", [run["datasets"][dataset][key] for run in chosen])
        primary = chosen[0]["primary"]
        carried = [run["identity_as_edge"]["test_acc"][primary] for run in chosen if run["identity_as_edge"]]
        line |= _spread(f"{primary}_identity_as_edge", carried)
        errors = [run.get("retraining", {}).get("test_error_pct") for run in chosen]
        if any(error is not None for error in errors):
            line |= _spread("test_error_pct", errors)
        line["kendall_tau_mean"] = _spread("tau", [run["kendall_tau"] for run in chosen])["tau_mean"]
        seconds = _spread("s", [run["search"].get("search_time_s") for run in chosen], digits=1)
        lines.append({**line, "search_time_s_mean": seconds["s_mean"]})
    return lines


def _spread(name: str, values: Sequence[float | None], digits: int = 3) -> dict[str, float | None]:
    """Mean and standard deviation of the known values, None where there are too few."""
    known = statistics.finite([value for value in values if value is not None])
    centre, spread = statistics.mean(known), statistics.sd(known)
    return {
        f"{name}_mean": None if centre is None else round(centre, digits),
        f"{name}_sd": None if spread is None else round(spread, digits),
    }


def _environments(runs: Sequence[dict[str, Any]], found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The first run's surroundings, and by commit those of runs by other code, which then carry their commit."""
    first = found[0]
    later: dict[str, Any] = {}
    for run, own in zip(runs, found, strict=True):
        if own["commit"] != first["commit"]:
            run["commit"] = own["commit"]
            later.setdefault(str(own["commit"]), _kept(own, _SURROUNDINGS[1:]))
    return {"environment": first, **({"environments_of_later_runs": later} if later else {})}


def departures(configs: Sequence[RunConfig]) -> dict[str, Any]:
    """Settings, besides those that tell methods apart, in which runs differ from the nearest published protocol.

    Returns:
        Dotted path -> value, or the list of values where the runs have several; nothing of a retraining that is not
        run.
    """
    # A given cell is what its run is about, as a method's values are.
    methods = {key for preset in PRESETS.values() for key in preset.values} | set(SEEDS) | {"search.genotype"}

    def values(config: RunConfig) -> dict[str, Any]:
        unused = {"runtime", "labels", "schema_version"} | (set() if configs[0].runtime.retrain else {"evaluation"})
        whole = dotted(config.model_dump(mode="json", exclude=unused))
        return {key: value for key, value in whole.items() if key not in methods}

    ours = [values(config) for config in configs]
    space = configs[0].supernet.space
    published = [values(one) for one in (protocol(name, "paper") for name in PROTOCOLS) if one.supernet.space == space]
    nearest = min(published, key=lambda theirs: sum(ours[0][key] != theirs[key] for key in theirs))
    found: dict[str, list[Any]] = {}
    for own in ours:
        for key, value in own.items():
            if value != nearest[key] and value not in found.setdefault(key, []):
                found[key].append(value)
    return {key: several[0] if len(several) == 1 else several for key, several in found.items() if several}


def commands(manifest: Manifest, name: str) -> list[str]:
    """The commands that make the record again; places on this machine are left out."""
    words = ["cscdarts", "ablate", "run", manifest.grid, "--scale", manifest.scale]
    for key, value in manifest.overrides.items():
        if key == "runtime.data_root":
            words += ["--data-root", "DIR"]
        elif key == "runtime.benchmark":
            form, _, place = value.partition(":")
            words += ["--set", f"{key}={form}:{Path(place).name}" if place else f"{key}={form}"]
        else:
            words += ["--set", f"{key}={value}"]
    return [shlex.join(words), shlex.join(["cscdarts", "report", "record", manifest.grid, "--out", name])]
