"""Named methods as settings of the one engine: each preset says which file and paper it follows and where it departs.
No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cscdarts.errors import UserError
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import with_values
from cscdarts.spaces.known import name_of


@dataclass(frozen=True)
class Preset:
    """A method as a set of values.

    Attributes:
        name: the preset's name, also the method's label in tables.
        title: the method's name as printed.
        paper: where the method was published.
        file: public code the settings were read from, or "" where there is none.
        deviation: how ours differs from that source.
        values: dotted config path -> value; what is not named keeps the protocol's value.
    """

    name: str
    title: str
    paper: str
    file: str
    deviation: str
    values: Mapping[str, Any]


#: Alpha as plain DARTS has it: without draws, noise and penalty.
_SOFTMAX = {
    "search.weighting": "softmax",
    "search.temperature": 1.0,
    "search.temperature_end": 1.0,
    "search.alpha_noise": 0.0,
    "search.penalty": "none",
    "search.penalty_weight": 0.0,
    "search.penalty_rise": "constant",
    "search.skip_dropout": 0.0,
}
#: A search in one stage, in which nothing is dropped.
_ONE_STAGE = {
    "search.stages": 1,
    "search.stage_epochs": 1.0,
    "search.stage_cells": (),
    "search.stage_skip_dropout": (),
    "search.stage_candidates": 64,
}
_PLAIN = {
    **_SOFTMAX,
    **_ONE_STAGE,
    "supernet.split_ratio": "1",
    "supernet.split_pick": "first",
    "supernet.shuffle": True,
    "supernet.edge_norm": False,
    "supernet.identity": "none",
    "supernet.identity_decay": "none",
    "supernet.identity_phases": "both",
    "search.strategy": "gradient",
    "search.alpha_warmup": 0,
}

_ALL = (
    Preset(
        "csc",
        "CSC-DARTS (our reading)",
        "Information Sciences 720 (2025) 122538, abstract only",
        "",
        "The paper is closed. Split ratio, place of the identity, warm-up and profile are inferred; `cscdarts config "
        "--explain` names the evidence for each.",
        {
            **_SOFTMAX,
            **_ONE_STAGE,
            "supernet.split_ratio": "1/2",
            "supernet.split_pick": "first",
            "supernet.shuffle": True,
            "supernet.edge_norm": False,
            "supernet.identity": "cell",
            "supernet.identity_scale": 1.0,
            "supernet.identity_decay": "none",
            "supernet.identity_phases": "both",
            "search.strategy": "gradient",
            "search.order": 2,
        },
    ),
    Preset(
        "darts1",
        "DARTS, first order",
        "Liu et al., ICLR 2019, arXiv 1806.09055",
        "quark0/darts cnn/train_search.py",
        "Each image of a batch has its own crop and flip draw on the device; halves are disjoint random halves, not "
        "the first and last indices.",
        {**_PLAIN, "search.order": 1},
    ),
    Preset(
        "darts2",
        "DARTS, second order",
        "Liu et al., ICLR 2019, arXiv 1806.09055, equations 7 and 8",
        "quark0/darts cnn/architect.py",
        "As DARTS, first order. Look-ahead passes leave the batch-norm statistics untouched, unlike the original.",
        {**_PLAIN, "search.order": 2},
    ),
    Preset(
        "pcdarts",
        "PC-DARTS",
        "Xu et al., ICLR 2020, arXiv 1907.05737",
        "yuhuixu1993/PC-DARTS model_search.py",
        "K = 4 by default (`split_ratio=1/K`); batch size and learning rates follow the protocol at hand unless "
        "the `pcdarts` profile (256, 0.1, 6e-4) is set. The bypass is pooled once per node, not once per edge: "
        "the same values.",
        {
            **{key: value for key, value in _PLAIN.items() if key != "search.alpha_warmup"},
            "supernet.split_ratio": "1/4",
            "supernet.edge_norm": True,
            "search.order": 1,
        },
    ),
    Preset(
        "dartsminus",
        "DARTS-",
        "Chu et al., ICLR 2021, arXiv 2009.01027",
        "Meituan-AutoML/DARTS- src/search/model_search.py",
        "The decay of the auxiliary skip is linear per epoch from 1 to 0, as in its scripts; search only.",
        {
            **_PLAIN,
            "supernet.identity": "edge",
            "supernet.identity_scale": 1.0,
            "supernet.identity_decay": "linear",
            "supernet.identity_phases": "search",
            "search.order": 1,
        },
    ),
    Preset(
        "pdarts",
        "P-DARTS",
        "Chen et al., ICCV 2019, arXiv 1904.12760, section 3",
        "chenxin061/pdarts train_search.py",
        "Cells and epochs of the three stages are shares of the protocol's, 5/8, 11/8, 17/8 and 1/2: of 8 cells and 50 "
        "epochs the paper's 5, 11, 17 and 25 each; in the NAS-Bench-201 space they are cells between two reductions. "
        "Candidates fall from all to 3 in equal ratios: 8, 5, 3 as there, of 5 operations 5, 4, 3. A skip connection "
        "is dropped whole for a step, the code drops elements of its map; alpha's gradient is not clipped; batch and "
        "learning rates follow the protocol unless the `pdarts` profile (96, 0.025 to 0, 6e-4) is set.",
        {
            **{key: value for key, value in _PLAIN.items() if key != "search.alpha_warmup"},
            "search.order": 1,
            "search.alpha_warmup": None,
            "search.stages": 3,
            "search.stage_epochs": 0.5,
            "search.stage_cells": (5 / 8, 11 / 8, 17 / 8),
            "search.stage_skip_dropout": (0.0, 0.4, 0.7),
            "search.stage_candidates": 3,
            "search.derive": "skip-cap",
            "search.derive_skips": 2,
        },
    ),
    Preset(
        "gdas",
        "GDAS",
        "Dong and Yang, CVPR 2019, arXiv 1910.04465, equations 3 to 5",
        "D-X-Y/AutoDL-Projects exps/NATS-algos/search-cell.py",
        "Temperature 10 to 0.1, linear per epoch, as there. Operations that were not sampled give no gradient to alpha "
        "(the code adds that of the sum of the node's map); one draw serves all passes of a step; the protocol's "
        "number of epochs, not the paper's 250.",
        {
            **_PLAIN,
            "search.order": 1,
            "search.weighting": "gumbel-hard",
            "search.temperature": 10.0,
            "search.temperature_end": 0.1,
        },
    ),
    Preset(
        "snas",
        "SNAS (mild: without resource constraint)",
        "Xie et al., ICLR 2019, arXiv 1812.09926, equations 3 and 4",
        "",
        "Bilevel with two halves as all members here; SNAS trains weights and alpha on one loss. Temperature 1 to "
        "0.03, linear per epoch: the schedule is from memory, no code was read.",
        {
            **_PLAIN,
            "search.order": 1,
            "search.weighting": "gumbel",
            "search.temperature": 1.0,
            "search.temperature_end": 0.03,
        },
    ),
    Preset(
        "drnas",
        "DrNAS (without progressive widening)",
        "Chen et al., ICLR 2021, arXiv 2006.10355, section 3",
        "xiangning-chen/DrNAS (read in ports of it)",
        "Without its progressive scheme (partial channels that widen, operations that are pruned) and without the "
        "distance of the concentrations to 1 in the loss; edges are derived by the mean of the distribution.",
        {**_PLAIN, "search.order": 1, "search.weighting": "dirichlet", "search.alpha_weight_decay": 0.0},
    ),
    Preset(
        "sdarts-rs",
        "SmoothDARTS-RS",
        "Chen and Hsieh, ICML 2020, arXiv 2002.05283, equation 6",
        "xiangning-chen/SmoothDARTS",
        "Weight steps see softmax(alpha + d), d uniform in [-e, e], e from 0.03 to 0.3; the code adds d to "
        "softmax(alpha) and normalises again.",
        {**_PLAIN, "search.order": 1, "search.alpha_noise": 0.3},
    ),
    Preset(
        "beta-darts",
        "beta-DARTS",
        "Ye et al., CVPR 2022, arXiv 2203.01665, equation 9",
        "Sunshine-Ye/Beta-DARTS (read in ports of it)",
        "Weight of the penalty 0 to 50, linear per epoch, both kinds of cell alike; no weight decay on alpha.",
        {
            **_PLAIN,
            "search.order": 1,
            "search.penalty": "log-sum-exp",
            "search.penalty_weight": 50.0,
            "search.penalty_rise": "linear",
            "search.alpha_weight_decay": 0.0,
        },
    ),
    Preset(
        "fairdarts",
        "FairDARTS",
        "Chu et al., ECCV 2020, arXiv 1911.12126, equations 3 and 5",
        "xiaomi-automl/FairDARTS",
        "The cell keeps the two strongest inputs of a node and one operation an edge, by sigmoid(alpha); FairDARTS "
        "keeps what is above a threshold of 0.85, at most two an edge. Weight of the zero-one loss 10.",
        {
            **_PLAIN,
            "search.order": 1,
            "search.weighting": "sigmoid",
            "search.penalty": "zero-one",
            "search.penalty_weight": 10.0,
            "search.alpha_weight_decay": 0.0,
        },
    ),
    Preset(
        "darts-pt",
        "DARTS-PT",
        "Wang et al., ICLR 2021, arXiv 2108.04392, algorithm 1",
        "ruocwang/darts-pt",
        "While a decision is tuned only the weights are trained, at the search's last learning rate; 5 epochs each.",
        {**_PLAIN, "search.order": 1, "search.derive": "perturbation"},
    ),
    Preset(
        "darts-es",
        "DARTS-ES (R-DARTS, early stopping)",
        "Zela et al., ICLR 2020, arXiv 1909.09656, section 4.3",
        "automl/RobustDARTS",
        "A record that is read up to the stop, so the search runs its whole length; power iteration on one batch.",
        {**_PLAIN, "search.order": 1, "search.derive": "eigenvalue-stop", "search.hessian_every": 1},
    ),
    Preset(
        "random",
        "Random architectures",
        "Li and Talwalkar, UAI 2019, arXiv 1902.07638 (the baseline asked for)",
        "",
        "One architecture is sampled uniformly a seed and retrained with the same recipe; no search cost.",
        {**_PLAIN, "search.strategy": "random", "search.order": 1},
    ),
    Preset(
        "random-ws",
        "Random search with weight sharing",
        "Li and Talwalkar, UAI 2019, arXiv 1902.07638",
        "",
        "Each weight step trains one sampled architecture inside the supernet; at the end the sampled candidate with "
        "the lowest validation error under shared weights is kept.",
        {**_PLAIN, "search.strategy": "random-ws", "search.order": 1, "search.random_candidates": 100},
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in _ALL})


def apply_cell(config: RunConfig, cell: str, preset: str | None = None) -> RunConfig:
    """`config` with a cell given in place of a search, and its name as the label.

    The network is the plain one that published cells were trained in, without the identity connection, unless a preset
    is named whose network has one.

    Args:
        cell: a known cell's name or a cell's text, of the config's space.
        preset: the method whose evaluation settings hold; None for the plain network.

    Errors:
        UserError: no such cell or preset, or a cell of another space.
    """
    config = with_values(config, _PLAIN) if preset is None else apply_preset(config, preset)
    found = with_values(config, {"search.strategy": "given", "search.genotype": cell})
    label = " ".join(["cell", *filter(None, [name_of(found.search.genotype)])])
    return with_values(found, {"labels.method": label if preset is None else f"{label} in {preset}"})


def apply_preset(config: RunConfig, name: str) -> RunConfig:
    """`config` with a method's values and its name as the label.

    Errors:
        UserError: no such preset.
    """
    if name not in PRESETS:
        raise UserError("preset", name, ", ".join(PRESETS), "Choose one of these.")
    return with_values(config, {**PRESETS[name].values, "labels.method": name})
