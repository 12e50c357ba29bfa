"""Benchmark files as files: plain ones only, and their checksums."""

import hashlib
import re
import stat
from pathlib import Path

from cscdarts.errors import BrokenFile


def plain_size(path: Path) -> int:
    """Bytes of a file.

    Errors:
        FileNotFoundError: nothing is there.
        BrokenFile: a pipe, a device or a folder, which has no end or no bytes.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise BrokenFile(path, "it is a pipe, a device or a folder", "a file", "Name a file.")
    return found.st_size


def checksum(path: Path) -> dict[str, str]:
    """SHA-256 of a file, and whether its MD5 agrees with the digits that official file names carry.

    The project pages publish no other checksum, and do not say which end of the MD5 the digits are; either counts.
    Where they disagree this is stated, not refused: a renamed or re-packed file may still hold the right records.
    """
    sha, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            sha.update(block)
            md5.update(block)
    stated = re.fullmatch(
        r"(?:NATS-[ts]ss-v1_0|NAS-Bench-201-v1_[01])-([0-9a-f]{5,6})\.(?:pickle\.pbz2|pth)", path.name
    )
    digest = md5.hexdigest()
    if stated is None:
        verdict = "none published for this file"
    elif digest.startswith(stated[1]) or digest.endswith(stated[1]):
        verdict = f"MD5 {digest} agrees with {stated[1]} in the official name"
    else:
        verdict = f"MD5 {digest} does not agree with {stated[1]} in the official name"
    return {"sha256": sha.hexdigest(), "sha256_of": path.name, "checksum": verdict}
