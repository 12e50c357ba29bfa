"""The twenty choices the closed paper leaves open: what is known of each, our default, and the switch. No torch.

`known` = a public source of the paper says it, `inferred` = deduced from the papers it builds on, `unknown` = nothing
public. `cscdarts config --explain` prints this table; the allowed values come from the config model itself.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from cscdarts.settings.config import RunConfig
from cscdarts.settings.optimiser_recipes import PROFILES

Level = Literal["known", "inferred", "unknown"]


@dataclass(frozen=True)
class Switch:
    """One open choice.

    Attributes:
        number: its number in our list of ambiguous choices.
        key: the setting (a dotted config path, or a word that the command line expands).
        choice: what is decided.
        level: how sure the default is.
        evidence: what the default rests on.
        default: the default as printed.
        allowed: the allowed values as printed.
    """

    number: int
    key: str
    choice: str
    level: Level
    evidence: str
    default: str
    allowed: str


#: number, key, choice, level, evidence
_ROWS: tuple[tuple[int, str, str, Level, str], ...] = (
    (1, "supernet.split_ratio", "share of the channels sent to operation selection", "unknown",
     "no source; ShuffleNetV2 splits 1/2, PC-DARTS 1/4 (CIFAR) and 1/2 (ImageNet); always shown beside 1/4"),
    (2, "supernet.split_pick", "which channels are operated on", "inferred", "PC-DARTS: the first ones, fixed"),
    (3, "supernet.shuffle", "channel shuffle after the concatenation", "inferred",
     "abstract silent; PC-DARTS and ShuffleNetV2 both shuffle"),
    (4, "supernet.edge_norm", "edge normalisation (softmax over a node's inputs)", "unknown",
     "abstract silent; PC-DARTS has it"),
    (5, "supernet.bypass_reduce", "the bypass on edges of stride 2", "inferred",
     "abstract silent; PC-DARTS max-pools, ShuffleNetV2 does not split there"),
    (6, "supernet.identity", "place of the identity connection", "inferred",
     "'identity connection' against a depth gap between stages: the cell; DARTS- puts one on each edge"),
    (7, "supernet.identity_scale", "its scale, and whether it decays (`identity_decay`, linear as in DARTS-)",
     "inferred", "'in both the search and evaluation phases' leaves no room for a decay"),
    (8, "supernet.identity_proj", "the identity where shapes differ", "unknown",
     "no source; parameters only in cell 0 and the two reduction cells"),
    (9, "evaluation.identity_drop_path", "drop-path on the identity", "inferred",
     "DARTS exempts Identity from drop-path"),
    (10, "supernet.identity_phases", "phases in which the identity is active", "known",
     "abstract: 'in both the search and evaluation phases'"),
    (11, "evaluation.split_eval", "split kept in the evaluation network", "inferred",
     "abstract: feature maps 'of the supernet'; PC-DARTS evaluates with full channels"),
    (12, "search.order", "order of the gradient approximation", "known",
     "abstract: 'second-order gradient approximation'"),
    (13, "search.xi", "step length of the unrolled weights", "inferred", "DARTS: the present learning rate"),
    (14, "search.alpha_warmup", "epochs before the first architecture step", "unknown",
     "DARTS 0, PC-DARTS 15 of 50; the default keeps 15/50 of the epochs"),
    (15, "profile", "batch size and learning rates", "unknown",
     "no source; the DARTS family's (64, 0.025, 3e-4) or PC-DARTS's"),
    (16, "supernet.ops", "candidate operations, and which epoch is derived (`search.derive`)", "inferred",
     "DARTS: 8 operations, two strongest edges per node, last epoch; rules of DARTS+, R-DARTS and P-DARTS beside it"),
    (17, "evaluation.drop_path", "drop-path probability in evaluation", "inferred", "DARTS 0.2, PC-DARTS 0.3"),
    (18, "data.search_dataset", "which data the cell for CIFAR-100 is searched on", "unknown",
     "no source; protocols `cifar100` (direct) and `cifar100-transfer` (from CIFAR-10)"),
    (19, "evaluation.fit_macs_m", "ImageNet: data searched on and width of the network", "unknown",
     "no source; protocols `imagenet-transfer` and `imagenet-direct`, width fitted below 600 M MACs"),
    (20, "seeds", "number of runs of a grid's settings", "inferred",
     "'average' is said of CIFAR-100 only; one retraining each, more with `evaluation.seed`"),
)  # fmt: skip


def switches() -> list[Switch]:
    """All switches with defaults and allowed values read from the config model."""
    return [
        Switch(number, key, choice, level, evidence, *_default_and_allowed(key))
        for number, key, choice, level, evidence in _ROWS
    ]


def _default_and_allowed(key: str) -> tuple[str, str]:
    if key == "profile":
        return "darts", " | ".join(PROFILES)
    if key == "seeds":
        return "0,1,2", "a number of seeds, or a list such as 0,1,2"
    value: object = RunConfig()
    model: type = RunConfig
    for part in key.split("."):
        field = model.model_fields[part]  # type: ignore[attr-defined]
        value, model = getattr(value, part), field.annotation
    if key == "supernet.split_ratio":
        return str(value), "1/8, 1/4, 1/2, 3/4, 1, or any fraction in (0, 1] with a denominator up to 16"
    if key == "supernet.ops":
        return "all of the space", "any two or more of the space's operations, comma separated"
    bounds = [f"{sign} {getattr(m, name)}" for m in field.metadata for name, sign in _SIGNS.items() if hasattr(m, name)]
    words = field.description or _words(field.annotation)
    return ("none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)), " ".join(
        part for part in (words, ", ".join(bounds)) if part
    )


_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def _words(kind: object) -> str:
    """An annotation as a person would write it."""
    if kind is bool:
        return "true | false"
    parts = get_args(kind)
    if getattr(kind, "__origin__", None) is Literal:
        return " | ".join(str(part) for part in parts)
    if parts:
        return " | ".join(_words(part) for part in parts if part is not type(None))
    return {int: "a whole number", float: "a number", str: "a word"}.get(kind, str(kind))  # type: ignore[call-overload,no-any-return]
