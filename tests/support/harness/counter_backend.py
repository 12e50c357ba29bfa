"""A scheduler of another kind, for tests of what a backend must bring: a counter that serves one run whenever it is
looked at."""

import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ablations.drive.backend import Factory, Options, in_hand_s, open_runs
from ablations.drive.driver import Driver
from ablations.grid.forecast import NO_GPUS, Offers
from ablations.run.stages import STAGES
from ablations.run.state import RunState
from cscdarts.records.code import Code
from cscdarts.records.run_folder import read_json, write_json
from slurm.control import Control
from slurm.errors import ClusterError
from slurm.jobs import Cause, Phase, SubmittedJob
from tests.support.harness import engine

#: The counter's own words -> the neutral ones.
PHASES: dict[str, Phase] = {"in line": "queued", "served": "ended", "sent away": "cancelled", "dropped": "ended"}


def _why(word: str) -> Cause | None:
    return Cause("node", "dropped at the counter") if word == "dropped" else None


class CounterBackend:
    """Has the interface `ablations.drive.backend.Cluster`; its profile is `open`, `closed` or `clumsy`."""

    name = "a counter"
    outlives_driver = True
    nodes_of_run = (1.0, 1.0)
    every_s = 0.01

    def __init__(self, driver: Driver, options: Options, manner: str = "open") -> None:
        self.driver, self.options, self.manner = driver, options, manner
        self.line = driver.folder / "line.json"

    @classmethod
    def configured(cls, label: str, profile: str, overrides: Sequence[str]) -> Factory:
        return partial(cls, manner=dict(text.split("=") for text in overrides).get("manner", profile))

    def available(self) -> bool:
        return True

    def used(self) -> bool:
        return self.line.exists()

    def open(self) -> list[str]:
        if self.manner == "closed":
            raise ClusterError("--on", "counter:closed", "a counter that is open", "Come back tomorrow.")
        return ["the counter opens"]

    def freeze(self, code: Code) -> None:
        write_json(self.driver.folder / "frozen.json", {"commit": code.commit})

    def submit(self, hashes: Sequence[str]) -> str:
        write_json(self.line, {**self._line(), **dict.fromkeys(hashes, "in line")})
        return f"{len(hashes)} runs wait in line"

    def states(self) -> list[RunState]:
        waiting = [key for key, word in self._line().items() if word == "in line"]
        if waiting:
            self._serve(waiting[0])
        return self.driver.states(self.jobs())

    def jobs(self, hashes: Iterable[str] | None = None) -> list[SubmittedJob]:
        wanted = None if hashes is None else set(hashes)
        return [
            SubmittedJob(
                key, f"ticket-{key[:4]}", "all", PHASES[word], 0.0, Path("none"), word=word,
                explain=partial(_why, word),
            )
            for key, word in self._line().items()
            if wanted is None or key in wanted
        ]  # fmt: skip

    def wait_s(self, states: Sequence[RunState]) -> float:
        return in_hand_s(states)

    def left_over(self, states: Sequence[RunState]) -> list[str]:
        return []

    def cancel(self, hashes: Iterable[str] | None = None) -> int:
        wanted = open_runs(self.driver.states()) if hashes is None else set(hashes)
        line = self._line()
        ended = [key for key, word in line.items() if word == "in line" and key in wanted]
        write_json(self.line, {**line, **dict.fromkeys(ended, "sent away")})
        return len(ended)

    def scripts(self, states: Sequence[RunState]) -> list[str]:
        return ["Take a ticket.\n"]

    def gpus(self) -> Offers:
        return NO_GPUS

    def close(self) -> None:
        pass

    def _line(self) -> dict[str, Any]:
        return read_json(self.line) or {}

    def _serve(self, key: str) -> None:
        word = "served"
        if self.manner == "clumsy":
            word = "dropped"
        else:
            (task,) = self.driver.tasks([key], STAGES, time.time(), None)
            Path(task.folder).mkdir(parents=True, exist_ok=True)
            engine.run_task(Path(task.folder), task.arguments, Control())
        write_json(self.line, {**self._line(), key: word})
