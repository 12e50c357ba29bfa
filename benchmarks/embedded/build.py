"""From the trainer's shards to the files of the embedded benchmark: table, noise ceiling, best cells, data card."""

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.embedded.table import CARD, PARTS, RESULTS, embedded_table, results
from benchmarks.embedded.training_recipe import KERNELS, TrainingRecipe
from benchmarks.tabular.agreement import kendall_tau, spearman_rho, top_k_overlap_pct
from benchmarks.tabular.index import write_columns
from benchmarks.tabular.isomorphism import classes, live_edges
from benchmarks.tabular.space import network_classes, official_archs
from benchmarks.tabular.table import Floats
from cscdarts.errors import UserError
from cscdarts.records.run_folder import read_json, write_atomic, write_json

#: k of the top-k overlap between seeds: 1 % of the space.
TOP_K = 156


def assemble(work: Path, out: Path) -> dict[str, Any]:
    """Write `digits.parquet`, `digits.json` and `README.md` from all seeds that are complete.

    Args:
        work: the trainer's folder of shards.
        out: where the files go (`benchmarks/embedded` for the package).

    Returns:
        The content of `digits.json`.

    Errors:
        UserError: not one seed is complete.
    """
    stamp = read_json(work / "protocol.json")
    if stamp is None:
        raise UserError("--work", str(work), "a folder that `cscdarts benchmark build` trained in", "Build first.")
    recipe = TrainingRecipe(**{**stamp["protocol"], "seeds": tuple(stamp["protocol"]["seeds"])})
    class_of, cells = classes()
    by_seed = {seed: _gather(work, recipe, seed, len(cells)) for seed in recipe.seeds}
    complete = {seed: columns for seed, columns in by_seed.items() if columns is not None}
    if not complete:
        raise UserError("--work", str(work), "at least one seed with every cell trained", "Let the build go on.")
    import pyarrow as pa

    arrays: dict[str, Any] = {}
    for seed, columns in complete.items():
        for part in PARTS:
            arrays[f"{part}_correct_{seed}"] = pa.array(columns[f"{part}_correct"].astype(np.int16))
            arrays[f"{part}_loss_{seed}"] = pa.array(columns[f"{part}_loss"].astype(np.float32))
    write_columns(arrays, {"schema": 1}, out / RESULTS)
    if network_classes().tolist() != [class_of[arch] for arch in official_archs()]:
        raise UserError(
            "network-classes.bin", "other classes", "those of benchmarks.tabular.isomorphism", "Restore the file."
        )
    made = {
        "data": {"dataset": "digits", "sha256": stamp["data_sha256"], "source": "scikit-learn, load_digits (UCI 80)"},
        "images": _image_counts(recipe),
        "protocol": stamp["protocol"],
        "torch": stamp["torch"],
        "seeds": list(complete),
        "seeds_incomplete": [seed for seed in recipe.seeds if seed not in complete],
        "classes": len(cells),
        "architectures": len(official_archs()),
    }
    write_json(out / CARD, made)
    embedded_table.cache_clear()
    made["statistics"] = statistics(out)
    write_json(out / CARD, made)
    embedded_table.cache_clear()
    write_atomic(out / "README.md", data_card(made))
    return made


def _gather(work: Path, recipe: TrainingRecipe, seed: int, count: int) -> dict[str, Floats] | None:
    """One seed's columns by class, or None where a class is missing."""
    columns = {f"{part}_{what}": np.full(count, np.nan) for part in PARTS for what in ("correct", "loss")}
    for path in sorted(work.glob(f"seed{seed}-chunk*.json")):
        shard = read_json(path) or {}
        for name, values in columns.items():
            values[np.array(shard["classes"], dtype=np.int64)] = shard[name]
    return None if any(np.isnan(values).any() for values in columns.values()) else columns


def _image_counts(recipe: TrainingRecipe) -> dict[str, int]:
    """Images behind each count; of the training part, those that the last epoch's full batches hold."""
    from benchmarks.embedded.trainer import digits

    data = digits()
    seen = len(data.train[1]) // recipe.batch_size * recipe.batch_size
    return {"train": seen, "valid": len(data.valid[1]), "test": len(data.test[1])}


def statistics(folder: Path) -> dict[str, Any]:
    """Noise ceiling, spread and best cells, over the classes of equal networks (each counts once)."""
    made = json.loads((folder / CARD).read_text(encoding="utf-8"))
    values, images, seeds = results(folder), made["images"], made["seeds"]
    accuracy = {
        part: {seed: 100.0 * values[f"{part}_correct_{seed}"] / images[part] for seed in seeds} for part in PARTS
    }
    mean = {part: np.mean(list(accuracy[part].values()), axis=0) for part in PARTS}
    convolutions = np.array(
        [
            sum(live and op in KERNELS for op, live in zip(cell.ops, live_edges(cell.ops), strict=True))
            for cell in classes()[1]
        ]
    )
    best = np.argsort(-mean["test"], kind="stable")[:10]
    index_of_class = {int(number): index for index, number in reversed(list(enumerate(network_classes())))}
    return {
        "between_seeds": {part: _between(list(accuracy[part].values())) for part in ("valid", "test")},
        "valid_to_test": {
            "spearman": spearman_rho(mean["valid"], mean["test"]),
            "kendall": kendall_tau(mean["valid"], mean["test"]),
        },
        "quantiles_pct": {
            part: dict(
                zip(
                    ["min", "10", "50", "90", "max"],
                    np.percentile(mean[part], [0, 10, 50, 90, 100]).tolist(),
                    strict=True,
                )
            )
            for part in ("valid", "test")
        },
        "test_by_convolutions_pct": {
            int(k): float(mean["test"][convolutions == k].mean()) for k in np.unique(convolutions)
        },
        "best": [
            {
                "index": index_of_class[int(number)],
                "arch": official_archs()[index_of_class[int(number)]],
                "valid_acc": float(mean["valid"][number]),
                "test_acc": float(mean["test"][number]),
                "test_acc_by_seed": {str(seed): float(accuracy["test"][seed][number]) for seed in seeds},
            }
            for number in best
        ],
    }


def _between(trials: Sequence[Floats]) -> dict[str, float | None]:
    """Agreement of single trials over pairs of seeds, and what it lets the mean over all of them reach.

    `ceiling_spearman` is the Spearman-Brown extrapolation k rho / (1 + (k - 1) rho): the correlation to expect between
    the mean over these k seeds and the mean over k other ones. No score can agree with the table better than its square
    root.
    """
    pairs = list(combinations(trials, 2))
    if not pairs:
        return {
            "spearman": None,
            "kendall": None,
            "top_k_overlap_pct": None,
            "ceiling_spearman": None,
            "noise_sd_pct": None,
        }
    rho = float(np.mean([spearman_rho(a, b) for a, b in pairs]))
    count = len(trials)
    return {
        "spearman": rho,
        "kendall": float(np.mean([kendall_tau(a, b) for a, b in pairs])),
        "top_k_overlap_pct": float(np.mean([top_k_overlap_pct(a, b, min(TOP_K, len(a))) for a, b in pairs])),
        "ceiling_spearman": count * rho / (1 + (count - 1) * rho),
        "noise_sd_pct": float(np.sqrt(np.mean(np.var(trials, axis=0, ddof=1)))),
    }


def data_card(made: Mapping[str, Any]) -> str:
    """The data card as Markdown; every number comes from the build."""
    recipe, images, found = made["protocol"], made["images"], made["statistics"]
    incomplete = made["seeds_incomplete"]

    def row(part: str) -> str:
        between, quantiles = found["between_seeds"][part], found["quantiles_pct"][part]
        cells = [between["spearman"], between["kendall"], between["ceiling_spearman"]]
        shown = ["–" if value is None else f"{value:.3f}" for value in cells]
        rest = [between["noise_sd_pct"], between["top_k_overlap_pct"]]
        shown += ["–" if value is None else f"{value:.1f}" for value in rest]
        return f"| {part} | {' | '.join(shown)} | {' / '.join(f'{value:.1f}' for value in quantiles.values())} |"

    best = "\n".join(
        f"| {cell['index']} | `{_in_table(cell['arch'])}` | {cell['valid_acc']:.2f} | {cell['test_acc']:.2f} |"
        for cell in found["best"]
    )
    by_convolutions = "\n".join(f"| {k} | {v:.1f} |" for k, v in found["test_by_convolutions_pct"].items())
    complete = "Complete."
    if incomplete:
        complete = f"Seeds {', '.join(map(str, incomplete))} of the protocol are not complete and left out."
    return f"""# The embedded benchmark: every NAS-Bench-201 cell on digits

Written by `cscdarts benchmark build`; do not edit. Numbers here are ours, on 8x8 digits. They say nothing about \
CIFAR-10 and are
no part of NAS-Bench-201 or NATS-Bench.

## What it holds

All {made["architectures"]:,} cells of the space, {len(made["seeds"])} trial{"s" if len(made["seeds"]) > 1 else ""} \
each (seeds {", ".join(map(str, made["seeds"]))}). \
{complete}

The strings spell {made["classes"]:,} different networks; each was trained once per seed and its numbers stand for all \
its spellings
(`benchmarks/tabular/isomorphism.py` says when two cells are one network here). Whoever needs independent trials for \
equal networks
does not find them here.

| file | is |
|---|---|
| `digits.parquet` | by class and seed: correct images and mean cross entropy on the three parts |
| `network-classes.bin` | class of each official index, 16 bits each |
| `digits.json` | protocol, fingerprint of the data, statistics |
| `official-order.bin` | the official numbering of the 15,625 cells, 16 bits each |

## How it was made

- Data: scikit-learn's `load_digits` (UCI Optical Recognition of Handwritten Digits, test part, 1,797 scans). A \
stratified fifth is
  the test part ({images["test"]} images); the rest is halved by class into training and validation \
({images["valid"]} images), the
  halves a search with `split_seed=0` uses. Validation and test accuracy come from the same training, on the training \
half.
- Network: Conv3x3(1 to {recipe["channels"]}), cell at 8x8, reduction to {2 * recipe["channels"]} channels, cell at \
4x4, global average \
pooling, linear. Batch
  normalisation has no learned affine parameters and dead edges are left out (`benchmarks/embedded/network.py`).
- Training: {recipe["epochs"]} epochs, batch {recipe["batch_size"]}, SGD with Nesterov momentum {recipe["momentum"]}, \
learning rate \
{recipe["lr"]} to 0 by cosine, weight decay {recipe["weight_decay"]},
  no augmentation. In look-ups its training length is {recipe["epochs"]} epochs. torch {made["torch"]} on the CPU; \
other versions \
change last digits.
- Training accuracy and loss are those of the last epoch as it went, over {images["train"]} images.
- No times: many cells were trained in one pass, so a cell has no time of its own.

## How noisy it is

| part | Spearman between seeds | Kendall | expected for the mean over seeds | sd of a trial, points | top 1 % \
overlap, % | accuracy \
min / 10 % / median / 90 % / max |
|---|---|---|---|---|---|---|
{row("valid")}
{row("test")}

Validation against test (means): Spearman {found["valid_to_test"]["spearman"]:.3f}, Kendall \
{found["valid_to_test"]["kendall"]:.3f}.
Differences below a trial's deviation say nothing about cells.

| convolutions that reach the output | mean test accuracy, % |
|---|---|
{by_convolutions}

## Best cells by mean test accuracy

| index | cell | valid | test |
|---|---|---|---|
{best}

Picking the best of thousands by its test accuracy flatters it: its expected accuracy on new trials is lower.

## Rebuild

    cscdarts benchmark build --work DIR --jobs 2

It can be stopped and run again, and takes about an hour of one core.
"""


def _in_table(arch: str) -> str:
    """An architecture string inside a Markdown table, where a bare bar would end the column."""
    return arch.replace("|", r"\|")
