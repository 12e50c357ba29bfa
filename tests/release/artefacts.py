"""What a release hands out: the wheel and the archive of sources, built twice, and the bill of materials."""

import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.release.licences import Licence
from tests.release.lock import LOCK

HARNESS = ("ablations", "benchmarks", "reports", "slurm")
#: Tracked files beside the code that no installed package needs: pages for readers, an example.
UNREAD = re.compile(r"(slurm/scale|benchmarks/speed)\.md|reports/example/.*")
#: What no file of a release may hold: private keys, tokens of well-known services, addresses with a password.
SECRETS = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b"
    rb"|\bxox[abp]-[0-9A-Za-z-]{10,}|\bhf_[A-Za-z]{34}\b|[a-z]+://[^/\s:@\"'{}]+:[^/\s:@\"'{}]+@"
)


def git(root: Path, *words: str) -> str:
    """What git says."""
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def build(root: Path, out: Path) -> tuple[Path, Path]:
    """Wheel and archive of what is committed, built in a clone so that nothing else of this folder gets into them.

    Times are those of the commit, and the archive names no user, so that the same commit gives the same bytes.

    Errors:
        RuntimeError: the build failed; what it said.
    """
    moment = int(git(root, "log", "-1", "--format=%ct"))
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(root), str(tree)], check=True, capture_output=True)
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree)]
        done = subprocess.run(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            env={**variables, "SOURCE_DATE_EPOCH": str(moment)},
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:])
    (wheel,), (archive,) = out.glob("*.whl"), out.glob("*.tar.gz")
    settle(archive, moment)
    return wheel, archive


def settle(archive: Path, moment: int) -> None:
    """Write a `.tar.gz` again with its members in order, one time for all of them, and no user's name."""
    buffer = io.BytesIO()
    with (
        tarfile.open(archive) as old,
        gzip.GzipFile("", "wb", mtime=moment, fileobj=buffer) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda one: one.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = moment, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    archive.write_bytes(buffer.getvalue())


def contents(path: Path) -> dict[str, bytes]:
    """The files of a wheel, or of an archive without the folder that holds all of it."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist() if not name.endswith("/")}
    with tarfile.open(path) as archive:
        files = {one.name.partition("/")[2]: archive.extractfile(one) for one in archive.getmembers() if one.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}


def installed_as(tracked: Iterable[str]) -> set[str]:
    """The names in a wheel of the files that it has to hold."""
    found = set()
    for name in tracked:
        top = name.partition("/")[0]
        if top in ("cscdarts", *HARNESS) and not UNREAD.fullmatch(name):
            found.add(name if top == "cscdarts" else f"cscdarts/_harness/{name}")
    return found


def wheel_problems(files: Mapping[str, bytes], tracked: Sequence[str]) -> list[str]:
    """What is too much in a wheel, or lacking."""
    wanted = installed_as(tracked)
    made = {"cscdarts/built.json"}
    own = {name for name in files if not re.match(r"cscdarts-[^/]+\.dist-info/", name)}
    return [
        *(f"lacks {name}" for name in sorted(wanted - own)),
        *(f"has {name}" for name in sorted(own - wanted - made)),
        *secrets(files),
    ]


def archive_problems(files: Mapping[str, bytes], tracked: Sequence[str]) -> list[str]:
    """What is too much in an archive of sources, or lacking: it holds what is tracked, and what the build says."""
    needed = installed_as(tracked) | {"pyproject.toml", "setup.py", "README.md", "LICENSE", "CHANGELOG.md"}
    needed = {name.removeprefix("cscdarts/_harness/") if _moved(name, tracked) else name for name in needed}
    made = {"PKG-INFO", "setup.cfg", "cscdarts/built.json"}
    own = {name for name in files if ".egg-info/" not in name}
    spoken = {name: text for name, text in files.items() if not name.startswith("tests/")}  # which try such texts out
    return [
        *(f"lacks {name}" for name in sorted(needed - own)),
        *(f"has {name}" for name in sorted(own - set(tracked) - made)),
        *secrets(spoken),
    ]


def _moved(name: str, tracked: Sequence[str]) -> bool:
    return name.startswith("cscdarts/_harness/") and name not in tracked


def secrets(files: Mapping[str, bytes]) -> list[str]:
    """Files that hold what looks like a secret; the text itself is not repeated."""
    return [f"{name} holds what looks like a secret" for name, text in sorted(files.items()) if SECRETS.search(text)]


def bill_of_materials(name: str, version: str, found: Iterable[Licence]) -> str:
    """The lock as a CycloneDX document, with licences: the same text each time, as it has neither date nor number."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", str(LOCK), "--output-reproducible",
         "--no-validate", "--of", "JSON", "-o", "-"], capture_output=True, text=True, check=True,
    )  # fmt: skip
    bill: dict[str, Any] = json.loads(done.stdout)
    said = {one.name: one.said for one in found}
    for one in bill["components"]:
        # A place to fetch the file from is the reader's choice; its hash says which file is meant.
        (origin,) = one.pop("externalReferences")
        one.pop("description")
        one["hashes"] = origin["hashes"]
        if said.get(one["name"], "UNKNOWN") != "UNKNOWN":
            one["licenses"] = [{"license": {"name": said[one["name"]]}}]
    own = f"pkg:pypi/{name}@{version}"
    bill["metadata"]["component"] = {
        "bom-ref": own, "name": name, "version": version, "type": "application", "purl": own,
        "licenses": [{"license": {"id": "MIT"}}],
    }  # fmt: skip
    parts = sorted(one["bom-ref"] for one in bill["components"])
    bill["dependencies"] = [{"ref": own, "dependsOn": parts}, *({"ref": part} for part in parts)]
    return json.dumps(bill, indent=1, sort_keys=True) + "\n"


def bill_problems(text: str) -> list[str]:
    """Where a bill of materials departs from CycloneDX's schema."""
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    return [] if wrong is None else [" ".join(str(wrong).split())[:300]]


def checksums(files: Iterable[Path]) -> str:
    """What `sha256sum --check` reads."""
    return "".join(f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in sorted(files))
