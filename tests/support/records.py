"""Reading what a run has written, in tests."""

from pathlib import Path
from typing import Any

from cscdarts.records.run_folder import RunFolder, read_json, read_lines


def written(file: Path) -> dict[str, Any]:
    """The JSON object of a file that has to be there."""
    found = read_json(file)
    assert found is not None, f"{file.name} was not written"
    return dict(found)


def epoch_lines(path: Path) -> int:
    """How many lines of metrics a run has written, wherever they lie."""
    return sum(len(list(read_lines(file))) for file in RunFolder(path).metrics_files().values())


def snapshot(folder: Path, times: bool = True) -> dict[str, tuple[bytes, int]]:
    """Path -> (content, modification time in ns) of everything below a folder; folders have no content.

    Args:
        times: whether to look at times at all; 0 otherwise.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        content = b"" if path.is_dir() or path.is_symlink() else path.read_bytes()
        found[str(path)] = content, stat.st_mtime_ns if times and not path.is_dir() else 0
    return found
