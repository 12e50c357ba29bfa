"""A folder as it lies on disk, to be compared with itself later."""

from pathlib import Path


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
