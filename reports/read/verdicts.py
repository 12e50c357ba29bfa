"""Whether a number of ours upholds a published one: within tolerance, outside, not comparable, not run; never a
guess."""

from dataclasses import dataclass
from typing import Literal

from benchmarks.published.rows import PublishedRow
from reports import statistics
from reports.read.settings import Setting, normal_text

Word = Literal["within tolerance", "outside", "not comparable", "not run", "not public"]

#: Data labels that are the published data themselves. A copy in another encoding is other data.
TRUE_DATA = {"cifar10": "cifar-10", "cifar100": "cifar-100", "imagenet": "imagenet", "nasbench201": "cifar-10"}


@dataclass(frozen=True)
class Tolerance:
    """How far an honest rerun may land from a published number.

    Attributes:
        points: in percentage points.
        reason: the evidence for it, printed under the table.
    """

    points: float
    reason: str


TOLERANCES = {
    "cifar10": Tolerance(
        0.54,
        "independent reruns of released PC-DARTS code give 2.89 ± 0.22 % against a claimed 2.57 % (ROME, Table 2): a "
        "gap "
        "of 0.32 and a spread of 0.22",
    ),
    "cifar100": Tolerance(
        0.94, "an independent rerun of P-DARTS gives 17.49 % against a claimed 16.55 % (ROME, Table 3)"
    ),
    "imagenet": Tolerance(
        0.40, "an independent rerun of PC-DARTS gives 24.6 % top-1 error against a claimed 24.2 % (ROME, Table 4)"
    ),
    "nasbench201": Tolerance(
        1.42,
        "three trainings of one and the same cell differ by up to 0.59 points on CIFAR-10, 1.42 on CIFAR-100 and 1.74 "
        "on "
        "ImageNet16-120 (NAS-Bench-201 record 11); published spread is added",
    ),
}


@dataclass(frozen=True)
class Verdict:
    """The word and why."""

    word: Word
    reason: str


def judge(published: float | None, spread: float | None, settings: list[Setting], metric: str, target: str) -> Verdict:
    """Hold our mean of a metric against a published number.

    Args:
        published, spread: the published number and its standard deviation.
        settings: our settings of that method on that data set.
        metric: our metric, in the same unit.
        target: which tolerance and protocol apply: `cifar10`, `cifar100` or `imagenet`.
    """
    if not settings:
        return Verdict("not run", "no run of ours")
    comparable = [setting for setting in settings if why_not(setting, target) is None]
    if not comparable:
        reasons = dict.fromkeys(reason for setting in settings if (reason := why_not(setting, target)))
        return Verdict("not comparable", "; ".join(reasons))
    values = statistics.mean([value for setting in comparable for value in setting.values(metric)])
    if values is None:
        return Verdict("not run", "no finished run of ours")
    if published is None:
        return Verdict("not public", "nothing published to hold it against")
    allowed = TOLERANCES[target].points + (spread or 0.0 if target == "nasbench201" else 0.0)
    gap = values - published
    word: Word = "within tolerance" if abs(gap) <= allowed else "outside"
    return Verdict(word, f"{abs(gap):.2f} points {'above' if gap > 0 else 'below'}, {allowed:.2f} allowed")


def why_not(setting: Setting, target: str) -> str | None:
    """Why a setting's number must not stand in the paper's column, None where it may."""
    if setting.scale != "paper":
        return f"scale {setting.scale}"
    if target in TRUE_DATA and setting.data.strip().lower() != TRUE_DATA[target]:
        return f"data {setting.data}"
    departures = departures_from_protocol(setting, target)
    if departures:
        return f"protocol changed ({', '.join(departures[:3])}{', …' if len(departures) > 3 else ''})"
    if len(setting.codes) > 1:
        return "several code versions"
    return None


def departures_from_protocol(setting: Setting, target: str) -> list[str]:
    """Values that differ from every published protocol for this target: a changed recipe is not the paper's scale.

    What a method itself sets, as beta-DARTS the weight decay of alpha, is its recipe and no departure of it.
    """
    from cscdarts.settings.methods import PRESETS
    from cscdarts.settings.optimiser_recipes import PROFILES
    from cscdarts.settings.protocols import PROTOCOLS

    # A family's own batch size and learning rates are a published recipe too.
    profiles: dict[str, set[str]] = {}
    for profile in PROFILES.values():
        for key, value in profile.items():
            profiles.setdefault(key, set()).update(_spellings(value))
    for method in setting.methods:
        for key, value in PRESETS[method].values.items() if method in PRESETS else ():
            profiles.setdefault(key, set()).update(_spellings(value))
    best: list[str] | None = None
    for name, protocol in sorted(PROTOCOLS.items()):
        if name.split("-")[0] == target:
            wrong = [
                f"{key.split('.')[-1]}={setting.params[key]}"
                for key, value in protocol.scales["paper"].items()
                if key in setting.params
                and normal_text(setting.params[key]) not in _spellings(value) | profiles.get(key, set())
            ]
            if best is None or len(wrong) < len(best):
                best = wrong
    return best or []


def departs(setting: Setting) -> list[str]:
    """How our reading of the setting's methods departs from what was published: a note for each, to stand beside a
    number of ours in a published row."""
    from cscdarts.settings.methods import PRESETS

    return [f"our reading: {PRESETS[name].deviation}" for name in setting.methods if name in PRESETS]


def _spellings(value: object) -> set[str]:
    """How a value may stand as text: 600 and 600.0 are one number."""
    texts = {normal_text(value)}
    if isinstance(value, int | float) and not isinstance(value, bool):
        texts |= {normal_text(float(value)), normal_text(int(value)) if value == int(value) else normal_text(value)}
    return texts


def published_pair(row: PublishedRow | None, key: str, spread: str) -> tuple[float | None, float | None]:
    """A published number and its spread, None where blank."""
    return (None, None) if row is None else (row.numbers.get(key), row.numbers.get(spread))
