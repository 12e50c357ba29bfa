"""A run's files as a tracker keeps them: where they lie, and whether they may be read.

A store can come from anybody: what it says of places and names is held against what the mirror writes before a file is
opened or a name becomes a path.
"""

import contextlib
import re
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

from cscdarts.records.run_folder import RunFolder
from reports.read.tracking import quiet_client, shown, sqlite_path

_MIB = 2**20
#: The files that the mirror writes, and the most bytes that one may have.
SIZES = {
    **dict.fromkeys(("config.json", "environment.json", "genotype.json"), _MIB),
    **dict.fromkeys(("search.json", "result.json"), 8 * _MIB),
    **dict.fromkeys(("check.json", "grid.json"), 64 * _MIB),
    **dict.fromkeys(("metrics.jsonl", "search-metrics.jsonl", "retrain-metrics.jsonl", "alphas.jsonl"), 256 * _MIB),
    "log.txt": 4096 * _MIB,  # only its end is read
}
#: A file that would send the reader on to other folders; the mirror writes none.
_POINTER = "keys.json"
#: A tracker that has failed after this many seconds is not asked for the files of further runs.
PATIENCE_S = 10.0
_PLAIN = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,127}")


class RunFiles:
    """The files of a store's runs, each looked for once.

    Args:
        uri: the tracking URI.

    Attributes:
        unread: run id -> why the files of a run that was asked for are not there.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.unread: dict[str, str] = {}
        self._folders: dict[str, RunFolder | None] = {}
        self._downloads: Any = None
        self._away = ""

    def folder(self, run_id: str, artifact_uri: str) -> RunFolder | None:
        """A run's files as a run folder: in place when local, downloaded when not, None when there are none."""
        if run_id not in self._folders:
            found = self._locate(run_id, artifact_uri)
            if isinstance(found, str):
                self.unread[run_id] = found
            self._folders[run_id] = None if isinstance(found, str) else RunFolder(found)
        return self._folders[run_id]

    def _locate(self, run_id: str, artifact_uri: str) -> Path | str:
        """The folder, or why there is none."""
        local = local_place(artifact_uri, run_id, self.uri)
        if local is None:
            return self._away or self._download(run_id)
        if not local.is_dir():
            # The folder of all runs: the same words for each of them.
            return f"not found at {local.parent.parent if local.name == 'artifacts' else local}"
        if not is_run_place(local, run_id):
            return f"not read, because {local} is no place of a run in MLflow"
        why = why_not_read(local)
        return f"not read, because {local} is not as the mirror leaves it ({why})" if why else local

    def _download(self, run_id: str) -> Path | str:
        quiet_client()
        from mlflow import MlflowClient

        if self._downloads is None:
            self._downloads = tempfile.TemporaryDirectory(prefix="cscdarts-report-")
        target = Path(self._downloads.name) / run_id
        target.mkdir()
        client = MlflowClient(self.uri)
        began = time.monotonic()
        try:
            listed = [item for item in client.list_artifacts(run_id) if not item.is_dir]
            for name in wanted((item.path, int(item.file_size or 0)) for item in listed):
                with file_size_limit(SIZES[name]):
                    client.download_artifacts(run_id, name, str(target))
        except Exception as error:  # MLflow's, or of the library behind the place that it asks
            why = f"not to be had from {shown(self.uri)} ({type(error).__name__})"
            # One that does not answer is not asked again for each of the other runs.
            self._away = why if time.monotonic() - began > PATIENCE_S else ""
            return why
        return target if listed else f"not found in {shown(self.uri)}"


def is_plain(name: str) -> bool:
    """Whether a name from a store may become a file's or a folder's: letters, digits, `_` and `-`, so no way up."""
    return _PLAIN.fullmatch(name) is not None


def local_path(artifact_uri: str, store_uri: str = "") -> Path | None:
    """The folder behind a local artifact URI, None for a remote one; relative ones count from the store's folder."""
    parsed = urlparse(artifact_uri)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path)) if parsed.netloc in ("", "localhost") else None
    if parsed.scheme:
        return None
    path, store = Path(artifact_uri), sqlite_path(store_uri)
    if "%" in artifact_uri and not path.is_dir():
        path = Path(unquote(artifact_uri))  # so MLflow reads a plain path
    return store.parent / path if store is not None and not path.is_absolute() else path


def local_place(artifact_uri: str, run_id: str, store_uri: str) -> Path | None:
    """Where a run's files are on this machine, or would be; None where the tracker keeps them elsewhere.

    Beside the database first: a project that was moved or copied keeps the places it had in its store.
    """
    stated = local_path(artifact_uri, store_uri)
    if stated is None:
        return None
    store, parts = sqlite_path(store_uri), stated.parts
    if store is not None and "mlruns" in parts:
        last = len(parts) - 1 - parts[::-1].index("mlruns")
        beside = store.absolute().parent.joinpath(*parts[last:])
        if beside.is_dir() and ".." not in parts[last:] and is_run_place(beside, run_id):
            return beside
    return stated


def is_run_place(path: Path, run_id: str) -> bool:
    """Whether a folder is where MLflow puts a run's files: `.../RUN_ID/artifacts`."""
    return is_plain(run_id) and path.parts[-2:] == (run_id, "artifacts")


def why_not_read(folder: Path) -> str:
    """Why a folder of a run's files is not read; "" where nothing speaks against it.

    Links, pipes and devices, files beyond their size, and a list of keys (it would send the reader to other folders)
    are never the mirror's.
    """
    if folder.is_symlink() or folder.parent.is_symlink():
        return "it is a link"
    if (folder / _POINTER).exists() or (folder / _POINTER).is_symlink():
        return f"it holds {_POINTER}"
    for name, most in SIZES.items():
        try:
            found = (folder / name).lstat()
        except OSError:
            continue
        if not stat.S_ISREG(found.st_mode):
            return f"its {name} is no plain file"
        if found.st_size > most:
            return f"its {name} has {found.st_size:,} bytes, more than {most:,}"
    return ""


def wanted(listed: Iterable[tuple[str, int]]) -> list[str]:
    """Of a tracker's list of a run's files (path, bytes) those that are the mirror's and not beyond their size."""
    return [path for path, size in listed if path == PurePosixPath(path).name and 0 <= size <= SIZES.get(path, -1)]


@contextlib.contextmanager
def file_size_limit(most: int) -> Iterator[None]:
    """No file that this process writes in the block may grow beyond `most` bytes, whatever its sender announced.

    Errors:
        OSError: one would.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
