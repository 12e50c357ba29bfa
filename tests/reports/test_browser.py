"""The page in a real headless Chromium: no errors, no sideways scrolling, sorting, filtering, links, accessibility
audit.

One script drives the page as a reader would and returns what it saw.
"""

import html
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reports.build import Report
from reports.compare import write_diff
from reports.diff.sides import Side, side
from tests.support.browser import audited, opened
from tests.support.report_store import tiny

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("report")]

DRIVE = """async () => {
  const seen = {}, root = document.documentElement;
  const until = async (holds) => {  // or a minute, after which what is seen is seen
    for (let round = 0; round < 1200 && !holds(); round++) await new Promise((resolve) => setTimeout(resolve, 50));
  };
  seen.width = innerWidth;
  seen.overflow = root.scrollWidth - root.clientWidth;
  seen.dark = matchMedia("(prefers-color-scheme: dark)").matches;
  seen.background = getComputedStyle(document.body).backgroundColor;
  const table = document.querySelector("#t3_ablation-t");
  if (table) {
    const heads = [...table.tHead.rows[0].cells];
    const column = heads.findIndex((head) => head.textContent.includes("ours: test error"));
    const own = (body) => [...body.rows].filter((row) => !row.classList.contains("block"));
    const values = () => [...table.tBodies].map((body) => own(body).map((row) => row.cells[column].dataset.v));
    const button = heads[column].querySelector("button");
    button.focus();
    seen.focused = document.activeElement === button;
    button.click();
    seen.ascending = {values: values(), aria: heads[column].getAttribute("aria-sort")};
    button.click();
    seen.descending = {values: values(), aria: heads[column].getAttribute("aria-sort")};
    const input = document.querySelector("#t3_ablation-f");
    input.value = "pc-darts";
    input.dispatchEvent(new Event("input"));
    const kept = [...table.querySelectorAll("tbody tr:not(.block)")].filter((row) => !row.hidden);
    seen.filtered = kept.map((row) => row.cells[0].textContent);
    seen.count = document.querySelector(".filter output").textContent;
    input.value = "";
    input.dispatchEvent(new Event("input"));
    const link = table.querySelector("td a");
    link.click();
    seen.hash = location.hash;
    seen.target = Boolean(document.querySelector(":target"));
  }
  const menu = document.querySelector("nav.toc details");
  if (menu) {
    const summary = menu.querySelector("summary"), box = menu.querySelector("ul");
    const shown = (node) => node.checkVisibility({contentVisibilityAuto: true, visibilityProperty: true});
    const links = [...menu.querySelectorAll("a")];
    seen.menu = {closed: shown(box), sections: links.map((link) => link.hash.slice(1))};
    seen.menu.bar = getComputedStyle(menu.parentElement).position;
    if (shown(summary)) {
      summary.click();
      await until(() => menu.open && shown(box));
      seen.menu.open = menu.open && shown(box);
      seen.menu.reach = summary.offsetHeight;
      links[2].click();
      await until(() => !menu.open);
      seen.menu.after = menu.open;
      const marked = () => links.filter((link) => link.getAttribute("aria-current"));
      let last = -1, still = 0;  // the page glides there: it has arrived once it stands still
      await until(() => {
        still = scrollY === last && marked().includes(links[2]) ? still + 1 : 0;
        last = scrollY;
        return still > 5;
      });
      seen.menu.top = Math.round(menu.getBoundingClientRect().top);
      seen.menu.here = summary.textContent;
      seen.menu.current = marked().map((link) => link.textContent);
      summary.click();
      await until(() => menu.open);
      menu.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape", bubbles: true}));
      await until(() => !menu.open);
      seen.menu.escaped = !menu.open && document.activeElement === summary;
      const line = summary.getBoundingClientRect().bottom;
      seen.menu.covered = document.getElementById(links[2].hash.slice(1) + "-h").getBoundingClientRect().top < line;
    }
  }
  const boxes = [...document.querySelectorAll(".frame > .scroll")];
  const hinted = boxes.filter((box) => box.scrollWidth > box.clientWidth + 2);
  const hint = (box) => box.parentElement.previousElementSibling;
  seen.wide = hinted.length;
  seen.unhinted = hinted.filter((box) => !hint(box) || hint(box).hidden || !hint(box).checkVisibility()).length;
  seen.loose = hinted.filter((box) => {
    const cell = box.querySelector("tbody tr:not(.block) > :first-child");
    box.scrollLeft = 200;
    return cell && cell.getBoundingClientRect().left < box.getBoundingClientRect().left - 1;
  }).length;
  const target = (link) => document.getElementById(link.getAttribute("href").slice(1));
  seen.dead = [...document.querySelectorAll('a[href^="#"]')].filter((link) => !target(link)).length;
  seen.regions = [...document.querySelectorAll(".scroll, figure.wide .plot")].every((box) => box.tabIndex === 0);
  const drawings = [...document.querySelectorAll("svg[role=img]")];
  seen.unnamed = drawings.filter((svg) => !svg.getAttribute("aria-label")).length;
  seen.small = [...document.querySelectorAll("svg.line text, svg.cell text")].length;
  // What an image with a text alternative is drawn of is no part of the page to a reader; it is most of the nodes.
  drawings.forEach((svg) => svg.replaceChildren());
  return seen;
}"""


def browse(browser: Any, axe: str, page: Path, width: int, scheme: str = "light") -> dict[str, Any]:
    """Open a page at a width and return what the driving script, the console and the audit saw."""
    with opened(browser, page.as_uri(), width, scheme) as (shown, errors, asked):
        seen: dict[str, Any] = shown.evaluate(DRIVE)
        seen["audit"] = audited(shown, axe)
    return {**seen, "errors": errors, "elsewhere": [url for url in asked if not url.startswith(("file:", "data:"))]}


@pytest.fixture(scope="module")
def pages(quick_report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the report, so that the driven pages stand beside their files and the report itself stays as it was."""
    folder = tmp_path_factory.mktemp("pages") / "report"
    shutil.copytree(quick_report.folder, folder)
    return folder


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_page_works(browser: Any, axe: str, pages: Path, width: int) -> None:
    seen = browse(browser, axe, pages / "index.html", width)
    assert (seen["errors"], seen["elsewhere"]) == ([], [])
    assert seen["width"] == width
    assert seen["overflow"] == 0, f"{seen['overflow']} px of sideways scrolling at {width} px"
    assert seen["focused"]
    for name, down in (("ascending", False), ("descending", True)):
        assert seen[name]["aria"] == name
        for values in seen[name]["values"]:
            numbers = [float(value) for value in values]
            assert len(numbers) > 3
            assert numbers == sorted(numbers, reverse=down)
    assert seen["filtered"] == ["PC-DARTS"]
    assert seen["count"] == "1 of 16 rows"
    assert seen["hash"].startswith("#s-")
    assert seen["target"]
    assert seen["dead"] == 0
    assert seen["regions"]
    assert seen["unnamed"] == 0
    assert seen["wide"] > 3
    assert (seen["unhinted"], seen["loose"]) == (0, 0)
    assert seen["audit"] == []
    menu = seen["menu"]
    assert menu["bar"] == "sticky"
    assert menu["sections"][:4] == ["summary", "t0_claims", "t3_ablation", "t3b_variance"]
    if width == 1280:  # all sections stand in the bar
        assert menu["closed"]
    else:
        assert not menu["closed"]
        assert menu["open"]
        assert not menu["after"]
        assert menu["escaped"]
        assert menu["reach"] >= 44  # a finger's breadth
        assert menu["top"] == 0
        assert not menu["covered"]
        assert "T3 Ablation" in menu["here"]
        assert len(menu["current"]) == 1
        assert menu["current"][0].startswith("T3 Ablation")


def test_page_in_the_dark(browser: Any, axe: str, pages: Path) -> None:
    seen = browse(browser, axe, pages / "index.html", 1280, "dark")
    assert seen["dark"]
    assert seen["background"] == "rgb(19, 19, 22)"
    assert (seen["errors"], seen["elsewhere"]) == ([], [])
    assert seen["audit"] == []


@pytest.mark.parametrize("width", [1280, 390])
def test_run_page_works(browser: Any, axe: str, pages: Path, width: int) -> None:
    seen = browse(browser, axe, pages / "runs" / f"{tiny(1).hash}.html", width)
    assert (seen["errors"], seen["elsewhere"]) == ([], [])
    assert seen["overflow"] == 0
    assert seen["small"] > 10
    assert seen["unnamed"] == 0
    assert seen["audit"] == []


def test_the_contents_open_without_javascript(pages: Path) -> None:
    """A `details` element opens by itself; without scripts no section is hidden and nothing is left to them."""
    page = (pages / "index.html").read_text(encoding="utf-8")
    (nav,) = re.findall(r'<nav class="toc".*?</nav>', page, re.DOTALL)
    assert nav.count("<details>") == 1
    assert "<summary>Contents" in nav
    assert set(re.findall(r'href="#([^"]+)"', nav)) == set(re.findall(r'<section id="([^"]+)"', page))


@pytest.mark.parametrize("width", [1280, 390])
def test_reports_side_by_side_work(browser: Any, axe: str, pages: Path, tmp_path: Path, width: int) -> None:
    one = side(str(pages), ())
    moved = {
        anchor: {
            **entry,
            "runs": [{**run, "values": {k: v + 5 for k, v in run["values"].items()}} for run in entry["runs"]],
        }
        for anchor, entry in one.settings.items()
    }
    page = write_diff([one, one, Side("another", moved)], tmp_path / "diff")
    seen = browse(browser, axe, page, width)
    assert (seen["errors"], seen["elsewhere"]) == ([], [])
    assert seen["overflow"] == 0
    assert (seen["unhinted"], seen["loose"], seen["dead"]) == (0, 0, 0)
    assert seen["audit"] == []


def test_print_shows_every_table_whole(browser: Any, pages: Path, tmp_path: Path) -> None:
    """On paper nothing is cut: each table's title and the last word of each of its rows is there, within the page."""
    pdftotext = shutil.which("pdftotext")
    if pdftotext is None:
        pytest.skip("no pdftotext here (apt-get install poppler-utils)")
    paper = tmp_path / "page.pdf"
    with opened(browser, (pages / "index.html").as_uri(), 1280) as (page, _, _):
        page.pdf(path=paper, prefer_css_page_size=True)
    boxes = subprocess.run([pdftotext, "-bbox", str(paper), "-"], capture_output=True, text=True, check=True).stdout
    sheets = re.findall(r'<page width="([\d.]+)" height="([\d.]+)">(.*?)</page>', boxes, re.DOTALL)
    assert 8 < len(sheets) < 40
    words: list[str] = []
    for width, height, text in sheets:
        assert float(width) > float(height)
        for low, top, high, bottom, word in re.findall(
            r'xMin="([-\d.]+)" yMin="([-\d.]+)" xMax="([-\d.]+)" yMax="([-\d.]+)">(.*?)<', text
        ):
            assert 20 < float(low) < float(high) < float(width) - 20, word
            assert 10 < float(top) < float(bottom) < float(height) - 10, word
            words.append(html.unescape(word))
    printed = "".join(words)
    text = (pages / "index.html").read_text(encoding="utf-8")
    for title in re.findall(r'<h2 id="[^"]+-h">(.*?)</h2>', text):
        assert "".join(html.unescape(title).split()) in printed, title
    assert "Contents" not in words
    assert "Filter" not in words
    # MLflow's run ids stand in the last column of the widest table, and on no screen without scrolling.
    ids = re.findall(r'data-v="([0-9a-f]{32})"', text)
    assert ids
    assert [name for name in ids if name not in printed] == []
