"""The lock of the images: exact versions and hashes of all that is installed in them. `python -m tests.release.lock`.

pip resolves what `pyproject.toml` asks for, without installing it; versions are those of the environment that this runs
in, since its tests are what speaks for them. Files are named by their SHA-256 alone, so any index may deliver them.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "containers" / "requirements.lock"
#: Extras that an image does not need: to build the pages, to work on the code, to send runs to a service.
LEFT_OUT = frozenset({"dev", "docs", "wandb"})
#: What the lock holds for: markers are read so, whatever machine reads them.
PLATFORM = {"python_version": "3.11", "sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux"}
WIDTH = 120


@dataclass(frozen=True)
class Locked:
    """One line of the lock."""

    name: str
    version: str
    hashes: tuple[str, ...]


def project(root: Path = ROOT) -> dict[str, Any]:
    """What `pyproject.toml` says."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def extras(settings: Mapping[str, Any]) -> list[str]:
    """The extras that an image has."""
    return sorted(set(settings["project"].get("optional-dependencies", {})) - LEFT_OUT)


def wanted(settings: Mapping[str, Any]) -> list[Requirement]:
    """What an image has to have: to build the package, to run it, and for its extras; each once."""
    own = canonicalize_name(settings["project"]["name"])
    offered: Mapping[str, list[str]] = settings["project"].get("optional-dependencies", {})

    def parts(texts: list[str]) -> Iterator[Requirement]:
        for text in texts:
            one = Requirement(text)
            if canonicalize_name(one.name) == own:  # an extra made of others
                for extra in sorted(one.extras):
                    yield from parts(offered[extra])
            elif one.marker is None or one.marker.evaluate({**PLATFORM, "extra": ""}):
                yield one

    lists = [settings["build-system"]["requires"], settings["project"]["dependencies"]]
    found = {
        str(one): one for texts in [*lists, *(offered[extra] for extra in extras(settings))] for one in parts(texts)
    }
    return [found[text] for text in sorted(found, key=str.lower)]


def read(path: Path = LOCK) -> dict[str, Locked]:
    """The lock by canonical name."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, Locked] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)((?:\s+--hash=\S+)*)\s*", line)
        if match is not None:
            name, version, rest = match.groups()
            hashes = tuple(word.removeprefix("--hash=") for word in rest.split())
            found[canonicalize_name(name)] = Locked(name, version, hashes)
        elif line.strip() and not line.startswith("#"):
            raise ValueError(f"{path.name}: this line is none of a lock: {line}")
    return found


def problems(locked: Mapping[str, Locked], settings: Mapping[str, Any]) -> list[str]:
    """Why a lock is not one of this project, a sentence for each reason; none if it is.

    What the locked packages need in turn is asked of those that are installed here in the locked version.
    """
    found = [
        f"{one.name} has no SHA-256"
        for one in locked.values()
        if not one.hashes or not all(re.fullmatch("sha256:[0-9a-f]{64}", text) for text in one.hashes)
    ]
    waiting = [("pyproject.toml", need) for need in wanted(settings)]
    seen: set[tuple[str, Requirement]] = set()
    while waiting:
        who, need = waiting.pop()
        if (who, need) in seen:
            continue
        seen.add((who, need))
        held = locked.get(canonicalize_name(need.name))
        if held is None:
            found.append(f"{who} needs {need.name}, which the lock lacks")
            continue
        if not need.specifier.contains(held.version, prereleases=True):
            found.append(f"{who} needs {need}, the lock has {held.version}")
        waiting += [(held.name, inner) for inner in _needs(held, need.extras)]
    return sorted(set(found))


def _needs(one: Locked, extras: Collection[str]) -> Iterator[Requirement]:
    """What a locked package needs in turn, as far as it can be told here."""
    try:
        installed = metadata.distribution(one.name)
    except metadata.PackageNotFoundError:
        return
    if installed.version.partition("+")[0] != one.version:
        return
    for text in installed.requires or ():
        need = Requirement(text)
        marker = need.marker
        if marker is None or any(marker.evaluate({**PLATFORM, "extra": extra}) for extra in ("", *extras)):
            yield need


def text_of(report: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The lock's text, from what pip reports that it would install."""
    lines = [
        "# All that an image holds, for CPython 3.11 on Linux x86_64. Written by `python -m tests.release.lock`.",
        f"# With the extras {', '.join(extras(settings))}.",
    ]
    entries = {}
    for one in report["install"]:
        data, origin = one["metadata"], one["download_info"]
        hashes = origin.get("archive_info", {}).get("hashes", {})
        if "sha256" not in hashes:
            raise ValueError(f"{data['name']} comes without a SHA-256; take pip 23 or newer and an index that has them")
        name = canonicalize_name(data["name"])
        entries[name] = f"{name}=={data['version'].partition('+')[0]} \\\n    --hash=sha256:{hashes['sha256']}"
    return "\n".join([*lines, *(entries[name] for name in sorted(entries))]) + "\n"


def resolved(settings: Mapping[str, Any]) -> dict[str, Any]:
    """pip's report on what it would install into an empty environment; nothing is installed.

    Errors:
        subprocess.CalledProcessError: pip found no versions that fit.
    """
    here = {one.name: one.version.partition("+")[0] for one in metadata.distributions() if one.name}
    kept = [f"{name}=={version}" for name, version in sorted(here.items()) if name != settings["project"]["name"]]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(kept) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["--only-binary", ":all:", "--quiet", "--report", "-", "-c", str(constraints)]
        texts = [str(one) for one in wanted(settings)]
        done = subprocess.run([*command, *texts], stdout=subprocess.PIPE, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


if __name__ == "__main__":
    held = project()
    LOCK.write_text(text_of(resolved(held), held), encoding="utf-8")
    for sentence in problems(read(), held):
        print(sentence, file=sys.stderr)
