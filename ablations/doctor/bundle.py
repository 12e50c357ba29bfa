"""The archive for a bug report: every text goes through one redactor, the order is that of the names, the size is
bounded, and the first file says what the others hold."""

import contextlib
import getpass
import gzip
import io
import json
import os
import pwd
import socket
import sys
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import unquote

from ablations.doctor.finding import Attachment, Finding, Named, Piece
from ablations.doctor.privacy.names import Known, Redactor, real_and_given
from ablations.doctor.privacy.secrets import Secrets
from ablations.doctor.question import Question
from cscdarts.records.code import PACKAGE
from cscdarts.records.run_folder import write_atomic
from cscdarts.settings.sections.runtime import RuntimeConfig

#: Characters of one file and of all together; what lies beyond is left out, and it is said.
MOST_OF_ONE, MOST_OF_ALL = 256 * 1024, 4 * 2**20
TOP = "cscdarts-doctor"
_README = """What `cscdarts doctor --bundle` collected for a bug report.

Look at it before you send it: `tar xzf FILE`, then read the files; all are text.

Replaced: host names by HOST-1, HOST-2, ...; your user name by USER; your home by HOME, the folder you called from by
CWD, the folders of runs and data by RUNS and DATA, the code's by CODE, Python's by PYTHON, every other path by PATH-1,
...; addresses by IP-1 and EMAIL-1; SLURM accounts by ACCOUNT-1, groups by GROUP-1; what looks like a password or a
token, and what variables with such names hold, by SECRET. One word stands for one thing in all files.

Left out: your grid's file, your profile's variables and lines of shell but for well-known ones, the values of all but
a few environment variables, git's remotes, images, weights, genotypes.

Not replaced, as a report needs it: versions, hardware, settings, names of partitions, QOS and packages, and the words
of logs and errors. If one of those tells too much, strike it out.

"""
#: File -> what it holds, for the README.
_HOLDS = {
    "findings.json": "the doctor's lines", "facts.json": "Python, torch, processor, memory, environment",
    "packages.txt": "installed packages", "store.json": "MLflow's version and the store's schema",
    "grid.json": "the grid: scale, overrides, hashes and methods of its runs", "status.json": "what became of each run",
    "profile.json": "the cluster profile", "slurm.txt": "the cluster's settings and partitions",
}  # fmt: skip


def known_here(question: Question, named: Iterable[Named], source: str = "") -> Known:
    """What tells who and where on this machine, with what the checks have named."""
    users, homes = _people()
    host = socket.gethostname()
    hosts = [host, os.uname().nodename, host.partition(".")[0], host.partition(".")[2]]
    found: dict[str, list[str]] = {"user": users, "host": hosts, "account": [], "group": _groups()}
    for one in named:
        found.setdefault(one.kind, []).extend(one.names)  # secrets are the redactor's own
    found["account"] += [os.environ.get(name, "") for name in ("SBATCH_ACCOUNT", "SLURM_ACCOUNT", "SALLOC_ACCOUNT")]
    found["user"].append(os.environ.get("MLFLOW_TRACKING_USERNAME", ""))
    roots: dict[str, str] = {}
    # Of folders that are the same the first word counts.
    for path, word in (
        *((home, "HOME") for home in homes), (_cwd(), "CWD"), (question.runs, "RUNS"),
        (question.data_root or RuntimeConfig().data_root, "DATA"), (str(PACKAGE.parent), "CODE"),
        (sys.prefix, "PYTHON"),
    ):  # fmt: skip
        for form in real_and_given(path):
            roots.setdefault(form, word)
    unique = {kind: tuple(dict.fromkeys(name for name in names if name)) for kind, names in found.items()}
    return Known(unique["user"], unique["host"], unique["account"], unique["group"], roots)


def _cwd() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _people() -> tuple[list[str], list[str]]:
    """The user's names, and home folders."""
    users = [os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER")]
    homes = [os.environ.get("HOME", "")]
    with contextlib.suppress(OSError, KeyError, ImportError):
        users.append(getpass.getuser())
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        return users, homes
    full = entry.pw_gecos.split(",")[0].strip()
    users += [entry.pw_name, full if len(full) > 2 and full.casefold() != "root" else ""]
    return users, [*homes, entry.pw_dir]


def _groups() -> list[str]:
    import grp

    names = []
    for number in os.getgroups():
        if number >= 1000:
            try:
                names.append(grp.getgrgid(number).gr_name)
            except KeyError:
                continue
    return names


def archive(findings: Sequence[Finding], pieces: Iterable[Piece], redact: Redactor) -> bytes:
    """The archive's bytes, the same for the same pieces.

    Args:
        pieces: the attachments; findings among them tell what could not be collected.
    """
    pieces = list(pieces)
    files = {one.name: _redacted(one, redact) for one in pieces if isinstance(one, Attachment)}
    lines = [asdict(finding) for finding in findings]
    files["findings.json"] = json.dumps(redact.data(lines), indent=1) + "\n"
    left: list[str] = []
    kept: dict[str, str] = {}
    total = 0
    # Logs of runs go first where room is short, the last of them before the others.
    for name in sorted(files, key=lambda name: ("/" in name, name)):
        text = files[name]
        if len(text) > MOST_OF_ONE:
            text = f"{text[:MOST_OF_ONE]}\n... cut\n" if not name.endswith(".json") else '"too large"\n'
            left.append(f"{name} (cut at {MOST_OF_ONE:,} characters)")
        if total + len(text) > MOST_OF_ALL:
            left.append(f"{name} (no room)")
            continue
        total += len(text)
        kept[name] = text
    missing = [redact(one.sentence) for one in pieces if isinstance(one, Finding)]
    kept["README.txt"] = _readme(kept, left, missing)
    return _packed(kept)


def _redacted(one: Attachment, redact: Redactor) -> str:
    if one.name.endswith(".json"):
        try:
            data = json.loads(one.text)
        except ValueError:
            return redact(one.text)
        return json.dumps(redact.data(redact.secrets.clean_data(data)), indent=1, sort_keys=True) + "\n"
    return redact(one.text)


def _readme(kept: Iterable[str], left: Sequence[str], missing: Sequence[str]) -> str:
    lines = [f"  {name}{f': {_HOLDS[name]}' if name in _HOLDS else ''}" for name in sorted(kept)]
    told = [_README.rstrip("\n"), "", "Files:", *lines]
    told += ["", "Left out for their size:", *(f"  {name}" for name in left)] if left else []
    told += ["", "Could not be collected:", *(f"  {one}" for one in missing)] if missing else []
    return "\n".join(told) + "\n"


def _packed(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files, key=lambda name: (name != "README.txt", name)):
            data = files[name].encode("utf-8", errors="replace")
            entry = tarfile.TarInfo(f"{TOP}/{name}")
            entry.size, entry.mode = len(data), 0o644  # no owner and no time: they would tell
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)


def write_bundle(path: Path, data: bytes) -> None:
    """Write the archive in one go.

    Errors:
        OSError: it cannot be written there.
    """
    write_atomic(path, data)


def secrets_here(question: Question) -> Secrets:
    """The secrets of this process's environment, and of what `--slurm` says of the profile's."""
    given = dict(one.removeprefix("environment.").split("=", 1) for one in question.overrides if "=" in one)
    return Secrets.of(os.environ, given, {"PYTHONPATH": unquote(os.environ.get("PYTHONPATH", ""))})
