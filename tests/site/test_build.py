"""The built site: nothing from elsewhere, no dead link, and all that is generated is there and is true."""

import html
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest

import cscdarts
from ablations.grid.file import shipped
from cscdarts.settings.methods import PRESETS
from cscdarts.settings.metrics import METRICS
from cscdarts.settings.open_choices import switches
from cscdarts.settings.overrides import field_paths
from cscdarts.settings.protocols import PROTOCOLS
from docs import pictures
from docs.hooks.commands import walk
from docs.hooks.example import ERRORS, statistics_example
from docs.hooks.site import GENERATED, MARK, MOUNTED, NOTEBOOKS, ROOT, linked
from reports import statistics
from tests.site.pages import navigation, source

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site")]
#: Tags that make a browser fetch something, and the attribute that says what.
FETCHED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "link": "href",
}
#: Relations of a link that fetch nothing.
NOT_FETCHED = {"canonical", "next", "prev", "author", "license"}
LARGEST_PICTURE = 150_000


class Reader(HTMLParser):
    """What a page fetches, links to and can be linked at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.classes: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.ids.add(values["id"])
        self.classes |= set(values.get("class", "").split())
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in FETCHED and values.get(FETCHED[tag]) and not NOT_FETCHED & set(values.get("rel", "").split()):
            self.fetched.append(values[FETCHED[tag]])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Reader]:
    """Every page of the built site."""
    return {path: Reader(path) for path in sorted(site.rglob("*.html"))}


def test_every_page_is_built_and_in_the_navigation(site: Path, pages: dict[Path, Reader]) -> None:
    own = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    mounted = {name for name in MOUNTED if name.endswith(".md")} | NOTEBOOKS.keys()
    assert set(navigation()) == own | mounted
    assert len(list(navigation())) == len(own | mounted)
    assert len(pages) == len(own | mounted) + 1  # and the page for what is not found


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[Path, Reader]) -> None:
    away = re.compile(r"^(?:[a-z]+:)?//")
    assert {
        str(path): found for path, page in pages.items() if (found := [x for x in page.fetched if away.match(x)])
    } == {}
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert re.findall(r"url\(\s*['\"]?(?:https?:)?//[^)]*\)|@import\s+['\"]https?:", text) == [], style
    # The one script of the theme that would be fetched from elsewhere draws diagrams.
    assert [str(path) for path, page in pages.items() if "mermaid" in page.classes] == []


def test_no_link_is_dead(site: Path, pages: dict[Path, Reader]) -> None:
    dead = []
    for path, page in pages.items():
        if path.name == "404.html":  # its links begin at the root of wherever the site is served
            continue
        for link in page.links:
            target, _, anchor = html.unescape(link).partition("#")
            if "://" in target or target.startswith("mailto:"):
                continue
            there = (path.parent / target).resolve() if target else path
            if not there.exists() or (anchor and there.suffix == ".html" and anchor not in pages[there].ids):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert dead == []


def test_every_mark_is_known_and_every_generated_part_is_used(site: Path) -> None:
    used = [name for page in navigation() for name in MARK.findall(source(page).read_text(encoding="utf-8"))]
    assert sorted(used) == sorted(GENERATED)
    assert "<!-- generated" not in "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.html"))


def text_of(site: Path, page: str) -> str:
    """What a page says, without its marks."""
    marked = (site / page).read_text(encoding="utf-8")
    return html.unescape(re.sub(r"<[^>]+>", "", marked))


def _expected() -> Iterator[tuple[str, str]]:
    for one in switches():
        yield "reference/settings.html", one.key
    for path in field_paths():
        yield "reference/settings.html", path
    for metric in METRICS.values():
        yield "reference/metrics.html", metric.name
    for preset in PRESETS.values():
        yield "reference/methods.html", preset.title
    for name in PROTOCOLS:
        yield "reference/protocols.html", name
    for name in cscdarts.__all__:
        yield "reference/api.html", name
    for _, command, context in walk():
        for option in command.get_params(context):
            if isinstance(option, click.Option) and not option.hidden:
                yield "reference/commands.html", option.opts[0]


def test_what_the_code_has_is_on_the_site(site: Path) -> None:
    texts = {page: text_of(site, page) for page, _ in _expected()}
    absent = {(page, name) for page, name in _expected() if name not in texts[page]} - {
        ("reference/api.html", "__version__")
    }
    assert absent == set()
    evidence = text_of(site, "reference/settings.html")
    assert [one.key for one in switches() if " ".join(one.evidence.split()).replace("`", "") not in evidence] == []


def test_every_grid_of_the_distribution_is_named(site: Path) -> None:
    text = text_of(site, "howto/reproduce.html")
    assert [name for name in shipped() if name not in text] == []


def test_the_docstrings_are_on_the_site(site: Path) -> None:
    text = text_of(site, "reference/api.html")
    assert "Errors:" in text or "Errors" in text
    assert "A copy of config with dotted paths replaced" in text


def test_the_worked_example_is_right() -> None:
    """By hand: six differences of one sign have 2 of 64 patterns as extreme, which two comparisons double."""
    differences = [a - b for a, b in zip(ERRORS["no identity"], ERRORS["default"], strict=True)]
    assert min(differences) > 0
    text = statistics_example()
    assert "it is 2, so p = 2/64 = 0.031" in " ".join(text.split())
    assert "| 0.031 | 0.062 | none |" in text
    mean = math.fsum(differences) / 6
    spread = math.sqrt(math.fsum((one - mean) ** 2 for one in differences) / 5)
    half = 2.5706 * spread / math.sqrt(6)  # t of 5 degrees of freedom at 0.975, from a printed table
    assert f"{mean - half:.3f} to {mean + half:.3f}" in text
    assert statistics.minimum_p(6) == 2 / 64
    assert "nan" not in text


def test_every_picture_is_made_by_a_script() -> None:
    shown = set()
    for page in navigation():
        folder = source(page).parent
        for link in re.findall(r"!\[[^\]]+\]\(([^)\s]+)\)", source(page).read_text(encoding="utf-8")):
            shown.add((folder / link).resolve())
    made = {pictures.OUT / name for name in pictures.MADE}
    records = ROOT / "benchmarks" / "records"
    drawn = {
        records / "speed-growth.png",  # by `cscdarts bench --part growth --figure`
        records / "claims" / "collapse.png",  # by `cscdarts report collapse`, its figure F4
    }
    assert shown == made | drawn
    assert {str(path.relative_to(ROOT)) for path in drawn} <= set(MOUNTED), "the site would show its name instead"
    assert {path for path in pictures.OUT.iterdir() if path.suffix != ".md"} == made
    assert {path.name for path in made if path.stat().st_size > LARGEST_PICTURE} == set()


def test_links_into_the_repository_become_links_of_the_site() -> None:
    own = "howto/cluster.md"
    for told, meant in (
        ("[scale](../../slurm/scale.md)", "[scale](../slurm/scale.md)"),
        ("[faults](../faults.md#a)", "[faults](../faults.md#a)"),
        ("[here](#a)", "[here](#a)"),
        ("[doi](https://doi.org/x)", "[doi](https://doi.org/x)"),
        ("[the licence](../../LICENSE)", "`LICENSE`"),
        ("[home](../../README.md)", "[home](../index.md)"),
        ("![p](../images/cell.png)", "![p](../images/cell.png)"),
        ("```text\n[a](../../LICENSE)\n```", "```text\n[a](../../LICENSE)\n```"),
    ):
        assert linked(told, f"docs/{own}", own) == meant
    assert linked("[limits](../docs/limits.md)", "slurm/scale.md", "slurm/scale.md") == "[limits](../limits.md)"
