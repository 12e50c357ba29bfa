"""What mkdocs calls while it builds the site: pages from outside `docs/`, generated parts, links into the repository.

A page says `<!-- generated: NAME -->` where the code is to speak for itself; nothing generated is ever committed.
"""

import json
import posixpath
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from docs.hooks import commands, example, installation, interface, settings  # noqa: E402

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

#: Pages and pictures of the repository that stay where they are; on the site they have the same paths.
MOUNTED = (
    "slurm/scale.md",
    "benchmarks/speed.md",
    "benchmarks/records/nasbench201.md",
    "benchmarks/records/speed-growth.png",
    "benchmarks/records/claims/collapse.png",
    "benchmarks/records/claims/README.md",
    "benchmarks/embedded/README.md",
    "containers/README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
)
#: Page of the site -> the notebook that it shows.
NOTEBOOKS = {f"examples/{name}.md": f"examples/{name}.ipynb" for name in ("report", "search")}
GENERATED: Mapping[str, Callable[[], str]] = {
    "open choices": settings.open_choices,
    "settings": settings.settings,
    "methods": settings.methods,
    "cells": settings.cells,
    "protocols": settings.protocols,
    "metrics": settings.metrics,
    "published": settings.published,
    "profiles": settings.profiles,
    "extras": installation.extras,
    "commands": commands.commands,
    "interface": interface.interface,
    "statistics": example.statistics_example,
    "pairs needed": example.pairs_needed,
}
MARK = re.compile(r"<!-- generated: ([\w ]+) -->")
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def named(entry: object) -> Iterator[str]:
    """The pages of a navigation, in its order."""
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict | list):
        for inner in entry.values() if isinstance(entry, dict) else entry:
            yield from named(inner)


def whole(nav: list[Any]) -> list[Any]:
    """A navigation with the pages of `docs/` that it does not name, under a heading of their own at its end."""
    folder = ROOT / "docs"
    left = sorted({path.relative_to(folder).as_posix() for path in folder.rglob("*.md")} - set(named(nav)))
    return [*nav, {"More": left}] if left else nav


def on_config(config: "MkDocsConfig") -> "MkDocsConfig":
    """A new page is on the site before anyone has found a place for it."""
    config.nav = whole(config.nav or [])
    return config


def on_files(files: "Files", *, config: "MkDocsConfig") -> "Files":
    """Add the mounted pages."""
    from mkdocs.structure.files import File

    for name in MOUNTED:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for name, path in NOTEBOOKS.items():
        files.append(File.generated(config, name, content=notebook(ROOT / path)))
    return files


def notebook(path: Path) -> str:
    """A notebook's cells as Markdown, without outputs; what they give is seen by running it."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    parts = [
        text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
        for cell, text in zip(cells, texts, strict=True)
        if text.strip()
    ]
    return "\n\n".join([*parts, f"*From the notebook `{path.relative_to(ROOT)}`.*"])


def on_page_markdown(markdown: str, *, page: "Page", **_: Any) -> str:
    """Turn links into the repository into links of the site, and generate what is marked."""
    own = page.file.src_uri
    inside = own if own in MOUNTED else NOTEBOOKS.get(own, f"docs/{own}")
    return MARK.sub(lambda found: GENERATED[found[1]](), linked(markdown, inside, own))


def linked(markdown: str, inside: str, own: str) -> str:
    """A page's text with its links as the site has them; files that are no pages are named and not linked.

    Args:
        inside: the page's path in the repository.
        own: its path on the site.
    """

    def one(found: re.Match[str]) -> str:
        target = found["target"]
        if "://" in target or target.startswith("mailto:") or not target:
            return found[0]
        meant = posixpath.normpath(posixpath.join(posixpath.dirname(inside), target))
        if meant in MOUNTED:
            place = meant
        elif meant.startswith("docs/"):
            place = meant.removeprefix("docs/")
        elif meant == "README.md":
            place = "index.md"
        else:
            return found["text"] if "`" in found["text"] else f"`{meant}`"
        there = posixpath.relpath(place, posixpath.dirname(own) or ".")
        return f"{found['image']}[{found['text']}]({there}{found['anchor'] or ''})"

    begin, parts = 0, []
    for fence in _FENCE.finditer(markdown):  # code stays as it is
        parts += [_LINK.sub(one, markdown[begin : fence.start()]), fence[0]]
        begin = fence.end()
    return "".join([*parts, _LINK.sub(one, markdown[begin:])])
