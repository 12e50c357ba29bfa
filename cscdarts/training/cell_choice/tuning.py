"""The derivation by perturbation on a trained supernet: measures, decides, trains on; resumable after each decision."""

import time
from collections.abc import Callable

import numpy as np
import torch

from cscdarts.data.randomness import derived_seed, numpy_generator
from cscdarts.errors import Stopped
from cscdarts.models.operations import seed_noise
from cscdarts.models.supernet import Mixing
from cscdarts.records.checkpoint import load_checkpoint, previous_of, save_checkpoint
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.config import RunConfig
from cscdarts.spaces import Genotype
from cscdarts.spaces.rules import strengths
from cscdarts.training.cell_choice.selection import Rows, answer, cell_of, questions
from cscdarts.training.derivation import DerivedCell, candidates_of, derived_before, search_record, write_cell
from cscdarts.training.one_shot import error_pct
from cscdarts.training.search import SearchRun

#: Where the state lies while it goes on, in the run's folder.
CHECKPOINT = "perturbation.pt"


def derive_by_perturbation(
    config: RunConfig, folder: RunFolder, stop: Callable[[], bool], report: Callable[[str], None]
) -> Genotype:
    """Write `genotype.json` with the cell that DARTS-PT finds in a finished search, or read it where it is.

    Departures from ruochenwang/darts-pt: while a decision is tuned only the weights are trained, alpha stays; at a
    constant learning rate, the search's last one; errors are measured on the whole validation half with the statistics
    of each batch.

    Errors:
        UserError: the search has not finished here.
        Stopped: when asked to stop; the decisions made so far are kept.
    """
    present = derived_before(config, folder)
    if present is not None:
        return present
    search_record(folder)
    tuned = _TunedSupernet(config, folder, stop, report)
    space = tuned.run.supernet.space
    ops = config.supernet.ops
    assert ops is not None
    order = questions(space, numpy_generator(config.seed, "perturbation"))
    said = time.monotonic()
    for number in range(tuned.decided, len(order)):
        tuned.rows = answer(order[number], space, ops, tuned.rows, tuned.error, tuned.run.supernet.columns)
        tuned.train(number)
        tuned.decided = number + 1
        tuned.save()
        if time.monotonic() - said > 15 or number + 1 == len(order):
            said = time.monotonic()
            report(f"derivation by perturbation: {number + 1} of {len(order)} decisions")
    why = f"{len(order)} decisions by removal, {config.search.derive_finetune} epochs of training after each"
    found = (cell_of(space, ops, tuned.rows), tuned.error(tuned.rows))
    cell = DerivedCell(config.search.all_epochs - 1, *found, why, candidates_of(config, folder.alphas()[-1]))
    written = write_cell(folder, config, cell, config.search.derive, report)
    for path in (tuned.place, previous_of(tuned.place)):
        path.unlink(missing_ok=True)
    return written


class _TunedSupernet:
    """The supernet of a finished search, trained on while its cell is decided."""

    def __init__(
        self, config: RunConfig, folder: RunFolder, stop: Callable[[], bool], report: Callable[[str], None]
    ) -> None:
        self.stop, self.place = stop, folder.path / CHECKPOINT
        self.run = SearchRun(config, folder, stop, report)
        self.run.resume()
        settings, supernet = config.search, self.run.supernet
        supernet.relaxation.rest()
        self.factors = {kind: factors for kind, (_, factors) in supernet.mixing().items()}
        self.rows: Rows = {
            kind: strengths(settings.weighting, alpha.detach().cpu().double().numpy())
            for kind, alpha in supernet.alphas.items()
        }
        self.decided = 0
        # The last learning rate of the search; where the schedule ends at 0, one that still moves something.
        self.run.weight_optimizer.param_groups[0]["lr"] = max(settings.lr_min, settings.lr / 25)
        state = load_checkpoint(self.place, (config.hash,), self.run.device, report) if self.place.exists() else None
        if state is not None:
            self.run.restore(state)
            self.decided = int(state["decided"])
            self.rows = {kind: np.asarray(rows.cpu(), dtype=np.float64) for kind, rows in state["rows"].items()}

    def mixing(self, rows: Rows) -> Mixing:
        """Mixing weights as the supernet takes them, with its edge normalisation."""
        return {
            kind: (torch.as_tensor(values, dtype=torch.float32, device=self.run.device), self._factors(kind))
            for kind, values in rows.items()
        }

    def error(self, rows: Rows) -> float:
        """Validation error in percent under some mixing weights.

        Errors:
            Stopped: when asked to stop.
        """
        if self.stop():
            raise Stopped
        with torch.no_grad():
            return error_pct(self.run.supernet, self.run.valid, self.mixing(rows), limit=None)

    def train(self, decision: int) -> None:
        """Train the weights for `derive_finetune` epochs under the present mixing weights."""
        run = self.run
        run.supernet.train()
        run.mixing = self.mixing(self.rows)
        for epoch in range(run.config.search.derive_finetune):
            # Its own order of the images: epochs of the search count from 0, those of decision d follow them.
            place = run.config.search.all_epochs + decision * run.config.search.derive_finetune + epoch
            for step, batch in enumerate(run.train.batches(place)):
                if self.stop():
                    raise Stopped
                if run.noises:
                    number = derived_seed(run.config.seed, "noise", place, step)
                    seed_noise(run.noises, number, run.world.rank, run.world.size)
                run.move_weights(batch)
            broken = run.watch.broken()
            if broken is not None:
                raise run.broken(*broken)

    def save(self) -> None:
        """Keep the decisions and the weights they led to."""
        rows = {kind: torch.from_numpy(values) for kind, values in self.rows.items()}
        state = {"hash": self.run.config.hash, "stage": "derive", "decided": self.decided, "rows": rows}
        save_checkpoint(self.place, {**state, **self.run.state()})

    def _factors(self, kind: str) -> torch.Tensor | None:
        factors = self.factors[kind]
        return None if factors is None else factors.detach()
