"""The page in a real headless Chromium: no errors, no sideways scrolling, sorting, filtering, links, accessibility
audit.

The page under test is the written file with two scripts put around its content: one that collects errors from the
start, one that drives the page and sends what it saw to a frame around it, which Chromium's `--dump-dom` then prints.
The frame is there because Chromium makes no window as narrow as a phone.
"""

import html
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reports.build import Report
from tests.support.report_store import tiny

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("report")]

WATCH = """<script>
const seen = {errors: []};
for (const kind of ["error", "warn"]) {
  const plain = console[kind];
  console[kind] = (...what) => { seen.errors.push(what.join(" ")); plain(...what); };
}
addEventListener("error", (event) => seen.errors.push(event.message || String(event.target && event.target.src)), true);
addEventListener("unhandledrejection", (event) => seen.errors.push(String(event.reason)));
</script>"""

DRIVE = """<script>
(async () => {
  const root = document.documentElement;
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
  const target = (link) => document.getElementById(link.getAttribute("href").slice(1));
  seen.dead = [...document.querySelectorAll('a[href^="#"]')].filter((link) => !target(link)).length;
  seen.regions = [...document.querySelectorAll(".scroll, figure.wide .plot")].every((box) => box.tabIndex === 0);
  const drawings = [...document.querySelectorAll("svg[role=img]")];
  seen.unnamed = drawings.filter((svg) => !svg.getAttribute("aria-label")).length;
  seen.small = [...document.querySelectorAll("svg.line text, svg.cell text")].length;
  // What an image with a text alternative is drawn of is no part of the page to a reader; it is most of the nodes.
  drawings.forEach((svg) => svg.replaceChildren());
  const audit = await axe.run(document, {resultTypes: ["violations"]});
  const shown = (violation) => violation.nodes.slice(0, 3).map((node) => node.html.slice(0, 200));
  seen.audit = audit.violations.map((v) => ({id: v.id, impact: v.impact, nodes: shown(v)}));
  parent.postMessage(JSON.stringify(seen), "*");
})();
</script>"""


FRAME = """<!doctype html><title>frame</title><style>body {{ margin: 0 }} iframe {{ border: 0; display: block }}</style>
<script>addEventListener("message", (event) => {{
  const out = document.createElement("pre");
  out.id = "seen";
  out.textContent = event.data;
  document.body.append(out);
}});</script><iframe src="{name}" width="{width}" height="860"></iframe>"""


@pytest.fixture(scope="session")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path:
            return path
    pytest.skip("no Chromium here (apt-get install chromium)")


@pytest.fixture(scope="session")
def axe() -> str:
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or not found.origin:
        pytest.skip("axe-core is not here (pip install axe-playwright-python)")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def browse(chromium: str, axe: str, page: Path, folder: Path, width: int, *flags: str) -> dict[str, Any]:
    """Open a page at a width and return what the driving script saw."""
    text = page.read_text(encoding="utf-8")
    text = text.replace("<head>", "<head>" + WATCH, 1)
    text = text.replace("</body>", f"<script>{axe}</script>{DRIVE}</body>")
    copy = page.with_name(f"driven-{width}.html")
    copy.write_text(text, encoding="utf-8")
    frame = page.with_name(f"frame-{width}.html")
    frame.write_text(FRAME.format(name=copy.name, width=width), encoding="utf-8")
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=1400,900",
        "--hide-scrollbars",
        "--virtual-time-budget=30000",
        *flags,
        "--dump-dom",
        frame.as_uri(),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    finally:
        copy.unlink()
        frame.unlink()
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, f"the page did not finish: {done.returncode} {done.stderr[-2000:]}"
    seen: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return seen


def _grave(seen: dict[str, Any]) -> list[dict[str, Any]]:
    return [finding for finding in seen["audit"] if finding["impact"] in ("serious", "critical")]


@pytest.fixture(scope="module")
def pages(quick_report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the report, so that the driven pages stand beside their files and the report itself stays as it was."""
    folder = tmp_path_factory.mktemp("pages") / "report"
    shutil.copytree(quick_report.folder, folder)
    return folder


@pytest.mark.parametrize("width", [1280, 390])
def test_page_works(chromium: str, axe: str, pages: Path, tmp_path: Path, width: int) -> None:
    seen = browse(chromium, axe, pages / "index.html", tmp_path, width)
    assert seen["errors"] == []
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
    assert _grave(seen) == []


def test_page_in_the_dark(chromium: str, axe: str, pages: Path, tmp_path: Path) -> None:
    seen = browse(chromium, axe, pages / "index.html", tmp_path, 1280, "--blink-settings=preferredColorScheme=0")
    assert seen["dark"]
    assert seen["background"] == "rgb(19, 19, 22)"
    assert seen["errors"] == []
    assert _grave(seen) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_run_page_works(chromium: str, axe: str, pages: Path, tmp_path: Path, width: int) -> None:
    seen = browse(chromium, axe, pages / "runs" / f"{tiny(1).hash}.html", tmp_path, width)
    assert seen["errors"] == []
    assert seen["overflow"] == 0
    assert seen["small"] > 10
    assert seen["unnamed"] == 0
    assert _grave(seen) == []
