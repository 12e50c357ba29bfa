"""The extras of an installation, from `pyproject.toml`."""

import re
import tomllib
from pathlib import Path

from docs.hooks.markdown import code, escaped, table

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
#: Extras for those who work on the project.
_OURS = ("docs", "dev")


def extras() -> str:
    """Every extra, what it is for, and the packages that it brings."""
    text = PROJECT.read_text(encoding="utf-8")
    told = dict(re.findall(r"^(\w+) = \[.*?\]?  # (.*)$", text, re.MULTILINE))
    found = tomllib.loads(text)["project"]["optional-dependencies"]
    rows = [
        [code(name), escaped(told.get(name, "")), ", ".join(code(re.split(r"[<>=\[;]", one)[0]) for one in wanted)]
        for name, wanted in found.items()
        if name not in _OURS and not any(one.startswith("cscdarts[") for one in wanted)
    ]
    return table(["extra", "for", "brings"], rows)
