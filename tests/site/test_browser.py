"""The site in a real headless Chromium, on a desktop and on a phone, light and dark: no errors, nothing fetched from
elsewhere, no sideways scrolling, and axe-core's audit of accessibility."""

import importlib.util
import shutil
import threading
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.site.pages import navigation

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("site")]
WIDTHS = (1280, 390)
#: One page of each kind: prose, pictures, long tables, many options, docstrings, code, definitions.
SAMPLE = (
    "index.md", "start/report.md", "howto/cookbook.md", "reference/settings.md", "reference/methods.md",
    "reference/api.md", "explanation/statistics.md", "reference/glossary.md",
)  # fmt: skip
PATIENCE_MS = 240_000
#: How often a query is typed before its page is given up.
TYPED = 24


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site, served as it would be on the web."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def axe() -> str:
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or not found.origin:
        pytest.skip("axe-core is not here (pip install axe-playwright-python)")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


def look(browser: Any, url: str, axe: str, width: int, scheme: str) -> dict[str, Any]:
    """Open a page and return what there is to hold against it; an empty answer is a good one."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    wanted = page.evaluate("getComputedStyle(document.body).getPropertyValue('color-scheme')")
    page.evaluate(axe)
    audit = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    context.close()
    home = url[: url.index("/", len("http://"))]
    found = {
        "errors": errors,
        "elsewhere": [one for one in asked if not one.startswith((home, "data:", "blob:"))],
        "overflow": over,
        "scheme": "" if wanted in ("", scheme) else wanted,
        "audit": [
            (one["id"], one["impact"], [node["html"][:160] for node in one["nodes"][:3]]) for one in audit["violations"]
        ],
    }
    return {name: value for name, value in found.items() if value}


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
@pytest.mark.parametrize("page", SAMPLE)
def test_a_page_in_the_browser(browser: Any, address: str, axe: str, page: str, width: int, scheme: str) -> None:
    assert look(browser, f"{address}/{page.removesuffix('.md')}.html", axe, width, scheme) == {}


@pytest.mark.whole
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_all_pages_in_the_browser(browser: Any, address: str, axe: str, width: int, scheme: str) -> None:
    pages = [f"{page.removesuffix('README.md').removesuffix('.md') or page}" for page in navigation()]
    urls = {page: f"{address}/{page}{'index' if page.endswith('/') else ''}.html" for page in pages}
    seen = {page: look(browser, url, axe, width, scheme) for page, url in urls.items()}
    assert {page: found for page, found in seen.items() if found} == {}


def test_the_search_finds_a_page(browser: Any, address: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 844})
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{address}/index.html")
    # A query that comes before the page's worker has read its index gets no answer, as on a busy machine: then it is
    # typed again, by keys, since the page listens to keys and not to a changed value.
    query = page.locator("input[name=query]")
    for attempt in range(TYPED):
        query.clear()
        query.press_sequentially("out of memory")
        with suppress(Exception) if attempt < TYPED - 1 else nullcontext():
            page.wait_for_selector(".md-search-result__link", timeout=PATIENCE_MS / TYPED)
            break
    assert "howto/cookbook.html" in " ".join(
        link.get_attribute("href") for link in page.query_selector_all(".md-search-result__link")
    )
    page.close()
