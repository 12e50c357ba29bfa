"""A real headless Chromium and axe-core's audit of accessibility, for the tests of all pages: the report's and the
site's."""

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: Time for what a loaded machine does slowly; nothing waits for it without need.
PATIENCE_MS = 240_000
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage")


@pytest.fixture(scope="session")
def axe() -> str:
    """The audit as a script."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or not found.origin:
        pytest.skip("axe-core is not here (pip install axe-playwright-python)")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Ended with its module: as long as it lasts, an event loop is taken to run in this thread."""
    path = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, url: str, width: int, scheme: str = "light") -> Iterator[tuple[Any, list[str], list[str]]]:
    """A page at a width in px: the page, its errors and warnings, and the addresses that it asked for, as they come."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    yield page, errors, asked
    context.close()


def audited(page: Any, axe: str) -> list[tuple[str, str, list[str]]]:
    """What the audit finds, of any grade: rule, impact and the first places."""
    page.evaluate(axe)
    audit = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        (one["id"], one["impact"], [node["html"][:200] for node in one["nodes"][:3]]) for one in audit["violations"]
    ]
