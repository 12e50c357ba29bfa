"""The interpreter, the installed packages, the locale and the user's folders."""

import codecs
import locale
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from ablations.doctor.finding import Finding, bad, good, weak
from ablations.doctor.packages import DISTRIBUTION, Requirement, requirements
from ablations.doctor.question import Question
from cscdarts import __version__
from cscdarts.data.fingerprint import cache_folder

OLDEST = (3, 11)
#: Extras that no run needs: their absence is no weakness.
_ON_DEMAND = ("dev", "docs")


def interpreter(_: Question) -> Iterator[Finding]:
    """Version, word size and environment of the interpreter."""
    told = f"{platform.python_implementation()} {platform.python_version()}, {__version__} of {DISTRIBUTION}"
    where = "in a virtual environment" if sys.prefix != sys.base_prefix else "outside a virtual environment"
    if sys.version_info < OLDEST:
        yield bad("Python", f"{told}: too old.", f"Use Python {'.'.join(map(str, OLDEST))} or newer.")
    elif sys.maxsize < 2**32:
        yield bad("Python", f"{told}, for 32 bits.", "Use a Python for 64 bits.")
    else:
        yield good("Python", f"{told}, {where} on {platform.system()} {platform.machine()}.")


def packages(_: Question) -> Iterator[Finding]:
    """Packages that are missing or lie outside the bounds."""
    asked = requirements()
    if not asked:
        yield weak(
            "packages", f"{DISTRIBUTION} runs from a folder and is not installed, so its requirements are not known.",
            "In that folder: pip install -e .",
        )  # fmt: skip
        return
    core = [one for one in asked if not one.extra]
    missing = [one.name for one in core if one.installed is None]
    if missing:
        yield bad("packages", f"{', '.join(missing)} missing.", f"pip install '{DISTRIBUTION}'")
    outside = {f"{one.name} {one.installed} (wanted: {one.bounds})": one for one in asked if not one.fits}
    if outside:
        names = " ".join(f"'{one.name}{one.bounds}'" for one in outside.values())
        yield weak("packages", f"Outside the bounds: {', '.join(outside)}.", f"pip install {names}")
    if not missing and not outside:
        yield good("packages", f"All {len(core)} required ones are there and within their bounds.")
    yield from _extras([one for one in asked if one.extra and one.extra not in _ON_DEMAND])


def _extras(asked: list[Requirement]) -> Iterator[Finding]:
    by_extra = {name: list(some) for name, some in groupby(sorted(asked, key=_extra), key=_extra)}
    absent = {name: [one.name for one in some if one.installed is None] for name, some in by_extra.items()}
    lacking = {name: names for name, names in absent.items() if names}
    if lacking:
        told = "; ".join(f"[{name}] lacks {', '.join(names)}" for name, names in lacking.items())
        wanted = ",".join(lacking)
        yield good("packages", f"Optional parts not installed: {told}.", f"pip install '{DISTRIBUTION}[{wanted}]'")


def _extra(one: Requirement) -> str:
    return one.extra


def texts(_: Question) -> Iterator[Finding]:
    """The encodings of files, names and terminals."""
    files, names = locale.getpreferredencoding(False), sys.getfilesystemencoding()
    chosen = next((value for key in ("LC_ALL", "LC_CTYPE", "LANG") if (value := os.environ.get(key))), "not set")
    told = f"Locale {chosen}, files in {files}, names in {names}"
    if codecs.lookup(names).name != "utf-8":
        yield bad("locale", f"{told}: names of files that are not ASCII cannot be used.", "export LC_ALL=C.UTF-8")
    elif codecs.lookup(files).name != "utf-8" or chosen in ("C", "POSIX", "not set"):
        yield weak("locale", f"{told}: signs beyond ASCII are written otherwise.", "export LC_ALL=C.UTF-8")
    else:
        yield good("locale", f"{told}.")


def folders(_: Question) -> Iterator[Finding]:
    """Home, cache and temporary folder: looked at, nothing is written."""
    try:
        cache = cache_folder()
    except RuntimeError:  # no home is known
        yield weak("home", "No home folder is known: data sets are hashed anew each time.", _CACHE)
        cache = None
    if cache is not None:
        if _can_be_made(cache):
            yield good("home", "The cache folder can be written.")
        else:
            yield weak("home", f"{cache} cannot be written: data sets are hashed anew each time.", _CACHE)
    try:
        tempfile.gettempdir()
    except OSError:
        yield bad("home", "There is no folder for temporary files that can be written.", "export TMPDIR=FOLDER")


_CACHE = "export CSCDARTS_CACHE=FOLDER, one that can be written."


def _can_be_made(path: Path) -> bool:
    """Whether a folder is there and can be written, or could be made."""
    there = next((one for one in (path, *path.parents) if os.path.lexists(one)), None)
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)


CHECKS = {"the interpreter": interpreter, "packages": packages, "encodings": texts, "the user's folders": folders}
