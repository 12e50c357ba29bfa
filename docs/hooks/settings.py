"""Settings, methods, protocols, metrics, published numbers and cluster profiles, as the code holds them."""

import json
from typing import Any

from benchmarks.published.rows import PublishedTable, published_rows
from cscdarts.settings.config import RunConfig, neutral_values
from cscdarts.settings.methods import PRESETS
from cscdarts.settings.metrics import METRICS
from cscdarts.settings.open_choices import switches
from cscdarts.settings.optimiser_recipes import PROFILES as RECIPES
from cscdarts.settings.overrides import field_paths
from cscdarts.settings.protocols import PROTOCOLS, SCALES
from cscdarts.settings.values import allowed
from cscdarts.spaces.known import KNOWN_CELLS
from docs.hooks.markdown import DASH, code, escaped, table
from slurm.backends.slurm.profile import PROFILES, Profile, load_profile

_SECTIONS = {"": "The run", "data": "Data", "supernet": "Supernet", "search": "Search", "evaluation": "Retraining"}
_UNHASHED = {"runtime": "Runtime", "labels": "Labels"}


def _plain(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return ",".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _of(config: RunConfig, path: str) -> object:
    value: Any = json.loads(config.model_dump_json())
    for part in path.split("."):
        value = value[part]
    return value


def open_choices() -> str:
    """The choices that the closed paper leaves open, each with its evidence."""
    parts = [
        f"### {one.number}. {escaped(one.choice[0].upper() + one.choice[1:])} {{ #{one.key.replace('.', '-')} }}\n\n"
        f"Switch\n:   {code(one.key)}, by default {code(one.default)}\n\n"
        f"Allowed\n:   {escaped(one.allowed)}\n\n"
        f"Evidence\n:   **{one.level}**: {escaped(one.evidence)}"
        for one in switches()
    ]
    rows = [[code(f"profile={name}"), ", ".join(code(f"{k}={_plain(v)}") for k, v in values.items())]
            for name, values in RECIPES.items()]  # fmt: skip
    return "\n\n".join([*parts, "What `--set profile=NAME` stands for:", table(["word", "sets"], rows)])


def settings() -> str:
    """Every setting with default and allowed values, section by section."""
    plain = RunConfig()
    neutral = neutral_values()
    parts = []
    for section, title in {**_SECTIONS, **_UNHASHED}.items():
        rows = []
        for path in field_paths():
            if path.rpartition(".")[0] == section:
                model: Any = RunConfig
                for part in path.split(".")[:-1]:
                    model = model.model_fields[part].annotation
                later = code(_plain(neutral[path]) or '""') if path in neutral else ""
                value = code(_plain(_of(plain, path)) or '""')
                rows.append([code(path), value, escaped(allowed(model.model_fields[path.split(".")[-1]])), later])
        heads = ["setting", "default", "allowed", "left out of the hash at"]
        parts.append(f"### {title}\n\n{table(heads, rows)}")
        if section in _UNHASHED:
            parts[-1] = f"### {title} (not in the hash)\n\n{table(heads[:3], [row[:3] for row in rows])}"
    return "\n\n".join(parts)


def methods() -> str:
    """Every method with source, departures, and the values that are not the defaults."""
    plain = RunConfig()
    parts = []
    for one in PRESETS.values():
        other = {path: value for path, value in one.values.items() if _plain(value) != _plain(_of(plain, path))}
        values = ", ".join(code(f"{path}={_plain(value)}") for path, value in other.items())
        parts.append(
            f"### `{one.name}`: {escaped(one.title)} {{ #{one.name} }}\n\n"
            f"Paper\n:   {escaped(one.paper)}\n\n"
            f"Code read\n:   {escaped(one.file or 'none public')}\n\n"
            f"How ours departs\n:   {escaped(one.deviation)}\n\n"
            f"Sets, other than the defaults\n:   {values or 'nothing: it is the default'}"
        )
    return "\n\n".join(parts)


def cells() -> str:
    """The cells known by name."""
    rows = [
        [code(name), escaped(one.source), DASH if one.params_m is None else f"{one.params_m:g}", escaped(one.remark)]
        for name, one in KNOWN_CELLS.items()
    ]
    return table(["name", "source", "parameters printed there, M", "remark"], rows, [2])


def protocols() -> str:
    """Every protocol with what its scales set."""
    parts = []
    for one in PROTOCOLS.values():
        paths = list(dict.fromkeys(path for scale in SCALES for path in one.scales[scale]))
        rows = [
            [code(path), *(code(_plain(one.scales[scale][path])) if path in one.scales[scale] else DASH
                           for scale in SCALES)]
            for path in paths
        ]  # fmt: skip
        parts.append(
            f"### `{one.name}` {{ #{one.name} }}\n\n{escaped(one.title)}. Source of the paper scale: "
            f"{escaped(one.source)}.\n\n{table(['setting', *SCALES], rows)}"
        )
    return "\n\n".join(parts)


_NEEDS = {
    "": "",
    "supernet": "a search that trains a supernet",
    "cosine_every": "`search.cosine_every`",
    "hessian_every": "`search.hessian_every`",
    "classes": "more than ten classes",
}


def metrics() -> str:
    """Every metric with unit, direction and the stage that writes it."""
    parts = []
    for per, title in (("run", "One number a run"), ("epoch", "Curves, one number an epoch")):
        rows = [
            [code(one.name), escaped(one.label), one.unit, one.better.replace("none", ""), str(one.digits), one.stage,
             _NEEDS.get(one.needs, code(f"search.{one.needs}"))]
            for one in METRICS.values()
            if one.per == per
        ]  # fmt: skip
        heads = ["name", "is", "unit", "better", "digits", "stage", "needs"]
        parts.append(f"## {title}\n\n{table(heads, rows, [4])}")
    return "\n\n".join(parts)


_PUBLISHED: dict[PublishedTable, str] = {
    "cifar": "CIFAR-10 and CIFAR-100",
    "imagenet": "ImageNet, mobile setting",
    "nasbench201": "NAS-Bench-201",
    "memory": "Memory of a search",
}


def published() -> str:
    """Every published number with its source, table by table."""
    parts = []
    for name, title in _PUBLISHED.items():
        found = published_rows(name)
        columns = list(found[0].numbers)
        heads = ["method", "on", *(column.replace("_", " ") for column in columns), "caveat", "source"]
        rows = [
            [escaped(one.method), escaped(", ".join(filter(None, (one.dataset, one.searched_on)))),
             *(DASH if one.numbers[column] is None else f"{one.numbers[column]:g}" for column in columns),
             escaped(one.note), escaped(one.source)]
            for one in found
        ]  # fmt: skip
        numbers = table(heads, rows, range(2, 2 + len(columns)))
        parts.append(f'## {title}\n\n<div class="wide" markdown>\n\n{numbers}\n\n</div>')
    return "\n\n".join(parts)


def profiles() -> str:
    """Every key of a cluster profile, and the profiles that come with the distribution."""
    told = _attributes(Profile.__doc__ or "")
    rows = [
        [code(name), code(_plain(field.get_default(call_default_factory=True)) or '""'), escaped(told.get(name, ""))]
        for name, field in Profile.model_fields.items()
    ]
    shipped = [
        [code(f"slurm:{path.stem}"), escaped(load_profile(path.stem).description)]
        for path in sorted(PROFILES.glob("*.yaml"))
    ]
    return f"{table(['profile', 'a job is'], shipped)}\n\n{table(['key', 'default', 'is'], rows)}"


def _attributes(doc: str) -> dict[str, str]:
    """What the `Attributes:` of a docstring say of each name; names may share a sentence."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in doc.partition("Attributes:")[2].splitlines():
        text = line.strip()
        if line.startswith(" " * 8) and not line.startswith(" " * 9) and ":" in text:
            head, _, text = text.partition(":")
            names = [name.strip() for name in head.split(",")]
        for name in names:
            found[name] = f"{found.get(name, '')} {text}".strip()
    return found
