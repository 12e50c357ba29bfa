"""The search: weight steps and architecture steps in turn, epoch by epoch, resumable at any step.

Per step (Liu et al. 2019, algorithm 1): one step of alpha on the validation half (after the warm-up of alpha), then one
of the weights on the training half. Every draw depends only on (seed, epoch, step), so what is resumed equals what was
never stopped.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cscdarts.data.open import open_data
from cscdarts.data.randomness import derived_seed, generator, numpy_generator
from cscdarts.data.source import Batch, labels_of
from cscdarts.errors import BrokenFile
from cscdarts.models.operations import noises, seed_noise
from cscdarts.models.relaxation.penalties import penalty_gradients
from cscdarts.records.ownership import require_search
from cscdarts.records.run_folder import RunFolder, append_line, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import search_key
from cscdarts.spaces.rules import Columns
from cscdarts.training import schedules
from cscdarts.training.bilevel import ArchitectureStep
from cscdarts.training.build import build_supernet, load_kernels, next_columns, stage_of_state
from cscdarts.training.derivation import alpha_entropy, genotype_of_line, name_cell, skip_share_pct
from cscdarts.training.distributed import average, join_world, place, share_statistics
from cscdarts.training.gradients import SupernetGradients, clip
from cscdarts.training.guards.finite import Watch, not_finite
from cscdarts.training.guards.standstill import SearchProgress
from cscdarts.training.memory import PeakMemory
from cscdarts.training.one_shot import best_sample, discrete_mixing, error_pct, sample_mixing, whole_error
from cscdarts.training.resumable import ResumableRun, Timer, compiled, sgd, untimed


def search(
    config: RunConfig,
    folder: RunFolder,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Run or resume the search and write `search.json`; nothing happens where that is there.

    Args:
        stop: asked at every step; when it says yes a checkpoint is saved and `Stopped` raised.
        report: takes one line per epoch.

    Errors:
        Stopped, NumericalError, UserError (data, device, checkpoint, or a folder that holds something else).
    """
    require_search(folder, config)
    if folder.has("search"):
        return
    if not config.search.trains_supernet:
        if join_world(config.runtime.device).leads:
            name_cell(config, folder, report)
        return
    run = SearchRun(config, folder, stop, report)
    run.resume()
    while run.epoch < config.search.all_epochs:
        run.train_epoch()
        run.close_epoch()
    run.finish()


@dataclass
class _Sums:
    """Sums over the steps of an epoch; on the device, so that adding waits for nothing."""

    train_loss: Tensor
    train_wrong: Tensor
    steps: int = 0


class SearchRun(ResumableRun):
    """A search under way: all that moves, and the steps that move it.

    Args:
        timer: entered around every step and every validation pass.
    """

    stage = "search"
    checkpoint = "checkpoint.pt"

    def __init__(
        self, config: RunConfig, folder: RunFolder, stop: Callable[[], bool], report: Callable[[str], None],
        timer: Timer = untimed,
    ) -> None:  # fmt: skip
        super().__init__(config, folder, search_key(config), stop, report)
        self.timer = timer
        world = self.world
        settings = config.search
        self.data = open_data(
            config.data, config.data.searched_dataset, Path(config.runtime.data_root), place(self.device, world),
            settings.batch_size, config.seed, workers=config.runtime.workers,
        )  # fmt: skip
        self.train, self.valid = self.data.halves(config.data)
        for line in self.data.contents.lines():
            report(line)
        load_kernels(config, self.data, self.device, next(self.valid.in_order(4)))
        self.memory = PeakMemory(self.device)
        self.sums = self._zero_sums()
        self.watch = Watch(self.device)
        self.progress = SearchProgress(config, np.bincount(labels_of(self.valid)).tolist())
        self.mixing: Any = None
        self._begin(0, None)

    def _begin(self, number: int, columns: Columns | None) -> None:
        """Begin a stage of the search: a fresh supernet of its depth, with the operations that are left, and fresh
        optimisers. A search that is not in stages is the first of one.

        Args:
            columns: what the edges choose among, None for all candidates.
        """
        self.number, self.present = number, self.config.at_stage(number)
        settings = self.present.search
        self.supernet = build_supernet(self.config, self.data, self.device, number, columns)
        self.noises = noises(self.supernet)
        share_statistics(self.supernet, self.world)
        self.weights, self.architecture = self.supernet.weights(), self.supernet.architecture()
        self.weight_optimizer = sgd(self.weights, settings)
        self.alpha_optimizer = torch.optim.Adam(
            self.architecture, settings.alpha_lr, settings.alpha_betas, weight_decay=settings.alpha_weight_decay
        )
        self.gradients = SupernetGradients(
            self.supernet, self._forward(), settings.amp, settings.accumulate, self.world, replayed=self._graphs
        )
        self.alpha_step = ArchitectureStep(self.supernet, settings, self.weight_optimizer, self.gradients)

    @property
    def epoch_of_stage(self) -> int:
        """The present epoch, counted from the beginning of its stage: what schedules go by."""
        return self.epoch - self.number * self.config.search.epochs_of_stage

    def _forward(self) -> Callable[[Tensor], Tensor]:
        def forward(images: Tensor) -> Tensor:
            out: Tensor = self.supernet(images, self.mixing)
            return out

        if not self.config.search.compile:
            return forward
        return compiled(self.supernet, lambda model, images: model(images, self.mixing), self.report, self._graphs)

    @property
    def _graphs(self) -> bool:
        return self.config.search.compile and self.device.type == "cuda"

    def _zero_sums(self) -> _Sums:
        zero = torch.zeros((), device=self.device)
        return _Sums(zero.clone(), zero.clone())

    # --- one epoch ----------------------------------------------------------------------------

    def train_epoch(self) -> None:
        """All steps of the present epoch from the present step on."""
        settings, started, epoch = self.present.search, time.monotonic(), self.epoch_of_stage
        lr = schedules.cosine_lr(settings.lr, settings.lr_min, epoch, settings.epochs)
        self.weight_optimizer.param_groups[0]["lr"] = lr
        self.supernet.identity_scale = schedules.identity_scale(self.present, epoch)
        self.supernet.relaxation.temperature = schedules.temperature(settings, epoch)
        self.supernet.train()
        learns_alpha = settings.strategy == "gradient" and epoch >= (settings.alpha_warmup or 0)
        steps = min(self.train.steps, self.valid.steps)
        batches = zip(
            self.train.batches(self.epoch, self.step), self.valid.batches(self.epoch, self.step), strict=False
        )
        for train, valid in batches:
            self._draw()
            if learns_alpha:
                self._draw_weights("alpha", noise=0.0)
                with self.timer("architecture step"):
                    self._move_alpha(train, valid, lr)
            self._draw_weights("weights", noise=schedules.alpha_noise(settings, epoch))
            with self.timer("weight step"):
                self.move_weights(train)
            self.step += 1
            self._look(last=self.step == steps)
            if self.step < steps:
                self.pause_if_asked(started)
        self.epoch_seconds += time.monotonic() - started

    def _draw(self) -> None:
        """Per-step draws of the structure: noise, channels of a random pick, the path of random search with sharing."""
        if self.noises:
            number = derived_seed(self.config.seed, "noise", self.epoch, self.step)
            seed_noise(self.noises, number, self.world.rank, self.world.size)
        if self.config.supernet.split_pick == "random":
            draws = generator(torch.device("cpu"), self.config.seed, "channels", self.epoch, self.step)
            self.supernet.draw_channels(draws)
        if self.config.search.strategy == "random-ws":
            draw = numpy_generator(self.config.seed, "path", self.epoch, self.step)
            self.mixing = sample_mixing(self.supernet, draw)

    def _draw_weights(self, purpose: str, noise: float) -> None:
        """Draw what the mixing weights of one step depend on beside alpha; most methods draw nothing."""
        dropped = schedules.skip_dropout(self.present.search, self.epoch_of_stage)
        if self.supernet.relaxation.samples or noise or dropped:
            draws = generator(torch.device("cpu"), self.config.seed, f"mixing of {purpose}", self.epoch, self.step)
            self.supernet.relaxation.draw(draws, noise, dropped)
        else:
            self.supernet.relaxation.rest()

    def _move_alpha(self, train: Batch, valid: Batch, lr: float) -> None:
        grads = self.alpha_step.gradient(train, valid, lr)
        weight = schedules.penalty_weight(self.present.search, self.epoch_of_stage)
        if weight:
            of_alphas = penalty_gradients(self.config.search.penalty, weight, dict(self.supernet.alphas.items()))
            grads = [g + p for g, p in zip(grads, of_alphas, strict=False)] + grads[len(of_alphas) :]
        self.watch.note(self.step, self.alpha_step.numbers)
        for parameter, grad in zip(self.architecture, grads, strict=True):
            parameter.grad = grad
        self.alpha_optimizer.step()
        self.alpha_optimizer.zero_grad()
        self.supernet.close_columns()  # weight decay would bring them back

    def move_weights(self, train: Batch) -> None:
        """One step of the weights, under `mixing` where that is set."""
        grads = self.gradients(train, self.weights)
        for parameter, grad in zip(self.weights, grads, strict=True):
            parameter.grad = grad
        norm = clip(self.weights, self.config.search.grad_clip)
        self.weight_optimizer.step()
        self.weight_optimizer.zero_grad()
        assert self.gradients.last is not None
        loss, wrong = self.gradients.last
        self.sums.train_loss += loss
        self.sums.train_wrong += wrong
        self.sums.steps += 1
        self.watch.note(self.step, {"training loss": loss, "norm of the training gradient": norm})

    def _look(self, last: bool) -> None:
        """Stop on the first loss, gradient or architecture parameter that is not finite, with the state saved."""
        if not self.watch.due(last):
            return
        found = self.watch.broken()
        if found is None:
            named = zip(self.alpha_step.names, self.architecture, strict=True)
            name = not_finite({name: value.detach() for name, value in named})
            found = None if name is None else (self.watch.step, name)
        if found is not None:
            raise self.broken(*found)

    def close_epoch(self) -> None:
        """Measure, record and save at the end of an epoch."""
        settings, sums = self.config.search, self.sums
        self.mixing = None
        averages = torch.stack([sums.train_loss, sums.train_wrong]) / sums.steps
        average([averages], self.world)
        train_loss, train_wrong = averages.tolist()
        share = settings.batch_size / self.world.size
        with self.timer("validation"):
            valid_loss, valid_error = whole_error(self.supernet, self.valid, 2 * settings.batch_size, settings.amp)
        # Batch statistics hide what running ones have become; before a number is recorded all of them are looked at.
        name = not_finite(self.supernet.state_dict()) or (None if math.isfinite(valid_loss) else "validation loss")
        if name is not None:
            raise self.broken(self.watch.step, name)
        line = self._alpha_line()
        genotype = genotype_of_line(self.config.supernet, line, settings.weighting)
        with self.timer("validation"):
            discrete = error_pct(self.supernet, self.valid, discrete_mixing(self.supernet, genotype), limit=None)
        values = {
            "search_train_loss": train_loss,
            "search_train_error_pct": 100 * train_wrong / share,
            "search_valid_loss": valid_loss,
            "search_valid_error_pct": valid_error,
            "weight_lr": self.weight_optimizer.param_groups[0]["lr"],
            "identity_scale": self.supernet.identity_scale,
            "alpha_entropy": alpha_entropy(_arrays(line["alpha"])),
            "skip_share_pct": skip_share_pct(genotype),
            "skip_count": float(genotype.skips),
            "discretisation_gap_pct": discrete - valid_error,
            "search_epoch_time_s": self.epoch_seconds,
        }
        if settings.stages > 1:
            values |= {"search_stage": float(self.number + 1), "search_cells": float(self.present.supernet.cells)}
        for name, value in self._probes().items():
            if math.isfinite(value):
                values[name] = value
            else:
                self.report(f"search: {name} is not finite in epoch {self.epoch + 1} and is not recorded")
        if self.world.leads:
            self.folder.record("search", self.epoch, self.step, values)
            append_line(self.folder.file("alphas.jsonl"), {"epoch": self.epoch, **line})
        self.report(
            f"search epoch {self.epoch + 1}/{settings.all_epochs} loss {train_loss:.4f} "
            f"valid error {valid_error:.2f}% {self.epoch_seconds:.1f}s"
        )
        for note in self.progress.epoch({"epoch": self.epoch, **line}, valid_error):
            self.report(f"search: {note}")
        self.sums = self._zero_sums()
        self._next_stage(self.epoch + 1)
        self.next_epoch(settings.all_epochs)

    def _next_stage(self, epoch: int) -> None:
        """Begin the next stage where an epoch is its first: the weakest operations of each edge are dropped."""
        number = self.config.search.stage_of(epoch)
        if number == self.number:
            return
        self._begin(number, next_columns(self.config, self.supernet, number))
        left = max(len(edge) for edges in self.supernet.columns.values() for edge in edges)
        self.report(
            f"search stage {number + 1}/{self.config.search.stages}: {self.present.supernet.cells} cells, at most "
            f"{left} operations an edge"
        )

    def _probes(self) -> dict[str, float]:
        """Measurements that cost extra passes, every k epochs where they are switched on."""
        settings, found = self.config.search, {}
        train, valid = self.train, self.valid
        lr = self.weight_optimizer.param_groups[0]["lr"]
        if settings.cosine_every and (self.epoch + 1) % settings.cosine_every == 0:
            pair = next(train.batches(self.epoch)), next(valid.batches(self.epoch))
            found["hvp_cosine"] = self.alpha_step.product_cosine(*pair, lr)
        if settings.hessian_every and (self.epoch + 1) % settings.hessian_every == 0:
            found["alpha_hessian_eigenvalue"] = self.alpha_step.hessian_eigenvalue(next(valid.batches(self.epoch)))
        return found

    def _alpha_line(self) -> dict[str, Any]:
        line: dict[str, Any] = {"alpha": {k: v.detach().cpu().tolist() for k, v in self.supernet.alphas.items()}}
        if self.supernet.betas:
            line["beta"] = {k: v.detach().cpu().tolist() for k, v in self.supernet.betas.items()}
        return line

    # --- beginning and end --------------------------------------------------------------------

    def finish(self) -> None:
        """Write `search.json`."""
        from cscdarts.training.stages.costs import dearest, stage_costs

        peak = self.memory.mib()
        # Passes that share batch statistics are run by all processes, or the leading one would wait for ever.
        stages = stage_costs(self.config, self.data, self.supernet, self.folder.alphas(), next(self.train.batches(0)))
        sampled = (
            best_sample(self.config, self.supernet, self.valid) if self.config.search.strategy == "random-ws" else {}
        )
        if not self.world.leads:
            return
        lines = {line["epoch"]: line["values"] for line in self.folder.curves() if line["stage"] == "search"}
        error = lines.get(self.config.search.all_epochs - 1, {}).get("search_valid_error_pct")
        if error is None:
            raise BrokenFile(
                self.folder.metrics("search"), "it has no validation error of the last epoch", "whole",
                f"Move {self.checkpoint} and the one before it away; the search starts afresh.",
            )  # fmt: skip
        record: dict[str, Any] = {
            "key": self.key.id,
            "values": {
                "search_time_s": self.seconds,
                "peak_memory_mib": peak,
                "supernet_valid_error_pct": error,
                **dearest(stages),
            },
            "data": self.data.record(self.config.labels.data),
            "finished_at": time.time(),
        }
        in_stages = {"stages": stages} if self.config.search.stages > 1 else {}
        notes = {"notes": self.progress.notes} if self.progress.notes else {}
        write_json(self.folder.file("search.json"), record | sampled | in_stages | notes)

    def state(self) -> dict[str, Any]:
        """Weights, statistics, architecture parameters, optimisers, sums of the epoch."""
        return {
            "sums": (self.sums.train_loss, self.sums.train_wrong, self.sums.steps),
            "supernet": self.supernet.state_dict(),
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "alpha_optimizer": self.alpha_optimizer.state_dict(),
        }

    def resume(self) -> None:
        """See `ResumableRun.resume`; a search that starts afresh starts with its first stage."""
        super().resume()
        if self.number != self.config.search.stage_of(self.epoch):
            self._begin(0, None)

    def _misfit(self, state: Mapping[str, Any]) -> str | None:
        number, columns = stage_of_state(self.config, state)
        if (number, self.number) != (0, 0):
            self._begin(number, columns)
        return super()._misfit(state)

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        self.supernet.load_state_dict(state["supernet"])
        self.weight_optimizer.load_state_dict(state["weight_optimizer"])
        self.alpha_optimizer.load_state_dict(state["alpha_optimizer"])
        self.sums = _Sums(*state["sums"])
        self.progress.replay(self.folder.alphas(), self.folder.curves(), self.epoch)


def _arrays(alpha: dict[str, Any]) -> dict[str, Any]:
    return {kind: np.asarray(rows, dtype=np.float64) for kind, rows in alpha.items()}
