"""Trains the whole NAS-Bench-201 space on digits, many cells in one pass: what stands behind the embedded benchmark.

One unit of work is a chunk of cell classes under one seed; its result is one small JSON file, written by rename, so a
build can be stopped and run again, by any number of processes, and no unit is trained twice. Units are ordered seed by
seed: after the first seed the table is already complete with one trial per cell.
"""

import contextlib
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.embedded.network import BatchedCells
from benchmarks.embedded.training_recipe import KERNELS, TrainingRecipe
from benchmarks.tabular.isomorphism import classes, live_edges
from cscdarts.data.datasets import load_arrays
from cscdarts.data.randomness import permutation
from cscdarts.data.source import search_halves
from cscdarts.errors import CannotWrite, UserError
from cscdarts.records.run_folder import read_json, write_json
from cscdarts.settings.config import DataConfig


@dataclass(frozen=True)
class Images:
    """The three parts of digits, normalised: (n, 1, 8, 8) float32 and (n,) int64.

    The test part is the data set's fixed stratified fifth; training and validation part are the two class-balanced
    halves that a search with the default split learns from.
    """

    train: tuple[Tensor, Tensor]
    valid: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    sha256: str


@cache
def digits() -> Images:
    """Read digits from scikit-learn and split it."""
    arrays = load_arrays(DataConfig(), "digits", Path())
    first, second = search_halves(arrays.train_labels.numpy(), 1.0, 0)
    scaled = arrays.train_images.float() / 255
    mean, std = scaled.mean(), scaled.std()

    def part(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return ((images.float() / 255 - mean) / std).contiguous(), labels

    return Images(
        part(arrays.train_images[first], arrays.train_labels[first]),
        part(arrays.train_images[second], arrays.train_labels[second]),
        part(arrays.test_images, arrays.test_labels),
        arrays.sha256(),
    )


@dataclass(frozen=True)
class Unit:
    """One chunk of classes under one seed."""

    seed: int
    number: int
    classes: tuple[int, ...]

    @property
    def file(self) -> str:
        """Name of its result file."""
        return f"seed{self.seed}-chunk{self.number:04d}.json"


def units(recipe: TrainingRecipe, only: Iterable[int] | None = None) -> list[Unit]:
    """All units, seed by seed; classes with alike edges stand together, so that chunks take alike time.

    Args:
        only: class numbers to train instead of all.
    """
    cells = classes()[1]
    chosen = sorted(
        range(len(cells)) if only is None else only,
        key=lambda number: (
            sum(
                live and op in KERNELS
                for op, live in zip(cells[number].ops, live_edges(cells[number].ops), strict=True)
            ),
            live_edges(cells[number].ops),
            number,
        ),
    )
    chunks = [tuple(chosen[first : first + recipe.chunk]) for first in range(0, len(chosen), recipe.chunk)]
    return [Unit(seed, number, chunk) for seed in recipe.seeds for number, chunk in enumerate(chunks)]


def train_unit(unit: Unit, recipe: TrainingRecipe, images: Images) -> dict[str, Any]:
    """Train the cells of a unit side by side and test each once.

    Returns:
        `classes`, `seed`, and lists in that order: correct counts and mean cross entropy on the three parts (training:
        over the last epoch, as it went), and the wall time of training and of one validation pass divided by the
        number of models.
    """
    cells = classes()[1]
    chosen = [cells[number] for number in unit.classes]
    net = BatchedCells([cell.ops for cell in chosen], [str(cell) for cell in chosen], unit.seed, recipe.skeleton)
    x, y = images.train
    steps = len(y) // recipe.batch_size
    parameters = net.parameters()
    momentum = [torch.zeros_like(parameter) for parameter in parameters]
    begun = time.perf_counter()
    correct, loss_sum = torch.zeros(net.m, dtype=torch.long), torch.zeros(net.m)
    for epoch in range(recipe.epochs):
        order = permutation(len(y), unit.seed, "embedded", epoch)
        correct.zero_(), loss_sum.zero_()
        for step in range(steps):
            rows = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            logits = net.forward(x[rows], training=True)
            losses = _cross_entropy(logits, y[rows])
            # Models share no weight, so the gradient of the sum holds each model's own gradient.
            gradients = torch.autograd.grad(losses.sum(), parameters)
            progress = (epoch * steps + step) / (recipe.epochs * steps)
            _nesterov(parameters, gradients, momentum, recipe, recipe.lr * (1 + math.cos(math.pi * progress)) / 2)
            correct += (logits.detach().argmax(-1) == y[rows]).sum(1)
            loss_sum += losses.detach()
    trained = time.perf_counter()
    valid_correct, valid_loss = _evaluate(net, *images.valid)
    evaluated = time.perf_counter()
    test_correct, test_loss = _evaluate(net, *images.test)
    return {
        "seed": unit.seed,
        "classes": list(unit.classes),
        "train_correct": correct.tolist(),
        "train_loss": [round(value, 5) for value in (loss_sum / steps).tolist()],
        "valid_correct": valid_correct,
        "valid_loss": valid_loss,
        "test_correct": test_correct,
        "test_loss": test_loss,
        "train_s": round((trained - begun) / net.m, 4),
        "valid_s": round((evaluated - trained) / net.m, 5),
    }


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of each model, (m,), of logits (m, n, classes)."""
    m, n, k = logits.shape
    return F.cross_entropy(logits.reshape(-1, k), labels.repeat(m), reduction="none").view(m, n).mean(1)


def _nesterov(
    parameters: list[Tensor], gradients: tuple[Tensor, ...], momentum: list[Tensor], recipe: TrainingRecipe, lr: float
) -> None:
    """`torch.optim.SGD(nesterov=True)` in five fused calls; weight decay on everything."""
    with torch.no_grad():
        grads = list(gradients)
        torch._foreach_add_(grads, parameters, alpha=recipe.weight_decay)
        torch._foreach_mul_(momentum, recipe.momentum)
        torch._foreach_add_(momentum, grads)
        torch._foreach_add_(grads, momentum, alpha=recipe.momentum)
        torch._foreach_add_(parameters, grads, alpha=-lr)


@torch.no_grad()
def _evaluate(net: BatchedCells, images: Tensor, labels: Tensor) -> tuple[list[int], list[float]]:
    correct, loss = torch.zeros(net.m, dtype=torch.long), torch.zeros(net.m)
    for rows in torch.split(torch.arange(len(labels)), 128):
        logits = net.forward(images[rows], training=False)
        correct += (logits.argmax(-1) == labels[rows]).sum(1)
        loss += _cross_entropy(logits, labels[rows]) * len(rows)
    return correct.tolist(), [round(value, 5) for value in (loss / len(labels)).tolist()]


def prepare(folder: Path, recipe: TrainingRecipe) -> None:
    """Make the folder of shards, or refuse one that holds the shards of another recipe.

    Errors:
        UserError: the folder belongs to another recipe or data, or cannot be written.
    """
    stamp = {
        "protocol": {**asdict(recipe), "seeds": list(recipe.seeds)},
        "data_sha256": digits().sha256,
        "torch": torch.__version__,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        present = read_json(folder / "protocol.json")
        if present is None:
            write_json(folder / "protocol.json", stamp)
    except OSError as error:
        raise CannotWrite("--work", str(folder), error) from error
    if present is not None and {k: present.get(k) for k in ("protocol", "data_sha256")} != {
        k: stamp[k] for k in ("protocol", "data_sha256")
    }:
        raise UserError("--work", str(folder), "an empty folder or one of the same protocol", "Give another folder.")


def train_all(
    folder: Path,
    recipe: TrainingRecipe,
    jobs: int,
    report: Callable[[str], None],
    only: Iterable[int] | None = None,
) -> int:
    """Train every unit whose result is not there yet, in `jobs` processes of one thread each.

    Returns:
        How many units were trained now.
    """
    prepare(folder, recipe)
    todo = [unit for unit in units(recipe, only) if not (folder / unit.file).exists()]
    report(f"{len(todo)} chunks of up to {recipe.chunk} cells to train in {jobs} process(es)")
    begun, done = time.monotonic(), 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_single_thread) as pool:
        waiting: Iterator[Unit] = iter(todo)
        running: set[Future[str]] = set()
        while True:
            for unit in waiting:
                running.add(pool.submit(_work, unit, recipe, folder))
                if len(running) > jobs:
                    break
            if not running:
                return done
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                name = future.result()
                done += 1
                left = (time.monotonic() - begun) / done * (len(todo) - done)
                report(f"{name} done, {done} of {len(todo)}, about {left / 60:.0f} minutes left")


def _single_thread() -> None:
    torch.set_num_threads(1)
    with contextlib.suppress(OSError):
        os.nice(10)


def _work(unit: Unit, recipe: TrainingRecipe, folder: Path) -> str:
    write_json(folder / unit.file, train_unit(unit, recipe, digits()))
    return unit.file
