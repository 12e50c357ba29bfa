"""Grid files for tests of the harness."""

from pathlib import Path

GRID = '''"""A grid for tests."""
from cscdarts.settings.overrides import with_values
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.protocols import protocol

NOTES = {notes!r}


def grid(scale):
    base = apply_preset(protocol("quickstart", "smoke"), "csc")
    for seed, note in enumerate(NOTES):
        yield with_values(base, {{"seed": seed, "labels.note": note, **{values!r}}})
'''


def write_grid(path: Path, notes: list[str], **values: object) -> str:
    """Write a grid of one smoke run for each note (see `engine`); returns the path as text."""
    path.write_text(GRID.format(notes=notes, values={key.replace("__", "."): value for key, value in values.items()}))
    return str(path)
