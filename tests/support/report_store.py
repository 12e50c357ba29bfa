"""A synthetic MLflow store for the report's tests: written through the MLflow client as the mirror writes it."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cscdarts.records.run_folder import append_line, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import protocol

COMMIT = "0123456789abcdef0123456789abcdef01234567"
START_MS = 1_750_000_000_000
CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|avg_pool_3x3~1|skip_connect~2|"


def flatten(config: RunConfig) -> dict[str, str]:
    """The config's dotted parameters as the mirror writes them."""
    flat: dict[str, str] = {}

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            flat[prefix] = ",".join(map(str, value)) if isinstance(value, list) else str(value)

    walk("", json.loads(config.canonical()))
    return flat


class SyntheticStore:
    """Adds runs to an MLflow store.

    Args:
        folder: where `mlflow.db` and the artifacts lie.
        template: an empty store to copy, because making one takes seconds of migrations.
    """

    def __init__(self, folder: Path, template: Path) -> None:
        from mlflow import MlflowClient

        self.folder = folder
        shutil.copy(template, folder / "mlflow.db")
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.client = MlflowClient(self.uri)
        self.experiments: dict[str, str] = {}
        self.manifests: dict[tuple[str, str], dict[str, list[str]]] = {}

    def experiment(self, grid: str) -> str:
        """The grid's experiment, made on first use."""
        if grid not in self.experiments:
            place = self.folder / "artifacts" / str(len(self.experiments))
            place.mkdir(parents=True)
            self.experiments[grid] = self.client.create_experiment(grid, artifact_location=str(place))
        return self.experiments[grid]

    def add(
        self,
        config: RunConfig,
        values: Mapping[str, float] | None = None,
        *,
        grid: str = "quickstart",
        methods: Sequence[str] = ("csc",),
        status: str = "done",
        tags: Mapping[str, str] | None = None,
        curves: Iterable[tuple[str, int, Mapping[str, float]]] = (),
        alphas: Iterable[Mapping[str, Any]] = (),
        check: Mapping[str, Any] | None = None,
        genotype: str = CELL,
        log: str = "2025-06-15T15:06:40Z search begins\n",
        listed: bool = True,
        params: bool = True,
        name: str = "",
    ) -> str:
        """Record one run as the mirror does; returns its MLflow id. `name` stands for the hash where a test needs it
        fixed."""
        from mlflow.entities import Metric, Param, RunTag

        if listed:
            self.manifests.setdefault((grid, config.labels.scale), {})[name or config.hash] = list(methods)
        run = self.client.create_run(self.experiment(grid), start_time=START_MS + 1000 * config.seed)
        identity: str = run.info.run_id
        all_tags = {
            "cscdarts.kind": "run",
            "cscdarts.grid": grid,
            "cscdarts.hash": name or config.hash,
            "cscdarts.seed": str(config.seed),
            "cscdarts.methods": ",".join(methods),
            "cscdarts.scale": config.labels.scale,
            "cscdarts.status": status,
            "cscdarts.commit": COMMIT,
            "cscdarts.dirty": "false",
            "cscdarts.hardware": "Example CPU, 2 cores",
            "cscdarts.host": "node1",
            "cscdarts.data": "digits",
            "cscdarts.contents": "10 classes, 1,437 + 360 images of 8x8",
            "cscdarts.genotype": genotype if status == "done" else "",
            "cscdarts.torch": "2.9.0",
            **(tags or {}),
        }
        own = flatten(config) if params else {}
        self.client.log_batch(
            identity,
            params=[Param(key, value) for key, value in own.items()],
            tags=[RunTag(key, value) for key, value in all_tags.items()],
            metrics=[Metric(name, value, START_MS + 60_000, 0) for name, value in (values or {}).items()],
        )
        place = Path(self.client.get_run(identity).info.artifact_uri)
        place.mkdir(parents=True, exist_ok=True)
        write_json(place / "config.json", json.loads(config.model_dump_json()))
        (place / "log.txt").write_text(log, encoding="utf-8")
        for stage, epoch, line in curves:
            append_line(place / "metrics.jsonl", {"stage": stage, "epoch": epoch, "step": epoch, "values": dict(line)})
        for alpha in alphas:
            append_line(place / "alphas.jsonl", alpha)
        if check is not None:
            write_json(place / "check.json", check)
        self.client.set_terminated(
            identity, "FAILED" if status == "failed" else "FINISHED", end_time=START_MS + 60_000 + 1000 * config.seed
        )
        return identity

    def finish(self, extra: Mapping[tuple[str, str], Mapping[str, list[str]]] | None = None) -> str:
        """Write the parent runs with their manifests; returns the tracking URI."""
        from mlflow.entities import RunTag

        for (grid, scale), runs in self.manifests.items():
            run = self.client.create_run(self.experiment(grid), start_time=START_MS)
            tags = {"cscdarts.kind": "grid", "cscdarts.grid": grid, "cscdarts.scale": scale}
            self.client.log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in tags.items()])
            wanted = {**runs, **(extra or {}).get((grid, scale), {})}
            place = Path(self.client.get_run(run.info.run_id).info.artifact_uri)
            place.mkdir(parents=True, exist_ok=True)
            manifest = [{"hash": key, "methods": methods, "seed": 0} for key, methods in wanted.items()]
            write_json(place / "grid.json", {"grid": grid, "scale": scale, "overrides": {}, "runs": manifest})
            self.client.set_terminated(run.info.run_id, end_time=START_MS + 120_000)
        return self.uri


def tiny(seed: int = 0, scale: str = "reduced", **values: object) -> RunConfig:
    """A config of CSC-DARTS on digits; `values` are dotted paths with `__` for the dot."""
    changes = {name.replace("__", "."): value for name, value in values.items()}
    return with_values(apply_preset(protocol("quickstart", scale), "csc"), {"seed": seed, **changes})


def quickstart_like(store: SyntheticStore, seeds: int = 3) -> None:
    """Ratio {1, 1/2, 1/4} x identity {cell, none} x order {1, 2} and four baselines, with smooth made-up numbers."""
    base = protocol("quickstart", "reduced")
    for r, ratio in enumerate(("1", "1/2", "1/4")):
        for i, identity in enumerate(("cell", "none")):
            for order in (1, 2):
                for seed in range(seeds):
                    config = with_values(
                        apply_preset(base, "csc"),
                        {
                            "supernet.split_ratio": ratio,
                            "supernet.identity": identity,
                            "search.order": order,
                            "seed": seed,
                        },
                    )
                    plain = ratio == "1" and identity == "none"
                    methods = ["csc", f"darts{order}"] if plain else ["csc"]
                    error = 3.0 + 0.4 * r + 0.5 * i - 0.1 * order + 0.15 * ((seed * 7 + r + order) % 3)
                    add_synthetic(store, config, methods, error, 1.0 / (r + 1), order)
    for name, error in (("pcdarts", 3.3), ("dartsminus", 3.6), ("random", 5.2), ("random-ws", 4.4)):
        for seed in range(seeds):
            config = with_values(apply_preset(base, name), {"seed": seed})
            add_synthetic(store, config, [name], error + 0.2 * seed, 0.6, 1)


def check_content(seed: int, kind: str = "embedded", dataset: str = "digits", shift: float = 0.0) -> dict[str, Any]:
    """A `check.json` as `benchmarks.checks.run` writes it, for one cell."""
    scores = [40.0 + (7 * k + seed) % 30 for k in range(30)]
    known = [60.0 + 0.5 * score + (k % 4) for k, score in enumerate(scores)]
    entry = {
        "valid_acc": 95.5 - seed + shift,
        "test_acc": 96.0 - seed + shift,
        "rank": 40 + seed,
        "percentile": 99.0,
        "regret": 1.0 + seed,
        "epochs": 6,
        "trial": "mean",
    }
    return {
        "arch": CELL,
        "index": 11,
        "benchmark": {"kind": kind, "source": "somewhere", "holds": 15625, "of": 15625},
        "datasets": {dataset: entry},
        "primary": dataset,
        "trajectory": [{"epoch": 0, "test_acc": 90.0 - seed}, {"epoch": 1, "test_acc": 96.0 - seed + shift}],
        "identity_as_edge": {
            "arch": CELL.replace("nor_conv_1x1~0", "skip_connect~0"),
            "index": 12,
            "instead_of": "nor_conv_1x1",
            "exact": False,
            "datasets": {dataset: {"valid_acc": 95.0, "test_acc": 97.0 - seed, "rank": 7}},
        },
        "kendall_tau": 0.5 + 0.1 * seed,
        "top_k_overlap_pct": 30.0,
        "baselines": {"random_search": {"beaten_repeats_pct": 80.0}},
        "one_shot": {
            "cells": 30,
            "k": 3,
            "index": list(range(30)),
            "supernet_valid_acc": scores,
            "benchmark_valid_acc": known,
        },
    }


def add_synthetic(
    store: SyntheticStore, config: RunConfig, methods: list[str], error: float, share: float, order: int
) -> str:
    """One finished run with smooth made-up numbers, curves, architecture parameters and a check; its MLflow id."""
    seed = config.seed
    epochs = config.search.epochs
    searched = config.search.strategy == "gradient"
    curves = [
        (
            "search",
            epoch,
            {
                "search_train_loss": 2.2 * 0.85**epoch,
                "search_valid_error_pct": 60 * 0.8**epoch + error + seed,
                "skip_count": float(min(3, epoch // 3 + (seed % 2))),
                "alpha_entropy": 1.6 - 0.05 * epoch,
                "discretisation_gap_pct": 12 - 0.6 * epoch + seed,
                "alpha_hessian_eigenvalue": 0.2 + 0.03 * epoch + 0.02 * seed,
            },
        )
        for epoch in range(epochs)
    ]
    curves += [
        ("check", epoch, {"benchmark_test_acc_pct": 80 + epoch - seed, "benchmark_percentile": 40 + 4 * epoch})
        for epoch in range(epochs)
    ]
    curves += [("retrain", epoch, {"retrain_train_loss": 2.0 * 0.7**epoch}) for epoch in range(6)]
    alphas = [
        {
            "epoch": epoch,
            "alpha": {
                "cell": [
                    [0.05 * epoch * ((edge + op + seed) % 5 - 2) / (1 + share) for op in range(5)] for edge in range(6)
                ]
            },
        }
        for epoch in range(epochs)
    ]
    return store.add(
        config,
        {
            "test_error_pct": error,
            "supernet_valid_error_pct": error + 2 + 0.1 * seed,
            "params_m": 0.012 + 0.001 * (seed % 2),
            "macs_m": 1.31,
            "supernet_params_m": 0.02 * share,
            "supernet_macs_m": 2.5 * share,
            "memory_access_mb": 12.0 * share,
            "saved_mb": 30.0 * share,
            "peak_memory_mib": 210 + 180 * share + 3 * seed,
            "search_time_s": (9 + 6 * share) * order + 0.2 * seed,
            "retrain_time_s": 6.0,
        },
        methods=methods,
        curves=curves if searched else [line for line in curves if line[0] == "retrain"],
        alphas=alphas if searched else [],
        check=check_content(seed) if searched else None,
    )


def clone_runs(store: SyntheticStore, template: str, count: int) -> None:
    """Copy one recorded run `count` times by SQL, each with its own hash, seed and split ratio, and its files as links.

    Writing 5,000 runs through the client would take many minutes; the rows that come out are the same.
    """
    import sqlite3

    place = Path(store.client.get_run(template).info.artifact_uri)
    db = sqlite3.connect(store.folder / "mlflow.db")
    for k in range(count):
        identity = f"{k:032x}"
        files = place.parent.parent / identity / "artifacts"
        files.mkdir(parents=True)
        for path in place.iterdir():
            (files / path.name).hardlink_to(path)
        columns = [row[1] for row in db.execute("pragma table_info(runs)")]
        chosen = ",".join({"run_uuid": "?", "artifact_uri": "?"}.get(name, name) for name in columns)
        order = [
            str(files) if name == "artifact_uri" else identity
            for name in columns
            if name in ("run_uuid", "artifact_uri")
        ]
        db.execute(f"INSERT INTO runs SELECT {chosen} FROM runs WHERE run_uuid = ?", (*order, template))
        for table in ("params", "tags", "latest_metrics"):
            names = [row[1] for row in db.execute(f"pragma table_info({table})")]
            copied = ",".join("?" if name == "run_uuid" else name for name in names)
            db.execute(f"INSERT INTO {table} SELECT {copied} FROM {table} WHERE run_uuid = ?", (identity, template))
        changes = {"cscdarts.hash": f"{k:016x}", "cscdarts.seed": str(k % 5)}
        for key, value in changes.items():
            db.execute("UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?", (value, identity, key))
        changes = {"search.lr": str(0.001 * (1 + k // 5)), "seed": str(k % 5), "evaluation.seed": str(k % 5)}
        for key, value in changes.items():
            db.execute("UPDATE params SET value = ? WHERE run_uuid = ? AND key = ?", (value, identity, key))
        shift = "UPDATE latest_metrics SET value = value + ? WHERE run_uuid = ? AND key = 'test_error_pct'"
        db.execute(shift, (0.01 * (k % 7), identity))
    db.commit()
    db.close()
