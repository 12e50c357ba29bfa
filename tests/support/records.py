"""Reading what a run has written, in tests."""

from pathlib import Path
from typing import Any

from cscdarts.records.run_folder import read_json


def written(file: Path) -> dict[str, Any]:
    """The JSON object of a file that has to be there."""
    found = read_json(file)
    assert found is not None, f"{file.name} was not written"
    return dict(found)
