"""The seven claims of the paper's abstract, the test of each, and what would refute it: fixed before the data are seen.

The paper itself is closed. A verdict here is on the claim at the scale of the runs, never on the paper from a smaller
scale.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from reports.read.claims.contrasts import Contrast, contrast
from reports.read.claims.depth import depth_gap
from reports.read.claims.evidence import (
    Evidence,
    Word,
    counted_lower,
    joined,
    lower,
    lower_ratio,
    lower_variance,
    no_loss,
)
from reports.read.settings import Setting, search_machine
from reports.read.verdicts import judge

ERROR = "test_error_pct"
#: Points of test error up to which a difference does not count as a loss. Two trainings of one cell differ by as much.
MARGIN = 0.5
#: Fewest runs of the full protocol that are held against a stated error.
FEWEST_STATED = 3
#: The errors that the abstract states, by data set.
STATED = {"cifar10": 2.52, "cifar100": 17.25, "imagenet": 25.5}

_RATIO, _IDENTITY, _ORDER = "supernet.split_ratio", "supernet.identity", "search.order"


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        number: 1 to 7; text: what the abstract says.
        test: what is measured; unit: of the effect, "" for a pure number.
        higher, lower: the sign of a difference in words, "" for what is none.
        refuted_by: what would refute it.
        digits: of the effect as printed.
        evidence: the runs of one data set at one scale -> what they say.
    """

    number: int
    text: str
    test: str
    unit: str
    refuted_by: str
    digits: int
    evidence: Callable[[Sequence[Setting]], Evidence]
    higher: str = ""
    lower: str = ""

    def printed(self, value: float) -> str:
        """With the claim's digits; a ratio below a tenth with two that count, so that none is printed as 0."""
        small = not self.higher and 0 < value < 0.1
        return (f"{value:.2g}" if small else f"{value:.{self.digits}f}").replace("-", "−")


def _splits(params: Mapping[str, str]) -> bool | None:
    try:
        return Fraction(params.get(_RATIO, "")) < 1
    except (ValueError, ZeroDivisionError):
        return None


def _has_identity(params: Mapping[str, str]) -> bool | None:
    return {"cell": True, "none": False}.get(params.get(_IDENTITY, ""))


def _second_order(params: Mapping[str, str]) -> bool | None:
    return {"2": True, "1": False}.get(params.get(_ORDER, ""))


def _whole_method(params: Mapping[str, str]) -> bool | None:
    """Split, identity and second order against plain second-order DARTS."""
    if params.get(_ORDER) != "2":
        return None
    splits, identity = _splits(params), _has_identity(params)
    return splits if splits == identity else None


def _split(settings: Sequence[Setting]) -> Contrast:
    return contrast(settings, (_RATIO,), _splits)


def _memory_access(settings: Sequence[Setting]) -> Evidence:
    found = _split(settings)
    return counted_lower(found.log_ratios("memory_access_mb"), found)


def _no_loss(settings: Sequence[Setting]) -> Evidence:
    found = _split(settings)
    return no_loss(found.differences(ERROR), found, MARGIN)


def _variability(settings: Sequence[Setting]) -> Evidence:
    return lower_variance(contrast(settings, (_IDENTITY,), _has_identity), ERROR)


def _depth(settings: Sequence[Setting]) -> Evidence:
    return depth_gap(settings, ERROR)


def _order(settings: Sequence[Setting]) -> Evidence:
    found = contrast(settings, (_ORDER,), _second_order)
    return lower(found.differences(ERROR), found)


def _stated_errors(settings: Sequence[Setting]) -> Evidence:
    full = [setting for setting in settings if setting.scale == "paper"]
    if not full:
        return Evidence("not testable", why="an error of the full protocol, which only the paper's scale trains")
    target = next((name for name in STATED if full[0].dataset.startswith(name)), None)
    if target is None:
        return Evidence("not testable", why="the abstract states no error on these data")
    method = [setting for setting in full if _whole_method(setting.params) and "csc" in setting.methods]
    verdict = judge(STATED[target], None, method, ERROR, target)
    words: Mapping[str, Word] = {"within tolerance": "upheld", "not run": "not run"}
    errors = [float(value) for setting in method for value in setting.values(ERROR)]
    mean = sum(errors) / len(errors) if errors else None
    word = words.get(verdict.word, "not testable")
    if verdict.word == "outside" and mean is not None:
        word = "upheld" if mean < STATED[target] else "refuted"
    if word in ("upheld", "refuted") and len(errors) < FEWEST_STATED:
        word = "undecided"
    return Evidence(word, mean, None, len(errors), len(method), None, verdict.reason)


def _resources(settings: Sequence[Setting]) -> Evidence:
    found = contrast(settings, (_RATIO, _IDENTITY), _whole_method)
    machines = {search_machine(run) for pair in found.pairs for setting in pair for run in setting.done}
    if len(machines) > 1:
        return Evidence("not testable", pairs=len(found.pairs), why="the runs are of several machines")
    measured = [lower_ratio(found.log_ratios(name), found) for name in ("peak_memory_mib", "search_time_s")]
    return joined(measured[0], measured[1], ("peak memory", "search time"))


CLAIMS = (
    Claim(
        1, "Channel splitting cuts memory access.",
        "memory access of the supernet by the ShuffleNetV2 equation: split ÷ whole, all else equal", "×",
        "a split supernet that accesses as much memory or more", 2, _memory_access,
    ),
    Claim(
        2, "Channel splitting cuts redundancy without loss.",
        f"how much more test error the retrained network has with the split, by seed; up to {MARGIN} points are no "
        "loss. Redundancy itself is not measured", "points",
        f"an interval that lies above 0 and reaches {MARGIN} or more", 2, _no_loss, "more", "less",
    ),
    Claim(
        3, "The identity connection lowers variability.",
        "variance of the test error over seeds: identity at the cell ÷ none, pooled over settings", "×",
        "an interval of the ratio that lies above 1", 2, _variability,
    ),
    Claim(
        4, "The identity connection bridges the depth gap between search and evaluation.",
        "how much higher Kendall's τ between the errors of the same cells in shallow and in deep networks is with the "
        "identity", "",
        "an interval that lies below 0", 2, _depth, "higher", "lower",
    ),
    Claim(
        5, "The second-order approximation is worth having.",
        "how much more test error the retrained network has with the second order than with the first, by seed",
        "points", "an interval that lies above 0", 2, _order, "more", "less",
    ),
    Claim(
        6, "Test errors of 2.52 % on CIFAR-10, 17.25 % on CIFAR-100 and 25.5 % (top-5 8.3 %) on ImageNet.",
        "mean test error at the paper's scale, held against the stated one within the spread of reruns", "%",
        "a mean that exceeds the stated error by more than the tolerance of T1", 2, _stated_errors,
    ),
    Claim(
        7, "Fewer GPU resources.",
        "peak memory and search time: whole method ÷ second-order DARTS, by seed; both have to be lower", "×",
        "both intervals above 1", 2, _resources,
    ),
)  # fmt: skip
