"""The site in a real headless Chromium, on a desktop and on a phone, light and dark: no errors, nothing fetched from
elsewhere, no sideways scrolling, and axe-core's audit of accessibility."""

import threading
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.site.pages import navigation
from tests.support.browser import PATIENCE_MS, audited, opened

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("site")]
WIDTHS = (1280, 390)
#: One page of each kind: prose, pictures, long tables, many options, docstrings, code, definitions.
SAMPLE = (
    "index.md", "start/report.md", "howto/cookbook.md", "reference/settings.md", "reference/methods.md",
    "reference/api.md", "explanation/statistics.md", "reference/glossary.md",
)  # fmt: skip
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


def look(browser: Any, url: str, axe: str, width: int, scheme: str) -> dict[str, Any]:
    """Open a page and return what there is to hold against it; an empty answer is a good one."""
    with opened(browser, url, width, scheme) as (page, errors, asked):
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        wanted = page.evaluate("getComputedStyle(document.body).getPropertyValue('color-scheme')")
        audit = audited(page, axe)
    home = url[: url.index("/", len("http://"))]
    found = {
        "errors": errors,
        "elsewhere": [one for one in asked if not one.startswith((home, "data:", "blob:"))],
        "overflow": over,
        "scheme": "" if wanted in ("", scheme) else wanted,
        "audit": audit,
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
