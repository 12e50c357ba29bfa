"""Under which licences the things stand that an image holds, and whether each of them is one that we take."""

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.utils import canonicalize_name

#: Families that ask for no more than their notice, by the names that packages give them.
FAMILIES: Mapping[str, frozenset[str]] = {
    "MIT": frozenset({"MIT", "MIT License", "MIT-0", "MIT-CMU"}),
    "BSD": frozenset({"BSD", "BSD License", "BSD-2-Clause", "BSD-3-Clause", "3-Clause BSD License", "0BSD"}),
    "Apache": frozenset({"Apache-2.0", "Apache Software License", "Apache-2.0 WITH LLVM-exception"}),
    "Python": frozenset({"PSF-2.0", "Python Software Foundation License"}),
    "others that are permissive": frozenset({"BSL-1.0", "CC0-1.0", "ISC", "Zlib"}),
}
#: Packages whose licence is another, or that do not name theirs: a pattern of names -> why they are taken.
EXCEPTIONS: Mapping[str, str] = {
    r"nvidia-[a-z0-9-]+": (
        "NVIDIA's libraries, which torch's wheel asks for; whoever hands an image on is bound by their terms"
    ),
    "cuda-toolkit": "holds nothing itself: it names the versions of NVIDIA's libraries",
    "certifi": "MPL-2.0: binds changes to its own files, and we make none",
    "huey": "MIT by the text of its LICENSE; its metadata do not say so",
    "skops": "MIT by the text of its LICENSE; its metadata do not say so",
}
#: What separates the licences of one package; AND and OR alike, as we take none that we do not take alone.
_BETWEEN = re.compile(r"\s+AND\s+|\s+OR\s+|\s*;\s*|[()]")


@dataclass(frozen=True)
class Licence:
    """What one package says of its licence, and why it is taken: a family's name, a reason, or "" if it is not."""

    name: str
    version: str
    said: str
    taken: str


def verdict(name: str, said: str) -> str:
    """Why a licence is taken, "" if it is not."""
    for pattern, reason in EXCEPTIONS.items():
        if re.fullmatch(pattern, canonicalize_name(name)):
            return reason
    parts = [part for part in _BETWEEN.split(said) if part.strip()]
    found = [next((family for family, names in FAMILIES.items() if part in names), "") for part in parts]
    return ", ".join(sorted(set(found))) if found and all(found) else ""


def licences(names: Iterable[str]) -> list[Licence]:
    """What packages say that are installed here, by pip-licenses; those that are not are left out."""
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--with-system", "--format=json", "--packages"]
    done = subprocess.run([*command, *names], capture_output=True, text=True, check=True)
    found = [
        Licence(str(canonicalize_name(one["Name"])), one["Version"].partition("+")[0], one["License"], "")
        for one in json.loads(done.stdout)
    ]
    return sorted(
        (Licence(one.name, one.version, one.said, verdict(one.name, one.said)) for one in found),
        key=lambda one: one.name,
    )


def licences_csv(found: Iterable[Licence]) -> str:
    """The list as CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["name", "version", "licence", "taken"])
    writer.writerows([one.name, one.version, one.said, one.taken] for one in found)
    return buffer.getvalue()
