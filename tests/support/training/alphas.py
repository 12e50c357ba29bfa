"""Records of a search made by hand: lines of alpha whose cells are known, metric lines, and a config to derive with."""

from collections.abc import Mapping, Sequence
from typing import Any

from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import build, with_values
from cscdarts.spaces import NASBENCH201

SKIP, CONV = "skip_connect", "sep_conv_3x3"


def config(space: str = "nasbench201", **values: Any) -> RunConfig:
    """Alpha is trained from the first epoch on, unless a test says otherwise."""
    given = {name.replace("__", "."): value for name, value in values.items()}
    return with_values(build({}), {"supernet.space": space, "search.epochs": 12, "search.alpha_warmup": 0, **given})


def tabular(ops: Sequence[str]) -> dict[str, Any]:
    """The alpha of one epoch in the nasbench201 space whose derived cell has these operations."""
    return {"alpha": {"cell": [[float(name == op) for name in NASBENCH201.ops] for op in ops]}}


def with_skips(count: int) -> dict[str, Any]:
    return tabular([SKIP] * count + ["nor_conv_3x3"] * (6 - count))


def lines(epochs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"epoch": number, **line} for number, line in enumerate(epochs)]


def curves(values: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    return [{"stage": "search", "epoch": number, "values": dict(found)} for number, found in enumerate(values)]
