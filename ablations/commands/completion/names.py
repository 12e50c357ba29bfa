"""Names and words that command lines are completed with: protocols, presets, settings, backends."""

from collections.abc import Iterable, Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

#: Kind of what can go on, see `ablations.commands.completion.shells`.
PART = "part"


def items(words: Mapping[str, str] | Iterable[str], incomplete: str, kind: str = "plain") -> list[CompletionItem]:
    """The words that begin as what was typed; a mapping's values describe them."""
    described = words if isinstance(words, Mapping) else dict.fromkeys(words, "")
    return [
        CompletionItem(word, type=kind, help=" ".join(text.split()) or None)
        for word, text in described.items()
        if word.startswith(incomplete)
    ]


def _listed(ctx: click.Context, words: Mapping[str, str] | Iterable[str], incomplete: str) -> list[CompletionItem]:
    """As `items`; where the command takes several with commas between, the last of them."""
    before, comma, _ = incomplete.rpartition(",") if ctx.command.name == "sweep" else ("", "", "")
    given = before.split(",")
    described = words if isinstance(words, Mapping) else dict.fromkeys(words, "")
    return items({f"{before}{comma}{word}": text for word, text in described.items() if word not in given}, incomplete)


def _known(ctx: click.Context, kind: str) -> dict[str, Any]:
    """Names of a kind as `ablations.commands.completion.remembered` has them."""
    found: dict[str, Any] = ctx.find_root().obj["names"][kind]
    return found


def protocols(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The protocols, with their titles."""
    return _listed(ctx, _known(ctx, "protocols"), incomplete)


def presets(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The methods, with their titles."""
    return _listed(ctx, _known(ctx, "presets"), incomplete)


def scales(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The scales."""
    return items(_known(ctx, "scales"), incomplete)


def spaces(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The search spaces of the package."""
    return items(_known(ctx, "spaces"), incomplete)


def published(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The published cells, each with its source."""
    return items(_known(ctx, "cells"), incomplete)


def devices(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """What a device is called."""
    return items(_known(ctx, "settings")["runtime.device"], incomplete)


def ratios(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Usual split ratios."""
    return items(_known(ctx, "settings")["supernet.split_ratio"], incomplete)


def identities(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Where the identity connection may be."""
    return items(_known(ctx, "settings")["supernet.identity"], incomplete)


def targets(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Whom `--notify` tells."""
    return items(("desktop", "off"), incomplete) + items(("https://",), incomplete, PART)


def report_formats(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """What a report can be written as, one after the other."""
    before, comma, _ = incomplete.rpartition(",")
    given = before.split(",")
    known = [word for word in ("csv", "tex", "html", "md", "pdf", "png") if word not in given]
    return items([f"{before}{comma}{word}" for word in known], incomplete)


def export_formats(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """What a network can be exported as."""
    return items(("safetensors", "torch-export", "onnx"), incomplete)


def backends(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Where runs can go: this machine, and each cluster's profiles."""
    return items(_known(ctx, "backends"), incomplete)


def profile_keys(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The keys of a cluster's profile."""
    return items([f"{key}=" for key in _known(ctx, "profile keys")], incomplete, PART)


def assignments(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """`KEY=`, then the values that the setting allows where these are words."""
    settings = _known(ctx, "settings")
    leaves = [path.rpartition(".")[2] for path in settings]
    # The last part of a path stands for it where no other path ends so.
    short = {leaf: path for leaf, path in zip(leaves, settings, strict=True) if leaves.count(leaf) == 1}
    key, separator, given = incomplete.partition("=")
    if separator:
        before, comma, _ = given.rpartition(",") if ctx.command.name == "sweep" else ("", "", "")
        used, words = before.split(","), settings[short.get(key, key)]
        return items([f"{key}={before}{comma}{word}" for word in words if word not in used], incomplete)
    offered = {f"{path}=": " | ".join(words) for path, words in settings.items()}
    if incomplete and "." not in incomplete:
        offered |= {f"{leaf}=": " | ".join(settings[path]) for leaf, path in short.items()}
    return items(offered, incomplete, PART)
