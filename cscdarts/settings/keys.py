"""What a stage reads, and so which stored output answers for it: the key of a search and the key of a retraining.

A key is the canonical JSON of everything that can change the stage's numbers and nothing else, and the first 16
hexadecimal digits of its SHA-256. Two runs whose searches have one key share that search, whatever grid, scale or
command asked for them; the retrainings likewise. The hash of a run (`RunConfig.hash`) stands for the pair.

How long a search is and what it costs per step is in its key; how its cell is derived from what it recorded is not.
Threads, processes, kind of device and determinism are in no key: they are recorded with each stage, and a report says
where they differ (`docs/identity.md` has the measured differences).
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

from cscdarts.settings.config import REMEMBERED, RunConfig, canonical_json, hashed_values

Stage = Literal["search", "retrain"]

#: What of `data` either stage reads beside the set itself and its fingerprint.
_IMAGES = ("image_size", "flip", "crop_padding", "square", "background")
_SPLIT = ("split_ratio", "split_pick", "shuffle", "bypass_reduce")
#: What of `search` is read after the search has ended.
_AFTER_SEARCH = ("derive", "derive_skips", "derive_window", "derive_growth", "derive_finetune", "best_of", "genotype")


@dataclass(frozen=True)
class Key:
    """A stage's key.

    Attributes:
        stage: whose; text: the canonical JSON.
    """

    stage: Stage
    text: str

    @cached_property
    def id(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the text: the name of the stage's folder."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def searches(config: RunConfig) -> tuple[RunConfig, ...]:
    """The runs whose searches a run's cell is derived from: itself, or with `search.best_of` one for each seed."""
    many = config.search.best_of
    if many == 1:
        return (config,)
    alone = config.search.model_copy(update={"best_of": 1})
    return tuple(config.model_copy(update={"seed": config.seed + k, "search": alone}) for k in range(many))


@lru_cache(maxsize=REMEMBERED)
def search_key(config: RunConfig) -> Key:
    """The key of a run's search; with `search.best_of` of the first one."""
    values = hashed_values(config)
    supernet, search = values["supernet"], values["search"]
    content: dict[str, Any] = {"stage": "search", "schema": config.schema_version, "space": supernet["space"]}
    if config.search.strategy == "given":
        return _key("search", {**content, "strategy": "given", "genotype": config.search.genotype})
    if config.search.strategy == "random":
        return _key("search", {**content, "strategy": "random", "seed": config.seed})
    identity = config.identity_in("search")
    kept = {key: value for key, value in supernet.items() if not key.startswith("identity")}
    content |= {
        "seed": config.seed,
        "data": _data(values, config.data.searched_dataset, config.data.searched_fingerprint)
        | {name: values["data"][name] for name in ("search_fraction", "split_seed")},
        "supernet": kept | _identity(supernet, identity, "identity_decay"),
        "search": {key: value for key, value in search.items() if key not in _AFTER_SEARCH},
    }
    return _key("search", content)


@lru_cache(maxsize=REMEMBERED)
def retraining_key(config: RunConfig, genotype: str) -> Key:
    """The key of a run's retraining.

    Args:
        genotype: the cell's canonical text.
    """
    return _retraining(config, genotype)


@lru_cache(maxsize=REMEMBERED)
def planned_retraining_key(config: RunConfig) -> Key:
    """A key that is equal where retrainings are bound to be equal before any search has been run: in place of the
    genotype stand the searches and the rule that it will be derived by."""
    if config.search.strategy == "given":
        return _retraining(config, config.search.genotype)
    values = hashed_values(config)["search"]
    rule = {key: value for key, value in values.items() if key in _AFTER_SEARCH}
    return _retraining(config, {"searches": [search_key(one).id for one in searches(config)], "rule": rule})


def _retraining(config: RunConfig, genotype: Any) -> Key:
    values = hashed_values(config)
    evaluation = dict(values["evaluation"])
    supernet = _identity(values["supernet"], config.identity_in("eval"))
    if config.evaluation.split_eval:
        supernet |= {name: values["supernet"][name] for name in _SPLIT}
    content = {
        "stage": "retrain",
        "schema": config.schema_version,
        "seed": evaluation.pop("seed"),
        "space": values["supernet"]["space"],
        "genotype": genotype,
        "data": _data(values, config.data.dataset, config.data.fingerprint),
        "supernet": supernet,
        "evaluation": evaluation,
    }
    return _key("retrain", content)


def _identity(supernet: dict[str, Any], active: str, *further: str) -> dict[str, Any]:
    """The identity connection as a phase has it: nothing of it where it is not active."""
    if active == "none":
        return {"identity": "none"}
    names = ("identity", "identity_scale", "identity_proj", *further)
    return {name: supernet[name] for name in names}


def _data(values: dict[str, Any], name: str, fingerprint: str) -> dict[str, Any]:
    read = {key: values["data"][key] for key in _IMAGES if key in values["data"]}
    return {"dataset": name, **read} | ({"fingerprint": fingerprint} if fingerprint else {})


def _key(stage: Stage, content: dict[str, Any]) -> Key:
    return Key(stage, canonical_json(content))
