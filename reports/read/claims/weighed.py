"""Each claim's test on all runs of one data set at one scale, and once more without the runs that stood still."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports.read.claims.declared import CLAIMS, Claim
from reports.read.claims.evidence import Evidence
from reports.read.settings import Setting, Study


@dataclass(frozen=True)
class Weighed:
    """The claims at one scale on one data set.

    Attributes:
        data, scale: as printed.
        rows: each claim with what its runs say.
    """

    data: str
    scale: str
    rows: tuple[tuple[Claim, Evidence], ...]


def weighed(found: Sequence[Study]) -> list[Weighed]:
    """All claims for each data set and scale, whatever other settings tell the studies apart: claim 4 compares networks
    of several depths."""
    groups: dict[tuple[str, str], list[Setting]] = {}
    for study in found:
        groups.setdefault((study.data, study.scale), []).extend(study.settings)
    return [
        Weighed(data, scale, tuple((claim, _with_sensitivity(claim, settings)) for claim in CLAIMS))
        for (data, scale), settings in groups.items()
    ]


def _with_sensitivity(claim: Claim, settings: Sequence[Setting]) -> Evidence:
    """The test as it was fixed. Where runs that stood still (a cell cut off from its input, answers at chance) move its
    effect, the remarks say what it is without them; that was thought of after a first study and decides nothing."""
    whole = claim.evidence(settings)
    still = sum(_stood_still(run) for setting in settings for run in setting.done)
    if not still or whole.effect is None:
        return whole
    moving = [replace(one, runs=tuple(run for run in one.runs if not _stood_still(run))) for one in settings]
    without = claim.evidence(moving)
    if without.effect is None or claim.printed(without.effect) == claim.printed(whole.effect):
        return whole
    span = ""
    if without.interval is not None:
        span = f" ({claim.printed(without.interval.low)} to {claim.printed(without.interval.high)})"
    runs = "the run that stood still" if still == 1 else f"the {still} runs that stood still"
    remark = f"without {runs}: {without.word}, {claim.printed(without.effect)}{span}, n = {without.seeds}"
    return replace(whole, why="; ".join(part for part in (whole.why, remark) if part))


def _stood_still(run: object) -> bool:
    assert isinstance(run, dict)
    return bool(run.get("notes"))
