"""A run folder's JSON files for those who write a row from them: each is read once, whoever asks."""

import contextlib
from typing import Any

from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder, read_record


class Records:
    """The JSON files of a run folder by name; one that is missing or cannot be read is empty."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._read: dict[str, dict[str, Any]] = {}

    def __getitem__(self, name: str) -> dict[str, Any]:
        if name not in self._read:
            found: dict[str, Any] = {}
            with contextlib.suppress(UserError):
                found = read_record(self.folder.file(name)) or {}
            self._read[name] = found
        return self._read[name]

    def values(self, name: str) -> dict[str, Any]:
        """The numbers of the whole run in one of its files: of `check.json` its own entries, of others `values`."""
        return self[name] if name == "check.json" else as_dict(self[name].get("values"))


def as_dict(value: Any) -> dict[str, Any]:
    """A value that is a dictionary, or an empty one."""
    return value if isinstance(value, dict) else {}
