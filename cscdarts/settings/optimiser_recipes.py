"""Optimiser profiles of the two families: batch size and learning rates of the search. No torch."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

#: Sources: quark0/darts cnn/train_search.py; yuhuixu1993/PC-DARTS train_search.py; chenxin061/pdarts train_search.py.
PROFILES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "darts": {"search.batch_size": 64, "search.lr": 0.025, "search.lr_min": 0.001, "search.alpha_lr": 3e-4},
        "pcdarts": {"search.batch_size": 256, "search.lr": 0.1, "search.lr_min": 0.0, "search.alpha_lr": 6e-4},
        "pdarts": {"search.batch_size": 96, "search.lr": 0.025, "search.lr_min": 0.0, "search.alpha_lr": 6e-4},
    }
)
