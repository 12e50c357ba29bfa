"""What pyproject.toml cannot say of the build: where the harness goes, and which commit it is built from.

`ablations`, `benchmarks`, `reports` and `slurm` lie at the root of the repository; a wheel has them inside `cscdarts`,
where nothing else looks (`cscdarts/_harness/`). An editable installation finds them where they are.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
ENGINE, HARNESS, INSIDE = "cscdarts", ("ablations", "benchmarks", "reports", "slurm"), "cscdarts._harness"
#: Folders of files that the code reads, and which of their files.
DATA = {
    "cscdarts": ["py.typed"],
    "benchmarks.records": ["**/*"],
    "benchmarks.published": ["*.csv"],
    "benchmarks.embedded": ["*"],
    "reports.templates": ["*"],
    "slurm": ["dev-cluster"],
    "slurm.profiles": ["*.yaml"],
}

sys.path.insert(0, str(ROOT))
from cscdarts.records.code import BUILT, Code, read_code, written_code  # noqa: E402


def folders() -> list[str]:
    """Every package under the name that it has in the repository."""
    tops = (ENGINE, *HARNESS)
    found = {path.parent.relative_to(ROOT) for top in tops for path in (ROOT / top).rglob("__init__.py")}
    return sorted({*(".".join(folder.parts) for folder in found), *DATA})


def installed(name: str) -> str:
    """The name that a package has once it is installed."""
    return f"{INSIDE}.{name}" if name.partition(".")[0] in HARNESS else name


#: What is being built: a checkout, or an archive of sources that says what it was made from. Asked before the build
#: leaves its own folders in it.
SOURCE: Code = read_code(ROOT / ENGINE)
if SOURCE.problem:
    print(f"the commit is left unknown: {SOURCE.problem}", file=sys.stderr)


class Build(build_py):
    """Says in the package what it was built from, and hands on nothing that an earlier build left."""

    def run(self) -> None:
        """Copy the packages and write `BUILT` beside them."""
        if self.editable_mode:
            super().run()
            return
        target = Path(self.build_lib)
        shutil.rmtree(target, ignore_errors=True)
        super().run()
        (target / ENGINE / BUILT).write_text(written_code(SOURCE, target, [ENGINE]), encoding="utf-8")

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """What is installed."""
        return [*super().get_outputs(include_bytecode), str(Path(self.build_lib) / ENGINE / BUILT)]


class Sources(sdist):
    """Says in the archive which commit it was made from, as no repository goes with it."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Fill the folder that is packed."""
        super().make_release_tree(base_dir, [name for name in files if "__pycache__" not in name])
        text = written_code(SOURCE, Path(base_dir), [ENGINE, *HARNESS])
        (Path(base_dir) / ENGINE / BUILT).write_text(text, encoding="utf-8")


class Editable(editable_wheel):
    """Installs the packages under the names that they have in the repository."""

    def finalize_options(self) -> None:
        """See setuptools."""
        self.distribution.packages = folders()
        self.distribution.package_dir = {}
        super().finalize_options()


options: dict[str, Any] = {
    "packages": [installed(name) for name in folders()],
    "package_dir": {installed(name): name for name in HARNESS},
    "package_data": {installed(name): patterns for name, patterns in DATA.items()},
    "include_package_data": False,  # the archive of sources has more than what is installed
    "cmdclass": {"build_py": Build, "sdist": Sources, "editable_wheel": Editable},
}
setup(**options)
