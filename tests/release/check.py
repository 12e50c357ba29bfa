"""Whether what is committed can be released: `make release-check`, or `python -m tests.release.check [--out DIST]`.

Prints one line for each thing that is looked at, writes what a release hands out into `dist/`, and ends with 1 where a
line is bad. Nothing is published and no tag is made.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import yaml
from markdown_it import MarkdownIt
from packaging.metadata import Metadata

from tests.release import artefacts
from tests.release.licences import licences, licences_csv
from tests.release.lock import extras, problems, project, read

ROOT = Path(__file__).parents[2]
BILL, LICENCES, SUMS = "bill-of-materials.cdx.json", "licences.csv", "SHA256SUMS"
#: At most so many reasons are told of one line.
TOLD = 5
_ENTRY = re.compile(r"^## (?P<version>\S+?), (?P<date>.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Line:
    """One thing that was looked at."""

    name: str
    good: bool
    said: str


def told(name: str, reasons: Sequence[str], good: str) -> Line:
    """A line that is bad where there are reasons."""
    more = f" and {len(reasons) - TOLD} more" if len(reasons) > TOLD else ""
    return Line(name, not reasons, "; ".join(reasons[:TOLD]) + more if reasons else good)


def version(root: Path) -> str:
    """The version that the package says it is.

    Errors:
        ValueError: it says none.
    """
    found = re.search(r'^__version__ = "([^"]+)"', (root / "cscdarts/__init__.py").read_text(encoding="utf-8"), re.M)
    if found is None:
        raise ValueError("cscdarts/__init__.py names no __version__")
    return found.group(1)


def newest_entry(changelog: str) -> tuple[str, str, str]:
    """Version, date and text of the first entry of the changelog.

    Errors:
        ValueError: there is none.
    """
    entries = list(_ENTRY.finditer(changelog))
    if not entries:
        raise ValueError("CHANGELOG.md has no entry `## VERSION, DATE`")
    end = entries[1].start() if len(entries) > 1 else len(changelog)
    return entries[0]["version"], entries[0]["date"], changelog[entries[0].end() : end]


def tree(root: Path) -> Line:
    """Nothing is changed and nothing lies there that git does not know."""
    changed = artefacts.git(root, "status", "--porcelain").splitlines()
    return told("tree", [line[3:] for line in changed], f"commit {artefacts.git(root, 'rev-parse', '--short', 'HEAD')}")


def versions(root: Path) -> Line:
    """One version and one date wherever they stand, and a tag that is free or this commit's."""
    own = version(root)
    cited = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    logged, date, _ = newest_entry((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    reasons = [
        f"{where} has {found}, cscdarts/__init__.py has {own}"
        for where, found in (("CITATION.cff", str(cited["version"])), ("CHANGELOG.md", logged))
        if found != own
    ]
    if date != str(cited["date-released"]):
        reasons.append(f"CHANGELOG.md says {date!r}, CITATION.cff {cited['date-released']}")
    tag = f"v{own}"
    tagged = artefacts.git(root, "tag", "--list", tag) and artefacts.git(root, "rev-list", "-1", tag)
    if tagged and tagged != artefacts.git(root, "rev-parse", "HEAD"):
        reasons.append(f"the tag {tag} is another commit's")
    return told("version", reasons, f"{own} of {date}, " + (f"tagged {tag}" if tagged else f"to be tagged {tag}"))


def moved_numbers(root: Path) -> Line:
    """The newest entry says which numbers move, be it that none does."""
    logged, _, text = newest_entry((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    section = re.search(r"^### What moves numbers\n(.*?)(?=^### |\Z)", text, re.MULTILINE | re.DOTALL)
    points = [] if section is None else re.findall(r"^\* ", section.group(1), re.MULTILINE)
    reasons = (
        [] if points else [f"the entry {logged} of CHANGELOG.md has no section `### What moves numbers` with a point"]
    )
    return told("numbers", reasons, f"the changelog names {len(points)} changes that move numbers")


def lock(root: Path) -> Line:
    """The lock of the images fits what the package asks for."""
    locked = read(root / "containers" / "requirements.lock")
    with_extras = ", ".join(extras(project(root)))
    return told("lock", problems(locked, project(root)), f"{len(locked)} packages with hashes, extras {with_extras}")


def readme(root: Path, files: Sequence[str]) -> Line:
    """The README is Markdown whose own links lead to files of the archive of sources."""
    text = (root / "README.md").read_text(encoding="utf-8")
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inner = [child for token in tokens for child in token.children or ()]
    links = [str(one.attrs.get("href") or one.attrs.get("src") or "") for one in inner]
    own = sorted({link.partition("#")[0] for link in links if link and "://" not in link} - {""})
    reasons = [f"README.md leads to {link}, which the archive lacks" for link in own if not _held(link, files)]
    if not any(token.type == "heading_open" and token.tag == "h1" for token in tokens):
        reasons.append("README.md has no title")
    return told("readme", reasons, f"{len(own)} files that it leads to are in the archive")


def _held(link: str, files: Sequence[str]) -> bool:
    return any(name == link or name.startswith(link.rstrip("/") + "/") for name in files)


def metadata(wheel: Path, own: str, text: str) -> Line:
    """The wheel's metadata are valid, its description is the README, and its licence lies in it."""
    files = artefacts.contents(wheel)
    (place,) = (name for name in files if name.endswith(".dist-info/METADATA"))
    reasons = []
    try:
        found = Metadata.from_email(files[place], validate=True)
    except ExceptionGroup as several:
        return told("metadata", [str(one) for one in several.exceptions], "")
    if str(found.version) != own:
        reasons.append(f"the wheel is of version {found.version}")
    if found.description_content_type != "text/markdown" or (found.description or "").strip() != text.strip():
        reasons.append("the description is not README.md as Markdown")
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in files):
        reasons.append("the wheel has no LICENSE")
    required = len(message_from_bytes(files[place]).get_all("Requires-Dist") or ())
    return told("metadata", reasons, f"valid, Markdown, {required} requirements")


def built(root: Path, out: Path) -> Iterator[Line]:
    """Builds twice; what both gave goes to `out`, with the bill of materials, the licences and the checksums."""
    tracked = artefacts.git(root, "ls-files").splitlines()
    own = version(root)
    with tempfile.TemporaryDirectory() as folder:
        first, second = (artefacts.build(root, Path(folder) / name) for name in ("first", "second"))
        differ = [one.name for one, other in zip(first, second, strict=True) if one.read_bytes() != other.read_bytes()]
        yield told(
            "reproducible", [f"{name} differs between two builds" for name in differ], "two builds, the same bytes"
        )
        handed_out = [Path(shutil.copy(one, out)) for one in first]
    wheel, archive = handed_out
    files = artefacts.contents(wheel)
    yield told(
        "wheel", artefacts.wheel_problems(files, tracked), f"{wheel.name}, {len(files)} files, no tests, no secrets"
    )
    sources = artefacts.contents(archive)
    yield told(
        "sources", artefacts.archive_problems(sources, tracked), f"{archive.name}, {len(sources)} files, all tracked"
    )
    yield metadata(wheel, own, (root / "README.md").read_text(encoding="utf-8"))
    yield readme(root, list(sources))
    locked = read(root / "containers" / "requirements.lock")
    found = licences(locked)
    absent = sorted(set(locked) - {one.name for one in found})
    refused = [f"{one.name}: {one.said}" for one in found if not one.taken]
    yield told(
        "licences", [*refused, *(f"{name} is not installed here, so its licence is unknown" for name in absent)],
        f"{len(found)} packages, each of a family that is taken or with a reason: {LICENCES}",
    )  # fmt: skip
    (out / LICENCES).write_text(licences_csv(found), encoding="utf-8")
    bill = artefacts.bill_of_materials("cscdarts", own, found)
    same = bill == artefacts.bill_of_materials("cscdarts", own, found)
    reasons = [*artefacts.bill_problems(bill), *([] if same else ["the bill differs from call to call"])]
    (out / BILL).write_text(bill, encoding="utf-8")
    yield told("materials", reasons, f"CycloneDX 1.6, valid: {BILL}")
    handed_out += [out / LICENCES, out / BILL]
    (out / SUMS).write_text(artefacts.checksums(handed_out), encoding="utf-8")
    checked = subprocess.run(
        ["sha256sum", "--check", "--quiet", SUMS], cwd=out, capture_output=True, text=True, check=False
    )
    yield told("checksums", checked.stdout.splitlines(), f"{len(handed_out)} files: {SUMS}")


def lines(root: Path, out: Path) -> Iterator[Line]:
    """All that is looked at; what cannot even be looked at is bad, and the rest goes on."""
    looks: Sequence[Callable[[Path], Line]] = (tree, versions, moved_numbers, lock)
    for look in looks:
        try:
            yield look(root)
        except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
            yield Line(look.__name__, False, _sentence(error))
    try:
        yield from built(root, out)
    except (OSError, ValueError, RuntimeError, subprocess.CalledProcessError) as error:
        yield Line("build", False, _sentence(error))


def _sentence(error: Exception) -> str:
    said = getattr(error, "stderr", None) or str(error)
    return " ".join(str(said).split())[-500:]


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.release.check", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the files of the release go [dist]")
    out: Path = parser.parse_args(words).out
    out.mkdir(parents=True, exist_ok=True)
    for earlier in [*out.glob("cscdarts-*"), *(out / name for name in (BILL, LICENCES, SUMS))]:
        earlier.unlink(missing_ok=True)
    good = True
    for line in lines(ROOT, out):
        good &= line.good
        print(f"{'good' if line.good else 'bad ':4}  {line.name:12}  {line.said}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
