"""Fixtures of the benchmarks' tests."""

from pathlib import Path

import pytest

from benchmarks.tabular.index import write_index
from benchmarks.tabular.table import BenchmarkTable
from tests.support.official_files import OfficialFiles, write_files


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> OfficialFiles:
    """Official forms with invented numbers, written once per session; not to be written to."""
    return write_files(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def index(table: BenchmarkTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index file of the table that the test module names."""
    path = tmp_path_factory.mktemp("index") / "nasbench201.parquet"
    write_index(table, path)
    return path
