"""Room for what runs write: folders, free bytes, free inodes, kinds of file systems. Nothing is written."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ablations.doctor.finding import Finding, bad, good, weak
from ablations.doctor.question import Question
from reports.read.tracking import sqlite_path, tracking_uri

GIB = 2**30
#: Bytes and inodes: below the first nothing can be run, below the second only little.
LEAST_FREE, LITTLE_FREE = GIB // 4, 4 * GIB
LEAST_INODES, FEW_INODES = 200, 10_000
#: File systems that several hosts share.
SHARED = ("nfs", "lustre", "beegfs", "gpfs", "ceph", "fuse.glusterfs", "panfs", "orangefs", "smb", "cifs", "9p", "afs",
          "wekafs")  # fmt: skip
#: File systems that end with the machine or the container.
PASSING = ("tmpfs", "ramfs", "overlay")


@dataclass(frozen=True)
class Room:
    """What is known of the file system of a place.

    Attributes:
        free: bytes that we may still use; inodes: files that can still be made, None where it does not count them.
        kind: of the file system, as mounted; "" where that is not known.
        writable: whether something can be made there, as far as rights tell.
    """

    free: int
    inodes: int | None
    kind: str
    writable: bool


def room(path: Path) -> Room:
    """The room at a path; where nothing is there yet, at the nearest folder above it.

    Errors:
        OSError: it cannot be looked at.
    """
    place = path.absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    folder = place if place.is_dir() else place.parent
    found = os.statvfs(folder)
    inodes = found.f_favail if found.f_files > 0 else None
    writable = os.access(folder, os.W_OK | os.X_OK) and not found.f_flag & os.ST_RDONLY
    return Room(found.f_bavail * found.f_frsize, inodes, kind_of(folder), writable)


def kind_of(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The kind of the file system that a path lies on, by the table of mounts; "" where it is not to be had."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    real, best, kind = os.path.realpath(path), "", ""
    for line in lines:
        words = line.split(" ")
        if len(words) < 3:
            continue
        place = words[1].replace("\\040", " ")
        if (real == place or real.startswith(place.rstrip("/") + "/")) and len(place) >= len(best):
            best, kind = place, words[2]
    return kind


def _told(subject: str, path: Path, need: str, way: str) -> Iterator[Finding]:
    try:
        found = room(path)
    except OSError as error:
        yield bad(subject, f"{path} cannot be looked at: {error.strerror}.", way)
        return
    inodes = "" if found.inodes is None else f", {found.inodes:,} inodes"
    told = f"{found.free / GIB:.1f} GiB{inodes} are free at {path}{f' ({found.kind})' if found.kind else ''}"
    if not found.writable:
        yield bad(subject, f"{path} cannot be written{need}.", way)
    elif found.free < LEAST_FREE or (found.inodes is not None and found.inodes < LEAST_INODES):
        yield bad(subject, f"{told}: too little for any run.", f"Free some, or: {way}")
    elif found.free < LITTLE_FREE or (found.inodes is not None and found.inodes < FEW_INODES):
        yield weak(subject, f"{told}: enough for small runs only.", f"Free some, or: {way}")
    else:
        yield good(subject, f"{told}.")


def runs(question: Question) -> Iterator[Finding]:
    """The folder of runs."""
    path = Path(question.runs)
    yield from _told("disk", path, ", and runs write there", "--runs FOLDER")
    if question.profile and (kind := kind_of(path)) in PASSING:
        told = f"{path} lies on {kind}, which this machine keeps for itself: jobs on other nodes see nothing of it."
        yield weak("disk", told, "--runs FOLDER, one that all nodes share.")


def store(_: Question) -> Iterator[Finding]:
    """The folder of an SQLite store."""
    path = sqlite_path(tracking_uri())
    if path is None:
        return
    folder = path.absolute().parent
    try:
        found = room(folder)
    except OSError as error:
        yield bad("disk", f"The MLflow store's folder cannot be looked at: {error.strerror}.", _STORE)
        return
    if not found.writable:
        yield bad("disk", f"{folder} cannot be written, where the MLflow store would lie.", _STORE)
    if found.kind.startswith(SHARED):
        told = f"The MLflow store lies on {found.kind}: two hosts that write SQLite there can break it."
        yield weak("disk", told, "Let one host write at a time, or use a tracking server.")


_STORE = "export MLFLOW_TRACKING_URI=sqlite:////FOLDER/mlflow.db"


def temporary(_: Question) -> Iterator[Finding]:
    """The folder of temporary files."""
    try:
        place = Path(tempfile.gettempdir())
    except OSError:
        return  # said with the user's folders
    found = room(place)
    if found.free < LEAST_FREE:
        yield weak("disk", f"{found.free / 2**20:.0f} MiB are free at {place}.", "export TMPDIR=FOLDER")


CHECKS = {"the folder of runs": runs, "the store's folder": store, "temporary files": temporary}
