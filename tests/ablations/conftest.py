"""Stores for tests of the mirror."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def uri(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    # The artifact store of a new SQLite store lies beside the process.
    (tmp_path / "store").mkdir()
    monkeypatch.chdir(tmp_path / "store")
    for name in ("mlflow.db", "eager.db"):
        shutil.copy(empty_store, tmp_path / "store" / name)
    return f"sqlite:///{tmp_path}/store/mlflow.db"
