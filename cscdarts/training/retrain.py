"""Retraining of the derived network from scratch, and the one look at the test set.

Recipe of quark0/darts `cnn/train.py` and `cnn/train_imagenet.py`: SGD, auxiliary loss, cutout, drop-path that rises
linearly with the epoch, gradient clipping, label smoothing where set. The network trains on the whole training set; the
test error is that of the last epoch, never of the best one.
"""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.data.limits import require_batch
from cscdarts.data.open import open_data
from cscdarts.data.randomness import derived_seed, generator
from cscdarts.data.source import Batch
from cscdarts.errors import MissingFile, UserError
from cscdarts.models.cost import fit_channels, network_cost
from cscdarts.models.network import Network
from cscdarts.models.operations import noises, seed_noise
from cscdarts.records.ownership import require_retraining
from cscdarts.records.run_folder import RunFolder, read_record, write_json
from cscdarts.settings.config import EvaluationConfig, RunConfig, SupernetConfig
from cscdarts.settings.connected import require_connected
from cscdarts.settings.keys import retraining_key
from cscdarts.spaces import Genotype, is_large, parse_genotype
from cscdarts.training.distributed import average, overlapped, place, share_statistics
from cscdarts.training.gradients import autocast, full
from cscdarts.training.guards.finite import Watch, not_finite
from cscdarts.training.guards.standstill import RetrainProgress
from cscdarts.training.resumable import ResumableRun, compiled, sgd
from cscdarts.training.schedules import drop_path, evaluation_lr


def retrain(
    config: RunConfig,
    folder: RunFolder,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Train the derived network, test it once, write `result.json`; nothing happens where that is there.

    Errors:
        Stopped, NumericalError, UserError (data, device, checkpoint, no genotype, or one cut off from its input).
    """
    present = read_record(folder.file("genotype.json"))
    if present is None:
        raise MissingFile(str(folder.path), "Run the search first.", "genotype.json")
    require_retraining(folder, config)
    if folder.has("result"):
        return
    genotype = parse_genotype(str(present["text"]), config.supernet.space)
    require_connected(config, genotype)
    run = RetrainRun(config, folder, genotype, stop, report)
    run.resume()
    while run.epoch < config.evaluation.epochs:
        run.train_epoch()
        run.close_epoch()
    run.finish()


def initial_network(
    genotype: Genotype, evaluation: EvaluationConfig, supernet: SupernetConfig, identity: str, classes: int,
    image_channels: int, size: int, *, seed: int,
) -> Network:  # fmt: skip
    """The network as a retraining begins with it: its weights depend on the seed and on nothing drawn before.

    Args:
        evaluation, supernet, identity, classes, image_channels: see `Network`.
        size: side of the images in pixels.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "network"))
        return Network(genotype, evaluation, supernet, identity, classes, image_channels, is_large(size))


class RetrainRun(ResumableRun):
    """A retraining under way."""

    stage = "retrain"
    checkpoint = "retrain.pt"

    def __init__(
        self, config: RunConfig, folder: RunFolder, genotype: Genotype, stop: Callable[[], bool],
        report: Callable[[str], None],
    ) -> None:  # fmt: skip
        super().__init__(config, folder, retraining_key(config, str(genotype)), stop, report)
        self.genotype = genotype
        settings, identity = config.evaluation, config.identity_in("eval")
        seed = settings.seed if settings.seed is not None else config.seed
        self.seed = seed
        self.data = open_data(
            config.data, config.data.dataset, Path(config.runtime.data_root), place(self.device, self.world),
            settings.batch_size, seed, cutout=settings.cutout, workers=config.runtime.workers,
            color_jitter=settings.color_jitter,
        )  # fmt: skip
        if settings.epochs > 0:
            require_batch(sum(self.data.contents.train), settings.batch_size)
        self._require_searched_data()
        for line in self.data.contents.lines(said=(read_record(folder.file("search.json")) or {}).get("data")):
            report(line)
        shape = (config.supernet, identity, self.data.classes, self.data.channels, self.data.size)
        if settings.fit_macs_m is not None:
            channels = fit_channels(genotype, settings, *shape, limit_macs=settings.fit_macs_m * 1e6)
            settings = settings.model_copy(update={"channels": channels})
            report(f"{channels} channels fit {config.evaluation.fit_macs_m} M MACs")
        self.settings: EvaluationConfig = settings
        self.cost = network_cost(genotype, settings, *shape)
        self.network = initial_network(genotype, settings, *shape, seed=seed).to(self.device)
        self.network.dropper.rank, self.network.dropper.world = self.world.rank, self.world.size
        self.noises = noises(self.network)
        share_statistics(self.network, self.world)
        self.parameters = list(self.network.parameters())
        self.optimizer = sgd(self.parameters, settings)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.amp == "fp16")
        # A compiled network's gradients are averaged after the pass.
        form = (self.data.channels, self.data.size, self.data.size)
        self.overlapped = None if settings.compile else overlapped(self.network, self.world, form)
        self.forward: Callable[[Tensor], Any] = self.overlapped or self.network
        if settings.compile:
            self.forward = compiled(self.network, lambda model, images: model(images), report)
        self.sums = torch.zeros(3, device=self.device)  # loss, wrong answers, steps
        self.watch = Watch(self.device)
        found = self.data.contents
        self.progress = RetrainProgress(found.train, found.test, config.runtime.standstill_epochs)

    def train_epoch(self) -> None:
        """All steps of the present epoch from the present step on."""
        settings, started = self.settings, time.monotonic()
        self.optimizer.param_groups[0]["lr"] = evaluation_lr(settings, self.epoch)
        self.network.train()
        self.network.dropper.probability = drop_path(settings, self.epoch)
        train = self.data.train
        for batch in train.batches(self.epoch, self.step):
            self.network.dropper.generator = generator(self.device, self.seed, "drop-path", self.epoch, self.step)
            number = derived_seed(self.seed, "noise", self.epoch, self.step)
            seed_noise(self.noises, number, self.world.rank, self.world.size)
            self._move(batch)
            self.step += 1
            self._look(last=self.step == train.steps)
            if self.step < train.steps:
                self.pause_if_asked(started)
        self.epoch_seconds += time.monotonic() - started

    def _move(self, batch: Batch) -> None:
        settings = self.settings
        images, labels = batch
        self.optimizer.zero_grad()
        parts = [*zip(images.chunk(settings.accumulate), labels.chunk(settings.accumulate), strict=True)]
        for number, (part, answers) in enumerate(parts, start=1):
            more = number < len(parts)
            with self.overlapped.no_sync() if self.overlapped is not None and more else nullcontext():
                self._accumulate(part, answers)
        self.sums[2] += 1
        if self.overlapped is None:
            average([p.grad for p in self.parameters if p.grad is not None], self.world)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, settings.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.watch.note(self.step, {"training loss": self.sums[0].clone()})
        if not self.scaler.is_enabled():  # which leaves a step out whose gradient overflows, and lowers its scale
            self.watch.note(self.step, {"norm of the training gradient": norm})

    def _look(self, last: bool) -> None:
        """Stop on the first loss or gradient that is not finite, with the state saved."""
        found = self.watch.broken() if self.watch.due(last) else None
        if found is not None:
            raise self.broken(*found)

    def _accumulate(self, images: Tensor, labels: Tensor) -> None:
        """Add the gradients of a part of the batch, its loss and its wrong answers."""
        settings = self.settings
        with autocast(self.device, settings.amp):
            logits, auxiliary = self.forward(images)
        loss = F.cross_entropy(full(logits), labels, label_smoothing=settings.label_smoothing)
        total = loss
        if auxiliary is not None:
            extra = F.cross_entropy(full(auxiliary), labels, label_smoothing=settings.label_smoothing)
            total = loss + settings.auxiliary * extra
        self.scaler.scale(total / settings.accumulate).backward()  # type: ignore[no-untyped-call]
        wrong = (logits.detach().argmax(1) != labels).sum()
        self.sums += torch.stack([loss.detach() / settings.accumulate, wrong, wrong.new_zeros(())])

    def close_epoch(self) -> None:
        """Record and save at the end of an epoch."""
        sums = self.sums.clone()
        average([sums], self.world)
        loss, wrong, steps = sums.tolist()
        # Batch statistics hide what running ones have become; before a number is recorded all of them are looked at.
        name = not_finite(self.network.state_dict()) if math.isfinite(loss) else "training loss"
        if name is not None:
            raise self.broken(self.step, name)
        share = self.settings.batch_size / self.world.size
        values = {
            "retrain_train_loss": loss / steps,
            "retrain_train_error_pct": 100 * wrong / (steps * share),
            "retrain_epoch_time_s": self.epoch_seconds,
        }
        if self.world.leads:
            self.folder.record("retrain", self.epoch, self.step, values)
        self.report(
            f"retrain epoch {self.epoch + 1}/{self.settings.epochs} loss {loss / steps:.4f} {self.epoch_seconds:.1f}s"
        )
        for note in self.progress.epoch(self.epoch, values["retrain_train_error_pct"]):
            self.report(f"retrain: {note}")
        self.sums = torch.zeros_like(self.sums)
        self.next_epoch(self.settings.epochs)

    def finish(self) -> None:
        """Test once and write `result.json`."""
        top1, top5 = self._test()
        if not self.world.leads:
            return
        said = self.progress.tested(top1) if self.settings.epochs > 0 else []
        values: dict[str, float] = {
            "test_error_pct": top1,
            "params_m": self.cost.params / 1e6,
            "macs_m": self.cost.macs / 1e6,
            "retrain_time_s": self.seconds,
        }
        if self.data.classes > 10:
            values["test_top5_error_pct"] = top5
        write_json(
            self.folder.file("result.json"),
            {
                "key": self.key.id,
                "hash": self.config.hash,
                "seed": self.config.seed,
                "genotype": str(self.genotype),
                "values": values,
                "channels": self.settings.channels,
                "data": self.data.record(self.config.labels.data),
                "finished_at": time.time(),
                **({"notes": self.progress.notes} if self.progress.notes else {}),
            },
        )
        self.report(f"test error {top1:.2f}%")
        for note in said:
            self.report(f"retrain: {note}")

    def _require_searched_data(self) -> None:
        """Refuse images other than those that the cell was searched on, where both are one set.

        Errors:
            UserError: the fingerprints differ.
        """
        searched = (read_record(self.folder.file("search.json")) or {}).get("data", {})
        before, now = searched.get("sha256"), self.data.sha256
        if searched.get("dataset") == self.data.name and before is not None and before != now:
            raise UserError(
                "data.dataset", f"{self.data.name} with fingerprint {now[:16]}",
                f"what the cell was searched on, with fingerprint {before[:16]}",
                "The images were replaced since: put the former ones back, or search again on these.",
            )  # fmt: skip

    def _test(self) -> tuple[float, float]:
        """(top-1 error, top-5 error) of the test set; every process reads all of it.

        Errors:
            NumericalError: an answer is not finite, as with running statistics that are not; it would count as a class.
        """
        self.network.eval()
        seed_noise(self.noises, 0)
        totals = torch.zeros(4, device=self.device)
        with torch.no_grad():
            for images, labels in self.data.test.in_order(self.settings.batch_size * 2):
                with autocast(self.device, self.settings.amp):
                    logits, _ = self.network(images)
                best = logits.topk(min(5, logits.shape[1]), dim=1).indices
                hits = best == labels[:, None]
                size = hits.new_tensor(len(labels), dtype=torch.long)
                totals += torch.stack(
                    [hits[:, 0].sum(), hits.any(1).sum(), size, (~torch.isfinite(logits).all(1)).sum()]
                )
        first, five, count, broken = totals.tolist()
        if broken:
            raise self.broken(self.step, not_finite(self.network.state_dict()) or "logits of the test")
        return 100 * (1 - first / count), 100 * (1 - five / count)

    def state(self) -> dict[str, Any]:
        """Weights, statistics, optimiser, loss scale, sums of the epoch."""
        return {
            "sums": self.sums,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.sums = state["sums"]
        self.progress.replay(self.folder.curves(), self.epoch)
