"""Fixtures of the benchmarks' tests."""

import pytest

from tests.support.official_files import OfficialFiles, write_files


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> OfficialFiles:
    """Official forms with invented numbers, written once per session; not to be written to."""
    return write_files(tmp_path_factory.mktemp("official"))
