"""The public Python interface: what `cscdarts` names, room by room; mkdocstrings reads the docstrings."""

import cscdarts

#: Room of the engine -> its heading.
_ROOMS = {
    "settings": "Settings",
    "spaces": "Spaces and genotypes",
    "models": "Models and their cost",
    "training": "Search and retraining",
    "records": "Records",
    "export": "Exports",
    "errors": "Errors",
}


def names() -> dict[str, str]:
    """Public name -> the module that it lives in."""
    return {name: getattr(cscdarts, name).__module__ for name in cscdarts.__all__ if name != "__version__"}


def interface() -> str:
    """A heading for each room, and a line for mkdocstrings for each name."""
    homes = names()
    parts = []
    for room, title in _ROOMS.items():
        own = sorted(name for name, home in homes.items() if home.split(".")[1] == room)
        parts += [f"## {title}", *(f"::: {homes[name]}.{name}" for name in own)]
    left = {home.split(".")[1] for home in homes.values()} - _ROOMS.keys()
    assert not left, f"rooms without a heading: {left}"
    return "\n\n".join(parts)
