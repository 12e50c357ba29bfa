"""Stores and the report of one of them, made once for all tests that only read them."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import axe, browser
from tests.support.report_store import SyntheticStore, quickstart_like

__all__ = ["axe", "browser"]

if TYPE_CHECKING:
    from reports.build import Report


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> SyntheticStore:
    """An empty store of the test's own."""
    return SyntheticStore(tmp_path, empty_store)


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> SyntheticStore:
    """A store like that of the quickstart, made once per session; not to be written to."""
    made = SyntheticStore(tmp_path_factory.mktemp("quick"), empty_store)
    quickstart_like(made)
    made.finish()
    return made


@pytest.fixture(scope="session")
def quick_report(tmp_path_factory: pytest.TempPathFactory, quick: SyntheticStore) -> "Report":
    """The whole report of `quick`, made once per session; not to be written to."""
    from reports.build import build_report

    return build_report(["quickstart"], tmp_path_factory.mktemp("report") / "quick", uri=quick.uri)
