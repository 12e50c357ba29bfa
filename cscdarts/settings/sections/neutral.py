"""Fields that were added after results were stored: their value for what came before, which no hash knows."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True)
class Neutral:
    """Marks a field that was added after results were stored: at this value a run is what it was before the field came.

    `square: Annotated[Literal["squeeze", "crop"], Neutral("squeeze")] = "squeeze"`. The canonical JSON leaves the field
    out while it has this value, so that stored hashes stay; any other value is hashed. Changing the default later still
    changes the hash of what takes the default, for the neutral value stays as it is.
    """

    value: object


def without_neutral(model: BaseModel, values: dict[str, Any]) -> dict[str, Any]:
    """The dumped values of a model, at any depth without the fields that have the value their `Neutral` names."""
    kept = {}
    for name, dumped in values.items():
        value = getattr(model, name)
        neutral = next((m for m in type(model).model_fields[name].metadata if isinstance(m, Neutral)), None)
        if neutral is None or type(value) is not type(neutral.value) or value != neutral.value:
            kept[name] = without_neutral(value, dumped) if isinstance(value, BaseModel) else dumped
    return kept
