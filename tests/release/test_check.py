"""The check of a release, on projects small enough to know what it has to say of them."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.release import artefacts, check
from tests.release.licences import EXCEPTIONS, Licence, licences_csv, verdict
from tests.release.lock import read

ROOT = Path(__file__).parents[2]
CHANGELOG = """# Changelog

## 1.2.0, 2026-02-03

### What moves numbers

* One.
* Two.

### The rest

* Three.

## 1.1.0, 2026-01-01

* Four.
"""


def _commit(folder: Path) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *words], cwd=folder, check=True)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A project of version 1.2.0, committed, that all looks at its texts find good."""
    root = tmp_path / "small"
    (root / "cscdarts").mkdir(parents=True)
    (root / "cscdarts/__init__.py").write_text('__version__ = "1.2.0"\n')
    (root / "CITATION.cff").write_text("version: 1.2.0\ndate-released: 2026-02-03\n")
    (root / "CHANGELOG.md").write_text(CHANGELOG)
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "cscdarts"\nversion = "1.2.0"\n'
    )
    _commit(root)
    return root


def test_a_project_that_is_as_it_should_be(small: Path) -> None:
    lines = [look(small) for look in (check.tree, check.versions, check.moved_numbers)]
    assert [line.good for line in lines] == [True] * 3
    assert lines[1].said == "1.2.0 of 2026-02-03, to be tagged v1.2.0"
    assert lines[2].said == "the changelog names 2 changes that move numbers"


def test_a_tree_with_a_change_or_a_file_that_git_does_not_know(small: Path) -> None:
    (small / "new").touch()
    assert check.tree(small) == check.Line("tree", False, "new")


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("CITATION.cff", "1.2.0", "1.3.0", "CITATION.cff has 1.3.0, cscdarts/__init__.py has 1.2.0"),
        ("CHANGELOG.md", "## 1.2.0", "## 1.2.1", "CHANGELOG.md has 1.2.1"),
        ("CHANGELOG.md", "2026-02-03", "unreleased", "CHANGELOG.md says 'unreleased', CITATION.cff 2026-02-03"),
        ("cscdarts/__init__.py", "1.2.0", "2", "CHANGELOG.md has 1.2.0, cscdarts/__init__.py has 2"),
    ],
)
def test_versions_and_dates_that_differ(small: Path, file: str, before: str, after: str, said: str) -> None:
    path = small / file
    path.write_text(path.read_text().replace(before, after, 1))
    line = check.versions(small)
    assert not line.good
    assert said in line.said


def test_a_tag_is_this_commit_s_or_free(small: Path) -> None:
    subprocess.run(["git", "tag", "v1.2.0"], cwd=small, check=True)
    assert check.versions(small).said.endswith("tagged v1.2.0")
    (small / "more").touch()
    _commit(small)
    assert check.versions(small) == check.Line("version", False, "the tag v1.2.0 is another commit's")


def test_an_entry_says_what_moves_numbers(small: Path) -> None:
    """That an older entry says it is not enough."""
    text = CHANGELOG.replace("### What moves numbers", "### What moves", 1)
    (small / "CHANGELOG.md").write_text(text + "\n### What moves numbers\n\n* Old.\n")
    assert not check.moved_numbers(small).good


def test_what_cannot_be_looked_at_is_bad_and_the_rest_goes_on(small: Path, tmp_path: Path) -> None:
    (small / "CHANGELOG.md").write_text("nothing\n")
    shutil.rmtree(small / ".git")
    lines = list(check.lines(small, tmp_path))
    assert [(line.name, line.good) for line in lines[:4]] == [
        ("tree", False), ("versions", False), ("moved_numbers", False), ("lock", False)
    ]  # fmt: skip
    assert "no entry `## VERSION, DATE`" in lines[1].said
    assert "not a git repository" in lines[0].said
    assert lines[4:] == [check.Line("build", False, lines[0].said)]


def test_the_same_commit_gives_the_same_bytes(small: Path, tmp_path: Path) -> None:
    """Built elsewhere, later, and beside files that git does not know."""
    first = artefacts.build(small, tmp_path / "first")
    moved = tmp_path / "of another name"
    shutil.copytree(small, moved)
    (moved / "cscdarts/unknown.py").touch()
    second = artefacts.build(moved, tmp_path / "second")
    for one, other in zip(first, second, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()
    assert "cscdarts/__init__.py" in artefacts.contents(first[0])
    assert "cscdarts/unknown.py" not in artefacts.contents(second[1])


def test_an_archive_is_settled(tmp_path: Path) -> None:
    """Order, times, owners and the umask are gone; contents and what may be executed stay."""
    made = []
    for number, names in enumerate((["x/b", "x/a"], ["x/a", "x/b"])):
        path = tmp_path / f"{number}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name in names:
                one = tarfile.TarInfo(name)
                one.size, one.mtime, one.uid, one.uname = 1, number, number, f"user{number}"
                one.mode = (0o755 if name == "x/b" else 0o644) & ~(0o022 if number else 0o077)
                archive.addfile(one, io.BytesIO(name[-1:].encode()))
        artefacts.settle(path, 1_000_000)
        made.append(path)
    assert made[0].read_bytes() == made[1].read_bytes()
    assert artefacts.contents(made[0]) == {"a": b"a", "b": b"b"}
    with tarfile.open(made[0]) as archive:
        assert [(one.name, one.mode, one.mtime, one.uname) for one in archive] == [
            ("x/a", 0o644, 1_000_000, ""), ("x/b", 0o755, 1_000_000, ""),
        ]  # fmt: skip


TRACKED = ["cscdarts/a.py", "slurm/b.py", "slurm/profiles/c.yaml", "slurm/scale.md", "tests/d.py", "README.md"]


def test_what_a_wheel_lacks_or_should_not_have() -> None:
    good = dict.fromkeys(
        ["cscdarts/a.py", "cscdarts/built.json", "cscdarts/_harness/slurm/b.py",
         "cscdarts/_harness/slurm/profiles/c.yaml", "cscdarts-1.dist-info/METADATA"], b"",
    )  # fmt: skip
    assert artefacts.wheel_problems(good, TRACKED) == []
    bad = {**good, "tests/d.py": b"", "cscdarts/a.py": b"-----BEGIN RSA PRIVATE KEY-----"}
    del bad["cscdarts/_harness/slurm/profiles/c.yaml"]
    assert artefacts.wheel_problems(bad, TRACKED) == [
        "lacks cscdarts/_harness/slurm/profiles/c.yaml", "has tests/d.py",
        "cscdarts/a.py holds what looks like a secret",
    ]  # fmt: skip


def test_what_an_archive_lacks_or_should_not_have() -> None:
    tops = ["pyproject.toml", "setup.py", "README.md", "LICENSE", "CHANGELOG.md"]
    good = dict.fromkeys([*TRACKED, *tops, "PKG-INFO", "cscdarts.egg-info/SOURCES.txt"], b"")
    assert artefacts.archive_problems(good, [*TRACKED, *tops]) == []
    bad = {**good, "runs/x": b"", "README.md": b"https://me:word@host"}
    del bad["slurm/b.py"]
    assert artefacts.archive_problems(bad, [*TRACKED, *tops]) == [
        "lacks slurm/b.py", "has runs/x", "README.md holds what looks like a secret"
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["ghp_" + "a" * 36, "AKIA" + "A" * 16, "-----BEGIN PRIVATE KEY-----"])
def test_secrets_are_found_and_not_repeated(text: str) -> None:
    (said,) = artefacts.secrets({"a": f"x {text} y".encode(), "b": b"https://host/a@b, user:word, ghp_short"})
    assert said == "a holds what looks like a secret"


def test_links_of_the_readme_lead_somewhere(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "# Title\n\n[a](docs/a.md#part) ![b](b.png) [c](https://example.org) [d](docs)\n"
    )
    assert check.readme(tmp_path, ["docs/a.md", "b.png"]).good
    assert check.readme(tmp_path, ["docs/a.md"]).said == "README.md leads to b.png, which the archive lacks"
    (tmp_path / "README.md").write_text("no title\n")
    assert check.readme(tmp_path, []).said == "README.md has no title"


@pytest.mark.parametrize("fault", ["", "version", "description", "licence", "invalid"])
def test_metadata_of_a_wheel(tmp_path: Path, fault: str) -> None:
    head = {
        "": "Version: 1.2.0", "version": "Version: 1.3", "invalid": "Version: one"
    }.get(fault, "Version: 1.2.0")  # fmt: skip
    text = "other" if fault == "description" else "# Text"
    said = f"Metadata-Version: 2.4\nName: cscdarts\n{head}\nDescription-Content-Type: text/markdown\n\n{text}\n"
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("cscdarts-1.dist-info/METADATA", said)
        if fault != "licence":
            wheel.writestr("cscdarts-1.dist-info/licenses/LICENSE", "")
    assert check.metadata(path, "1.2.0", "# Text\n").good is (fault == "")


@pytest.mark.parametrize(
    ("name", "said", "taken"),
    [
        ("a", "MIT", "MIT"), ("a", "Apache Software License; BSD License", "Apache, BSD"),
        ("a", "Apache-2.0 AND (MIT OR Zlib)", "Apache, MIT, others that are permissive"),
        ("a", "GPL-3.0-only", ""), ("a", "MIT AND GPL-3.0-only", ""), ("a", "UNKNOWN", ""), ("a", "", ""),
        ("Certifi", "MPL-2.0", EXCEPTIONS["certifi"]), ("nvidia-cublas", "anything", EXCEPTIONS["nvidia-[a-z0-9-]+"]),
        ("my-nvidia-x", "anything", ""),
    ],
)  # fmt: skip
def test_which_licences_are_taken(name: str, said: str, taken: str) -> None:
    assert verdict(name, said) == taken


def test_each_exception_is_for_a_package_that_the_lock_has() -> None:
    assert [one for one in EXCEPTIONS if not any(re.fullmatch(one, name) for name in read())] == []


def test_the_bill_has_every_package_of_the_lock_and_nothing_that_changes_by_itself() -> None:
    found = [Licence("torch", "1", "BSD-3-Clause", "BSD")]
    text = artefacts.bill_of_materials("cscdarts", "1.2.0", found)
    assert text == artefacts.bill_of_materials("cscdarts", "1.2.0", found)
    bill = json.loads(text)
    assert bill["bomFormat"] == "CycloneDX"
    assert not {"serialNumber", "timestamp"} & {*bill, *bill["metadata"]}
    locked = read()
    assert {one["name"]: (one["version"], one["hashes"][0]["content"]) for one in bill["components"]} == {
        name: (one.version, one.hashes[0].removeprefix("sha256:")) for name, one in locked.items()
    }
    assert [one["name"] for one in bill["components"] if "licenses" in one] == ["torch"]
    assert bill["metadata"]["component"]["version"] == "1.2.0"
    assert artefacts.bill_problems(text) == []
    assert artefacts.bill_problems(text.replace('"bomFormat"', '"format"')) != []


def test_checksums_and_the_list_of_licences(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert artefacts.checksums([tmp_path / "a"]) == f"{hashlib.sha256(b'x').hexdigest()}  a\n"
    assert licences_csv([Licence("a", "1", "MIT, or so", "MIT")]) == (
        'name,version,licence,taken\na,1,"MIT, or so",MIT\n'
    )


def test_the_templates_ask_for_what_helps() -> None:
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    if not folder.exists():
        pytest.skip("an archive of sources has no templates")
    forms = {path.stem: yaml.safe_load(path.read_text()) for path in folder.glob("*.yml")}
    assert set(forms) == {"bug", "number", "config"}
    for name in ("bug", "number"):
        ids = [one["id"] for one in forms[name]["body"]]
        assert len(ids) == len(set(ids))
        assert {"name", "description", "body"} <= set(forms[name])
        assert {one["type"] for one in forms[name]["body"]} <= {"textarea", "dropdown", "checkboxes"}
    assert "cscdarts doctor --bundle" in str(forms["bug"])
    assert "cscdarts report diff" in str(forms["number"])
