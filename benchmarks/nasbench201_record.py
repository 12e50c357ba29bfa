"""Searches on CIFAR-10 in the NAS-Bench-201 space, each found cell looked up in the real table: one record.

    python -m benchmarks.nasbench201_record --index FILE --data-root TREE --work DIR --out RECORD.json [--scale paper --device cuda]

`cpu` is a reduced scale that a core does in minutes a run; `paper` is the published search protocol (C=16, N=5, 50 epochs, all
50,000 images; a GPU). The record is written anew after each, and the same command goes on.
"""

import argparse
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.checks.run import describe_run
from benchmarks.tabular.index import read_index
from benchmarks.tabular.table import BenchmarkTable
from cscdarts.records.run_folder import RunFolder, read_json, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import protocol

SEEDS = (0, 1, 2, 3)
#: What the reduced scale changes against the paper's protocol.
CPU = {
    "data.image_size": 16,
    "data.search_fraction": 0.1,
    "supernet.channels": 8,
    "supernet.cells": 1,
    "search.epochs": 12,
    # A fortieth of the steps: at the published 3e-4 alpha would hardly leave its start.
    "search.alpha_lr": 0.02,
}


@dataclass(frozen=True)
class Setting:
    """One method with its switches."""

    name: str
    preset: str
    values: tuple[tuple[str, str], ...] = ()
    scale: str | None = None  # the only one at which it is another run than its neighbour


def _csc(ratio: str, identity: str, order: str) -> Setting:
    values = (("supernet.split_ratio", ratio), ("supernet.identity", identity), ("search.order", order))
    return Setting(f"csc r={ratio} identity={identity} order={order}", "csc", values)


#: The operation that cuts an edge left out: a switch, which the published runs do not throw.
_WITHOUT_NONE = (("supernet.ops", "skip_connect,nor_conv_1x1,nor_conv_3x3,avg_pool_3x3"),)


def _without_none(setting: Setting) -> Setting:
    return Setting(f"{setting.name} without none", setting.preset, setting.values + _WITHOUT_NONE)


def _whole_images(setting: Setting) -> Setting:
    """The reduced scale halves the images' sides; the paper's does not."""
    return Setting(f"{setting.name}, whole images", setting.preset, (*setting.values, ("data.image_size", "32")), "cpu")


#: In the order in which they are run: each group over all seeds before the next, the cheap first order first.
GROUPS = (
    (Setting("darts1", "darts1"), _csc("1/2", "cell", "1")),
    (_csc("1/4", "cell", "1"), Setting("pcdarts", "pcdarts")),
    (_csc("1", "cell", "1"), _csc("1/2", "none", "1"), _csc("1/4", "none", "1")),
    (_without_none(_csc("1/2", "cell", "1")), _without_none(Setting("darts1", "darts1"))),
    (_csc("1/2", "cell", "2"), Setting("darts2", "darts2"), _csc("1/4", "cell", "2")),
    (_csc("1", "cell", "2"), _csc("1/2", "none", "2"), _csc("1/4", "none", "2")),
    (_whole_images(_without_none(_csc("1/2", "cell", "1"))), _whole_images(_without_none(Setting("darts1", "darts1")))),
)
SETTINGS = tuple(setting for group in GROUPS for setting in group)


def settings_of(scale: str) -> tuple[Setting, ...]:
    """The settings that a scale runs."""
    return tuple(setting for setting in SETTINGS if setting.scale in (None, scale))


def configs(scale: str, dataset: str, data_root: str, device: str) -> Iterator[tuple[Setting, RunConfig]]:
    """All runs, group by group and in a group seed by seed.

    Args:
        scale: `cpu` or `paper`.
        dataset: `cifar10` (torchvision's) or `image-folder`.
    """
    base = with_values(protocol("nasbench201", "paper" if scale == "paper" else "reduced"), {"labels.scale": scale})
    base = with_values(
        base,
        {
            "data.dataset": dataset,
            "runtime.data_root": data_root,
            "runtime.device": device,
            **({"runtime.threads": 1, **CPU} if scale == "cpu" else {}),
        },
    )
    chosen_settings = settings_of(scale)
    for group in GROUPS:
        for seed, setting in product(SEEDS, [setting for setting in group if setting in chosen_settings]):
            chosen = with_values(apply_preset(base, setting.preset), dict(setting.values))
            # The protocol sets the schedule for all; a preset's own batch size and rates would make other budgets.
            same: dict[str, Any] = {
                "seed": seed,
                "search.epochs": base.search.epochs,
                "search.batch_size": base.search.batch_size,
                "search.lr": base.search.lr,
                "search.alpha_lr": base.search.alpha_lr,
            }
            if chosen.search.alpha_warmup == 0:
                same["search.alpha_warmup"] = 0
            yield setting, with_values(chosen, same)


def run(config: RunConfig, folder: RunFolder) -> None:
    """Search and derive, unless done."""
    from cscdarts.training.derivation import derive
    from cscdarts.training.resumable import configure_process
    from cscdarts.training.search import search

    configure_process(config)
    folder.create(config)
    if not folder.has("search"):
        search(config, folder, lambda: False, folder.log)
    derive(config, folder)


def entry(setting: Setting, folder: RunFolder, table: BenchmarkTable) -> dict[str, Any]:
    """One run's line of the record."""
    config = folder.config()
    found = describe_run(folder, table, cells=50, images=500)
    search = read_json(folder.file("search.json"))
    kept = ("valid_acc", "test_acc", "rank", "percentile", "regret")
    carried = found["identity_as_edge"]
    return {
        "setting": setting.name,
        "method": config.labels.method,
        "split_ratio": str(config.supernet.split_ratio),
        "identity": config.supernet.identity,
        "order": config.search.order,
        "seed": config.seed,
        "hash": config.hash,
        "arch": found["arch"],
        "index": found["index"],
        "datasets": {name: {key: values[key] for key in kept} for name, values in found["datasets"].items()},
        "identity_as_edge": carried
        and {
            **{key: carried[key] for key in ("arch", "index", "instead_of", "exact")},
            "test_acc": {name: values["test_acc"] for name, values in carried["datasets"].items()},
        },
        "cifar10_test_acc_by_epoch": [line["test_acc"] for line in found["trajectory"]],
        "kendall_tau": found["kendall_tau"],
        "top_k_overlap_pct": found["top_k_overlap_pct"],
        "baselines": found["baselines"],
        "search": search["values"] if search else {},
    }


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and deviation over seeds by setting, in the settings' order."""
    lines = []
    for setting in SETTINGS:
        chosen = [line for line in runs if line["setting"] == setting.name]
        if not chosen:
            continue
        line: dict[str, Any] = {"setting": setting.name, "n": len(chosen)}
        for name in ("cifar10", "cifar100", "imagenet16-120"):
            for key in ("valid_acc", "test_acc"):
                line |= _spread(f"{name}_{key}", [run["datasets"][name][key] for run in chosen])
        carried = [run["identity_as_edge"]["test_acc"]["cifar10"] for run in chosen if run["identity_as_edge"]]
        line |= _spread("cifar10_identity_as_edge", carried)
        taus = [run["kendall_tau"] for run in chosen if run["kendall_tau"] is not None]
        line["kendall_tau_mean"] = round(float(np.mean(taus)), 3) if taus else None
        line["search_time_s_mean"] = round(float(np.mean([run["search"]["search_time_s"] for run in chosen])), 1)
        lines.append(line)
    return lines


def _spread(name: str, values: list[float]) -> dict[str, float | None]:
    """Mean and standard deviation, None where there are too few values."""
    return {
        f"{name}_mean": round(float(np.mean(values)), 3) if values else None,
        f"{name}_sd": round(float(np.std(values, ddof=1)), 3) if len(values) > 1 else None,
    }


def main() -> None:
    """Run what is missing and write the record after every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True, help="made by `cscdarts benchmark index`")
    parser.add_argument(
        "--data-root", required=True, help="CIFAR-10 as train/CLASS and test/CLASS, or torchvision's root"
    )
    parser.add_argument("--dataset", default="image-folder", choices=["image-folder", "cifar10"])
    parser.add_argument("--label", default="CIFAR-10 (JPEG copy)", help="how the data are named beside the numbers")
    parser.add_argument("--scale", default="cpu", choices=["cpu", "paper"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, required=True, help="run folders")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="run only settings whose name has this text")
    parser.add_argument("--collect", action="store_true", help="run nothing, write the record of what is finished")
    arguments = parser.parse_args()
    table = read_index(arguments.index)
    planned = [
        (setting, RunFolder(arguments.work / config.hash), config)
        for setting, config in configs(arguments.scale, arguments.dataset, arguments.data_root, arguments.device)
    ]
    for setting, folder, config in planned:
        if arguments.collect or arguments.only not in setting.name:
            continue
        run(config, folder)
        if read_json(folder.file("entry.json")) is None:
            write_json(folder.file("entry.json"), entry(setting, folder, table))
        print(f"{setting.name} seed {config.seed} done", flush=True)
        write_json(arguments.out, record(arguments, collect(planned), table))
    write_json(arguments.out, record(arguments, collect(planned), table))


def collect(planned: list[tuple[Setting, RunFolder, RunConfig]]) -> list[dict[str, Any]]:
    """The lines of all finished runs, in the settings' order."""
    found = ((setting, read_json(folder.file("entry.json"))) for setting, folder, _ in planned)
    return [{**line, "setting": setting.name} for setting, line in found if line is not None]


def record(arguments: argparse.Namespace, runs: list[dict[str, Any]], table: BenchmarkTable) -> dict[str, Any]:
    """The record: what was run on what, looked up where, with which command."""
    import torch

    from cscdarts.records.environment import describe

    here = describe(arguments.device)
    return {
        "title": "Searches on CIFAR-10 in the NAS-Bench-201 space, found cells looked up in the benchmark",
        "data": arguments.label,
        "scale": arguments.scale,
        "departures": CPU if arguments.scale == "cpu" else {},
        "command": "python -m benchmarks.nasbench201_record "
        f"--index nasbench201.parquet --data-root TREE --dataset {arguments.dataset} --scale {arguments.scale} "
        f"--device {arguments.device} --work DIR --out {arguments.out.name}",
        "benchmark": {**table.provenance, "holds": table.holds, "epochs": 200, "trial": "mean"},
        "environment": {key: here.get(key) for key in ("commit", "python", "torch", "platform", "cpu", "cores", "gpu")},
        "torch": torch.__version__,
        "python": platform.python_version(),
        "runs_planned": len(SEEDS) * len(settings_of(arguments.scale)),
        "summary": summary(runs),
        "runs": runs,
    }


if __name__ == "__main__":
    main()
