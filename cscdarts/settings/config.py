"""The run configuration: one frozen, validated model, one canonical JSON, one hash. No torch.

A field stands in the hash exactly when it can change what is computed. `runtime` (where and how fast a run goes) and
`labels` (what it is called) cannot, so they stay outside. Every choice the closed paper leaves open is a field here
with a stated default; `cscdarts.settings.open_choices` holds the evidence for each.
"""

import hashlib
import json
import math
from functools import lru_cache
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from cscdarts.settings.given_cell import canonical_cell
from cscdarts.settings.sections.data import DataConfig
from cscdarts.settings.sections.evaluation import EvaluationConfig
from cscdarts.settings.sections.neutral import Neutral, without_neutral
from cscdarts.settings.sections.runtime import Labels, RuntimeConfig
from cscdarts.settings.sections.search import SearchConfig
from cscdarts.settings.sections.supernet import SupernetConfig
from cscdarts.settings.values import Frozen

__all__ = [
    "REMEMBERED",
    "SCHEMA_VERSION",
    "DataConfig",
    "EvaluationConfig",
    "Labels",
    "Neutral",
    "RunConfig",
    "RuntimeConfig",
    "SearchConfig",
    "SupernetConfig",
    "canonical_json",
    "hashed_values",
    "neutral_values",
]

#: Hashes and keys that are kept: a status asks for those of thousands of runs whenever it looks, and to make one takes
#: 25 times as long as to find it.
REMEMBERED = 2**14
#: Raise when the meaning of a stored config or of the numbers it stands for changes.
SCHEMA_VERSION = 1


class RunConfig(Frozen):
    """One run: search, derivation, check and retraining under one seed.

    The hash covers the full resolved config (defaults included), so changing a default later never silently reuses an
    old result.
    """

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, le=1000)
    seed: int = Field(default=0, ge=0, lt=2**31)
    data: DataConfig = DataConfig()
    supernet: SupernetConfig = SupernetConfig()
    search: SearchConfig = SearchConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    labels: Labels = Labels()

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, values: Any) -> Any:
        """A retraining without a seed of its own takes the run's; a given cell becomes its text in the run's space."""
        if not isinstance(values, dict):
            return values
        sections = {name: values.get(name, {}) for name in ("evaluation", "search", "supernet")}
        sections = {name: s.model_dump() if isinstance(s, BaseModel) else s for name, s in sections.items()}
        evaluation, search, supernet = sections.values()
        if isinstance(evaluation, dict) and evaluation.get("seed") is None:
            values = {**values, "evaluation": {**evaluation, "seed": values.get("seed", 0)}}
        if isinstance(search, dict) and isinstance(supernet, dict):
            cell, space = search.get("genotype"), supernet.get("space", "darts")
            if cell and isinstance(cell, str) and isinstance(space, str):
                values = {**values, "search": {**search, "genotype": canonical_cell(cell, space)}}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.evaluation.split_eval and self.supernet.split_pick == "random" and self.supernet.split_ratio < 1:
            raise ValueError(
                "evaluation.split_eval keeps the search's split, but with split_pick=random every step draws another; "
                "set split_pick=first or last, or evaluation.split_eval=False"
            )
        if self.seed + self.search.best_of > 2**31:
            raise ValueError(
                f"search.best_of={self.search.best_of} counts on from seed={self.seed} beyond {2**31 - 1}; lower one"
            )
        return self

    def canonical(self) -> str:
        """The one JSON text of everything that can change a number: sorted keys, no spaces, without fields at their
        neutral value."""
        return canonical_json(hashed_values(self))

    @property
    def hash(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of `canonical()`."""
        return _hash_of(self)

    def identity_in(self, phase: Literal["search", "eval"]) -> Literal["cell", "edge", "none"]:
        """The identity connection that is active in a phase (`identity` filtered by `identity_phases`)."""
        return self.supernet.identity if self.supernet.identity_phases in ("both", phase) else "none"

    def at_stage(self, number: int) -> Self:
        """One stage of a search in stages as a search of its own: its cells, its epochs, its dropout of skips; which
        operations are left does not stand in it.

        No stage has fewer cells than 3, in which every kind of cell occurs, or `supernet.cells` where that is less.
        """
        search, cells = self.search, self.supernet.cells
        if search.stage_cells:
            cells = max(min(3, cells), math.floor(cells * search.stage_cells[number] + 0.5))
        dropout = search.stage_skip_dropout[number] if search.stage_skip_dropout else search.skip_dropout
        alone = {name: value for name, value in neutral_values(SearchConfig).items() if name.startswith("stage")}
        changed = alone | {"epochs": search.epochs_of_stage, "skip_dropout": dropout}
        return self.model_copy(
            update={
                "search": search.model_copy(update=changed),
                "supernet": self.supernet.model_copy(update={"cells": cells}),
            }
        )


@lru_cache(maxsize=REMEMBERED)
def _hash_of(config: RunConfig) -> str:
    return hashlib.sha256(config.canonical().encode()).hexdigest()[:16]


def canonical_json(values: Any) -> str:
    """The one JSON text of plain values: sorted keys, no spaces, ASCII; not-a-number is refused."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def hashed_values(config: RunConfig) -> dict[str, Any]:
    """Everything of a config that can change a number, as plain data, without fields at their neutral value."""
    return without_neutral(config, config.model_dump(mode="json", exclude={"runtime", "labels"}))


def neutral_values(model: type[BaseModel] = RunConfig, prefix: str = "") -> dict[str, Any]:
    """Dotted path -> neutral value, of all fields that have one: what a stored config without the field stands for."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= neutral_values(field.annotation, f"{prefix}{name}.")
        found |= {f"{prefix}{name}": mark.value for mark in field.metadata if isinstance(mark, Neutral)}
    return found
