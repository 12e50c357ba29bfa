"""Calling `cscdarts runs migrate` in tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablations.cli import main

Migrate = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def migrate(capsys: pytest.CaptureFixture[str]) -> Migrate:
    def call(runs: Path, *words: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["runs", "migrate", "--runs", str(runs), "--json", *words])
        return int(ended.value.code or 0), json.loads(capsys.readouterr().out)

    return call
