"""Stages that go on and learn nothing: each sign is said once and recorded, and stops nothing.

| sign | for so many epochs |
|---|---|
| no architecture parameter moves | the largest step of one is at most `LEAST_MOVE` |
| all operations weigh the same | softmax(alpha) differs by at most `LEAST_SPREAD` on every edge |
| no better than chance | the error is at least that of answering the most frequent class, less two standard errors |

Such a run is no wrong one: a cell that alpha did not choose can be a baseline that is meant, and a network may begin to
learn late. So it is not stopped; its record says what a table would not show.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cscdarts.settings.config import RunConfig
from cscdarts.spaces import CLOSED, softmax

#: A step of 3e-4, DARTS's learning rate of alpha, is 300 times as large.
LEAST_MOVE = 1e-6
#: One such step moves a weight of eight operations by some 4e-5.
LEAST_SPREAD = 1e-5

#: kind -> (edges, operations), raw architecture parameters; or kind -> (edges,), edge parameters.
Parameters = Mapping[str, npt.ArrayLike]


class Repeated:
    """A sign that counts when it is seen in so many epochs on end, once."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.run, self.told = epochs, 0, False

    def seen(self, sign: bool) -> bool:
        """Whether this epoch completes the row for the first time."""
        self.run = self.run + 1 if sign else 0
        first = self.run >= self.epochs and not self.told
        self.told = self.told or first
        return first


class AlphaAtRest:
    """Watches architecture parameters from epoch to epoch.

    Args:
        epochs: in a row, after which it is said.
        first: the first epoch in which alpha is trained.
    """

    def __init__(self, epochs: int, first: int) -> None:
        self.first = first
        self._still, self._equal = Repeated(epochs), Repeated(epochs)
        self._before: npt.NDArray[np.float64] | None = None

    def epoch(self, epoch: int, alpha: Parameters, beta: Parameters) -> list[str]:
        """What is to be said after an epoch, counted from 0: nothing mostly.

        Args:
            alpha: kind -> (edges, operations); beta: kind -> (edges,), empty without edge normalisation.
        """
        rows = {kind: np.asarray(values, dtype=np.float64) for kind, values in alpha.items()}
        now = np.concatenate([np.ravel(values) for values in (*rows.values(), *beta.values())])
        before, self._before = self._before, now
        if epoch < self.first:
            return []
        found = []
        if before is not None and self._still.seen(bool(np.abs(now - before).max() <= LEAST_MOVE)):
            found.append(
                f"for {self._still.epochs} epochs no architecture parameter has moved by more than {LEAST_MOVE:g} in "
                f"one, up to epoch {epoch + 1}: the cell is no longer searched for; raise search.alpha_lr"
            )
        spread = max(float(_spread(values).max()) for values in rows.values())
        if self._equal.seen(spread <= LEAST_SPREAD):
            found.append(
                f"for {self._equal.epochs} epochs all operations have weighed the same on every edge, up to epoch "
                f"{epoch + 1}: the order of the operations would choose the cell; raise search.alpha_lr, or lower "
                "search.alpha_weight_decay"
            )
        return found


def _spread(alpha: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(edges,): by how much the weights of an edge's candidates differ; what is no candidate weighs 0 on purpose."""
    weights, there = softmax(alpha), alpha > CLOSED / 2
    return np.where(there, weights, 0.0).max(-1) - np.where(there, weights, 1.0).min(-1)  # type: ignore[no-any-return]


class Chance:
    """Holds errors against those of one answer to all images.

    Args:
        counts: images of each class.
        epochs: in a row, after which it is said.
    """

    def __init__(self, counts: Sequence[int], epochs: int) -> None:
        images, share = sum(counts), max(counts) / sum(counts)
        self.error_pct = 100 * (1 - share)
        self.limit_pct = self.error_pct - 200 * math.sqrt(share * (1 - share) / images)
        self._row = Repeated(epochs)

    def reached(self, error_pct: float) -> bool:
        """Whether an error is no better than chance: within two standard errors of it, or above."""
        return error_pct >= self.limit_pct

    def epoch(self, epoch: int, error_pct: float, what: str) -> list[str]:
        """What is to be said after an epoch, counted from 0.

        Args:
            what: whose error it is, for the sentence.
        """
        if not self._row.seen(self.reached(error_pct)):
            return []
        return [
            f"for {self._row.epochs} epochs the {what} has been no better than one answer to all images, "
            f"{self.error_pct:.2f} %, up to epoch {epoch + 1}: nothing is learned; look at learning rate and labels"
        ]

    def tested(self, error_pct: float) -> list[str]:
        """What is to be said of the one test."""
        if not self.reached(error_pct):
            return []
        return [
            f"the test error of {error_pct:.2f} % is no better than one answer to all images, {self.error_pct:.2f} %"
        ]


class SearchProgress:
    """The signs of a search.

    Args:
        config: whether and from when on alpha is trained, and how many epochs in a row count.
        counts: images of each class in the validation half.

    Attributes:
        notes: all that was said so far, for the record.
    """

    def __init__(self, config: RunConfig, counts: Sequence[int]) -> None:
        epochs = config.runtime.standstill_epochs
        self._search, self._epochs = config.search, epochs
        self._alpha: AlphaAtRest | None = None
        self._chance = Chance(counts, epochs)
        self.notes: list[str] = []

    def epoch(self, line: Mapping[str, Any], error_pct: float) -> list[str]:
        """What is to be said after an epoch.

        Args:
            line: the epoch's line of `alphas.jsonl`.
            error_pct: of the supernet on the validation half.
        """
        number = int(line["epoch"])
        found = self._chance.epoch(number, error_pct, "supernet's validation error")
        if self._search.strategy == "gradient" and number % self._search.epochs_of_stage == 0:
            # Each stage of a search has its own alpha, which rests in its first epochs.
            self._alpha = AlphaAtRest(self._epochs, number + (self._search.alpha_warmup or 0))
        if self._alpha is not None:
            found += self._alpha.epoch(number, line["alpha"], line.get("beta", {}))
        self.notes += found
        return found

    def replay(self, lines: Iterable[Mapping[str, Any]], curves: Iterable[Mapping[str, Any]], epochs: int) -> None:
        """Take up what was seen in the finished epochs of a search that goes on; nothing is said again.

        Args:
            lines: of `alphas.jsonl`; curves: metric lines of any stage; epochs: how many are finished.
        """
        errors = {c["epoch"]: c["values"].get("search_valid_error_pct") for c in curves if c["stage"] == "search"}
        for line in lines:
            error = errors.get(line["epoch"])
            if line["epoch"] < epochs and error is not None:
                self.epoch(line, error)


class RetrainProgress:
    """The signs of a retraining, from its training error and from its test.

    Args:
        train, test: images of each class.
        epochs: in a row that count.
    """

    def __init__(self, train: Sequence[int], test: Sequence[int], epochs: int) -> None:
        self._train, self._test = Chance(train, epochs), Chance(test, 1)
        self.notes: list[str] = []

    def epoch(self, number: int, error_pct: float) -> list[str]:
        """What is to be said after an epoch, counted from 0."""
        return self._kept(self._train.epoch(number, error_pct, "training error"))

    def tested(self, error_pct: float) -> list[str]:
        """What is to be said of the test."""
        return self._kept(self._test.tested(error_pct))

    def replay(self, curves: Iterable[Mapping[str, Any]], epochs: int) -> None:
        """See `SearchProgress.replay`."""
        for line in sorted((c for c in curves if c["stage"] == "retrain"), key=lambda c: int(c["epoch"])):
            if line["epoch"] < epochs and "retrain_train_error_pct" in line["values"]:
                self.epoch(line["epoch"], line["values"]["retrain_train_error_pct"])

    def _kept(self, found: list[str]) -> list[str]:
        self.notes += found
        return found
