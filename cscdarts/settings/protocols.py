"""Search and evaluation recipes as data: which data, which sizes, how long, at three scales. No torch.

`paper` is the published protocol of the family (DARTS, PC-DARTS, NAS-Bench-201; sources beside the values), `reduced`
fits one GPU for about an hour or CPUs for a night, `smoke` takes seconds and proves only that the road is open. A
recipe names no method: `cscdarts.settings.methods` does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from cscdarts.errors import UserError
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import build, with_values

Scale = Literal["smoke", "reduced", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)
#: What runs when nothing is said.
DEFAULT_SCALE: Scale = "reduced"


@dataclass(frozen=True)
class Protocol:
    """One recipe.

    Attributes:
        name: its name on the command line.
        title: one line for people.
        source: where the paper-scale values come from.
        scales: scale -> dotted config path -> value.
    """

    name: str
    title: str
    source: str
    scales: Mapping[str, Mapping[str, Any]]


# quark0/darts cnn/train_search.py and cnn/train.py; these equal the config's defaults and are spelled out to be read.
_CIFAR_SEARCH = {
    "supernet.space": "darts",
    "supernet.channels": 16,
    "supernet.cells": 8,
    "search.epochs": 50,
    "search.batch_size": 64,
    "search.lr": 0.025,
    "search.lr_min": 0.001,
    "search.momentum": 0.9,
    "search.weight_decay": 3e-4,
    "search.grad_clip": 5.0,
    "search.alpha_lr": 3e-4,
    "search.alpha_weight_decay": 1e-3,
}
_CIFAR_EVALUATION = {
    "evaluation.channels": 36,
    "evaluation.cells": 20,
    "evaluation.epochs": 600,
    "evaluation.batch_size": 96,
    "evaluation.lr": 0.025,
    "evaluation.lr_min": 0.0,
    "evaluation.schedule": "cosine",
    "evaluation.weight_decay": 3e-4,
    "evaluation.auxiliary": 0.4,
    "evaluation.cutout": 16,
    "evaluation.drop_path": 0.2,
}
# yuhuixu1993/PC-DARTS train_imagenet.py (batch 1024, linear decay, warm-up) over quark0/darts cnn/train_imagenet.py.
_IMAGENET_EVALUATION = {
    "evaluation.channels": 48,
    "evaluation.cells": 14,
    "evaluation.epochs": 250,
    "evaluation.batch_size": 1024,
    "evaluation.lr": 0.5,
    "evaluation.schedule": "linear",
    "evaluation.warmup_epochs": 5,
    "evaluation.weight_decay": 3e-5,
    "evaluation.auxiliary": 0.4,
    "evaluation.cutout": 0,
    "evaluation.drop_path": 0.0,
    "evaluation.label_smoothing": 0.1,
    "evaluation.color_jitter": True,
    "evaluation.fit_macs_m": 600.0,
}
# yuhuixu1993/PC-DARTS train_search_imagenet.py: 10 % / 2.5 % of each class, alpha frozen for 35 of 50 epochs.
_IMAGENET_SEARCH = {
    "supernet.space": "darts",
    "supernet.channels": 16,
    "supernet.cells": 8,
    "search.epochs": 50,
    "search.batch_size": 1024,
    "search.lr": 0.5,
    "search.lr_min": 0.0,
    "search.alpha_lr": 6e-3,
    "search.alpha_warmup": 35,
    "data.search_fraction": 0.125,
}
# D-X-Y/AutoDL-Projects algos/DARTS.config and exps/NATS-algos/search-cell.py; ground truth: CIFAR.config.
_NB201_SEARCH = {
    "supernet.space": "nasbench201",
    "supernet.channels": 16,
    "supernet.cells": 5,
    "search.epochs": 50,
    "search.batch_size": 64,
    "search.lr": 0.025,
    "search.lr_min": 0.001,
    "search.nesterov": True,
    "search.weight_decay": 5e-4,
    "search.alpha_lr": 3e-4,
    "search.alpha_weight_decay": 1e-3,
}
_NB201_EVALUATION = {
    "evaluation.channels": 16,
    "evaluation.cells": 5,
    "evaluation.epochs": 200,
    "evaluation.batch_size": 256,
    "evaluation.lr": 0.1,
    "evaluation.lr_min": 0.0,
    "evaluation.nesterov": True,
    "evaluation.weight_decay": 5e-4,
    "evaluation.auxiliary": 0.0,
    "evaluation.cutout": 0,
    "evaluation.drop_path": 0.0,
}

_SMOKE = {
    "data.search_fraction": 0.15,
    "supernet.channels": 8,
    "supernet.cells": 1,
    "search.epochs": 2,
    "search.batch_size": 32,
    "search.alpha_warmup": 0,
    "evaluation.channels": 8,
    "evaluation.cells": 1,
    "evaluation.epochs": 1,
    "evaluation.batch_size": 64,
    "evaluation.auxiliary": 0.0,
    "evaluation.cutout": 0,
    "evaluation.drop_path": 0.0,
    "evaluation.warmup_epochs": 0,
    "evaluation.fit_macs_m": None,
}
# The embedded data are 8x8 images: two thousand of them learn in seconds at a rate CIFAR would not stand.
_DIGITS = {
    "data.dataset": "digits",
    "supernet.space": "nasbench201",
    "supernet.channels": 8,
    "supernet.cells": 1,
    "search.epochs": 10,
    "search.batch_size": 64,
    "search.lr": 0.1,
    "search.lr_min": 0.001,
    "search.nesterov": True,
    "search.weight_decay": 5e-4,
    "search.alpha_lr": 0.03,
    "evaluation.channels": 8,
    "evaluation.cells": 1,
    "evaluation.epochs": 10,
    "evaluation.batch_size": 64,
    "evaluation.lr": 0.1,
    "evaluation.nesterov": True,
    "evaluation.weight_decay": 5e-4,
    "evaluation.auxiliary": 0.0,
    "evaluation.cutout": 0,
    "evaluation.drop_path": 0.0,
}
_REDUCED_CIFAR = {
    "supernet.cells": 5,
    "search.epochs": 15,
    "evaluation.channels": 16,
    "evaluation.cells": 8,
    "evaluation.epochs": 40,
}

_ALL = (
    Protocol(
        "quickstart",
        "digits in the NAS-Bench-201 space: minutes on two cores",
        "ours; shaped after NAS-Bench-201",
        {
            "smoke": {**_DIGITS, **_SMOKE},
            "reduced": _DIGITS,
            "paper": {
                **_DIGITS,
                "supernet.channels": 16,
                "supernet.cells": 2,
                "search.epochs": 50,
                "evaluation.channels": 16,
                "evaluation.cells": 2,
                "evaluation.epochs": 100,
            },
        },
    ),
    Protocol(
        "cifar10",
        "search and retrain on CIFAR-10 in the DARTS space",
        "quark0/darts cnn/train_search.py, cnn/train.py",
        {
            "smoke": {**_CIFAR_SEARCH, **_CIFAR_EVALUATION, **_SMOKE, "data.dataset": "digits", "supernet.cells": 3},
            "reduced": {**_CIFAR_SEARCH, **_CIFAR_EVALUATION, **_REDUCED_CIFAR, "data.dataset": "cifar10"},
            "paper": {**_CIFAR_SEARCH, **_CIFAR_EVALUATION, "data.dataset": "cifar10"},
        },
    ),
    Protocol(
        "cifar100",
        "search and retrain on CIFAR-100 in the DARTS space",
        "yuhuixu1993/PC-DARTS train.py --set cifar100 with the CIFAR-10 recipe",
        {
            "smoke": {**_CIFAR_SEARCH, **_CIFAR_EVALUATION, **_SMOKE, "data.dataset": "digits", "supernet.cells": 3},
            "reduced": {**_CIFAR_SEARCH, **_CIFAR_EVALUATION, **_REDUCED_CIFAR, "data.dataset": "cifar100"},
            "paper": {**_CIFAR_SEARCH, **_CIFAR_EVALUATION, "data.dataset": "cifar100"},
        },
    ),
    Protocol(
        "cifar100-transfer",
        "search on CIFAR-10, retrain on CIFAR-100",
        "yuhuixu1993/PC-DARTS train.py --set cifar100 with the CIFAR-10 recipe",
        {
            "smoke": {**_CIFAR_SEARCH, **_CIFAR_EVALUATION, **_SMOKE, "data.dataset": "digits", "supernet.cells": 3},
            "reduced": {
                **_CIFAR_SEARCH,
                **_CIFAR_EVALUATION,
                **_REDUCED_CIFAR,
                "data.dataset": "cifar100",
                "data.search_dataset": "cifar10",
            },
            "paper": {
                **_CIFAR_SEARCH,
                **_CIFAR_EVALUATION,
                "data.dataset": "cifar100",
                "data.search_dataset": "cifar10",
            },
        },
    ),
    Protocol(
        "imagenet-transfer",
        "search on CIFAR-10, retrain on ImageNet in the mobile setting",
        "quark0/darts cnn/train_imagenet.py, yuhuixu1993/PC-DARTS train_imagenet.py",
        {
            "smoke": {**_CIFAR_SEARCH, **_IMAGENET_EVALUATION, **_SMOKE, "data.dataset": "digits", "supernet.cells": 3},
            "reduced": {
                **_CIFAR_SEARCH,
                **_IMAGENET_EVALUATION,
                **_REDUCED_CIFAR,
                "evaluation.batch_size": 256,
                "evaluation.lr": 0.125,
                "evaluation.fit_macs_m": None,
                "data.dataset": "imagenet",
                "data.search_dataset": "cifar10",
                "data.image_size": 128,
            },
            "paper": {
                **_CIFAR_SEARCH,
                **_IMAGENET_EVALUATION,
                "data.dataset": "imagenet",
                "data.search_dataset": "cifar10",
            },
        },
    ),
    Protocol(
        "imagenet-direct",
        "search on a class-balanced subset of ImageNet, retrain on ImageNet",
        "yuhuixu1993/PC-DARTS train_search_imagenet.py, train_imagenet.py",
        {
            "smoke": {
                **_IMAGENET_SEARCH,
                **_IMAGENET_EVALUATION,
                **_SMOKE,
                "data.dataset": "digits",
                "supernet.cells": 3,
            },
            "reduced": {
                **_IMAGENET_SEARCH,
                **_IMAGENET_EVALUATION,
                **_REDUCED_CIFAR,
                "search.batch_size": 256,
                "search.lr": 0.125,
                "search.alpha_warmup": None,
                "data.search_fraction": 0.02,
                "evaluation.batch_size": 256,
                "evaluation.lr": 0.125,
                "evaluation.fit_macs_m": None,
                "data.dataset": "imagenet",
                "data.image_size": 128,
            },
            "paper": {**_IMAGENET_SEARCH, **_IMAGENET_EVALUATION, "data.dataset": "imagenet"},
        },
    ),
    Protocol(
        "nasbench201",
        "search on CIFAR-10 in the NAS-Bench-201 space, results looked up and retrained",
        "D-X-Y/AutoDL-Projects algos/DARTS.config, nas-benchmark/CIFAR.config",
        {
            "smoke": {**_NB201_SEARCH, **_NB201_EVALUATION, **_SMOKE, "data.dataset": "digits"},
            "reduced": {
                **_NB201_SEARCH,
                **_NB201_EVALUATION,
                "supernet.cells": 1,
                "search.epochs": 15,
                "evaluation.cells": 1,
                "evaluation.epochs": 20,
                "data.dataset": "cifar10",
            },
            "paper": {**_NB201_SEARCH, **_NB201_EVALUATION, "data.dataset": "cifar10"},
        },
    ),
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({protocol.name: protocol for protocol in _ALL})


def protocol(name: str, scale: str) -> RunConfig:
    """The recipe's config at a scale, labelled with it.

    Errors:
        UserError: no such protocol or scale.
    """
    if name not in PROTOCOLS:
        raise UserError("protocol", name, ", ".join(PROTOCOLS), "Choose one of these.")
    if scale not in SCALES:
        raise UserError("--scale", scale, ", ".join(SCALES), "Choose one of these.")
    return with_values(build({}), {**PROTOCOLS[name].scales[scale], "labels.scale": scale})
