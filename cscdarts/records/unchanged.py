"""What was made of a file, kept until the file changes: a status that is asked every second must not parse again what
stayed as it is. No torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


class Unchanged(Generic[T]):
    """Gives what `make` makes of a file, and makes it again once the file's size, time or inode is another.

    Args:
        make: called with the path; what it raises is raised and not kept.
    """

    def __init__(self, make: Callable[[Path], T]) -> None:
        self._make = make
        self._kept: dict[Path, tuple[tuple[int, int, int], T]] = {}

    def __call__(self, path: Path) -> T | None:
        """What the file gives; None where there is no file."""
        try:
            stat = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # a loop of links, a folder that may not be entered: `make` says so in its own words
            return self._make(path)
        stamp = stat.st_size, stat.st_mtime_ns, stat.st_ino
        kept = self._kept.get(path)
        if kept is None or kept[0] != stamp:
            kept = self._kept[path] = (stamp, self._make(path))
        return kept[1]
