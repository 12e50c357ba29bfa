"""Users' files run as scripts would, with what lies beside them, and nothing that lies there hides what is ours."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cscdarts.errors import UserError
from cscdarts.spaces import load_file, load_plugin
from cscdarts.spaces.neighbours import beside

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leaves no module and no folder of a test behind."""
    from cscdarts.spaces import neighbours

    modules, path = dict(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - set(modules):
        if (
            name.partition(".")[0] in neighbours._found
            or name.startswith("cscdarts_user_")
            or name in neighbours._MOVED
        ):
            del sys.modules[name]
    neighbours._found.clear()
    neighbours._kept.clear()
    neighbours._last.folders.clear()
    assert sys.path == path
    assert neighbours._first not in sys.meta_path


def _write(folder: Path, **texts: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        path = folder / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "main.py"


@pytest.mark.parametrize(
    "text",
    [
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n"
        "@dataclass\nclass A:\n    x: str\n\nX = A('1').x",
        "from __future__ import annotations\nfrom dataclasses import dataclass, KW_ONLY\n"
        "from typing import ClassVar\n\n"
        "@dataclass(slots=True)\nclass A:\n    n: ClassVar[int] = 1\n    _: KW_ONLY\n    x: str = '1'\n\nX = A().x",
        "from typing import NamedTuple, get_type_hints\n\nclass A(NamedTuple):\n    x: 'B'\n\nclass B: ...\n\n"
        "X = '1' if get_type_hints(A)['x'] is B else ''",
        "import enum\n\nclass A(enum.Enum):\n    x = '1'\n\nX = A.x.value",
        "import pickle\n\nclass A: x = '1'\n\nX = pickle.loads(pickle.dumps(A())).x",
        "import sys\n\nX = '1' if sys.modules[__name__].__name__ == __name__ else ''",
        "from pathlib import Path\n\nX = (Path(__file__).parent / 'value.txt').read_text()",
        "from pydantic import BaseModel\n\nclass A(BaseModel):\n    x: 'str' = '1'\n\nX = A().x",
        "if __name__ == '__main__':\n    raise SystemExit\nX = '1'",
        "# -*- coding: latin-1 -*-\nX = '1'  # \xe9",
        "\ufeffX = '1'",
        "import inspect\nimport sys\n\nX = '1' if 'X =' in inspect.getsource(sys.modules[__name__]) else ''",
    ],
)  # fmt: skip
def test_files_that_are_valid_python(tmp_path: Path, text: str) -> None:
    (tmp_path / "value.txt").write_text("1")
    path = tmp_path / "my own-grid.v2.py"
    path.write_bytes(text.encode("latin-1" if "coding" in text else "utf-8"))
    assert load_file(path).X == "1"
    assert load_file(path).X == "1", "again"
    assert not list(tmp_path.rglob("*.pyc"))


@pytest.mark.parametrize(
    "use",
    [
        "from helper import X", "import helper\nX = helper.X", "from package.inner import X",
        "import package.inner as p\nX = p.X", "from folder_only.inner import X", "from chained import X",
        "import importlib\nX = importlib.import_module('helper').X",
    ],
)  # fmt: skip
def test_modules_beside_a_file(tmp_path: Path, use: str) -> None:
    path = _write(
        tmp_path / "a", main=use, helper="X = 1", chained="from helper import X", package__in____init__="",
        package__in__inner="from package.other import X", package__in__other="X = 1", folder_only__in__inner="X = 1",
    )  # fmt: skip
    assert load_file(path).X == 1


def test_former_places_of_what_grid_files_import(tmp_path: Path) -> None:
    import cscdarts

    text = "from cscdarts.overrides import with_values\nfrom cscdarts.presets import apply_preset\n"
    text += "from cscdarts.protocols import protocol\nfrom cscdarts.config import RunConfig\n"
    module = load_file(_write(tmp_path, main=text))
    for name in ("with_values", "apply_preset", "protocol", "RunConfig"):
        assert getattr(module, name) is getattr(cscdarts, name)
    with pytest.raises(ImportError, match="nothing_of_ours"):
        load_file(_write(tmp_path, main="import cscdarts.nothing_of_ours"))
    with pytest.raises(ImportError, match="no_such_name"):
        load_file(_write(tmp_path, main="from cscdarts.overrides import no_such_name"))


def test_modules_beside_a_file_that_a_function_imports_later(tmp_path: Path) -> None:
    path = _write(tmp_path, main="def get():\n    from later import X\n    return X\n", later="X = 1")
    module = load_file(path)
    assert module.get() == 1


def test_a_link_to_a_file_finds_what_lies_beside_the_file(tmp_path: Path) -> None:
    path = _write(tmp_path / "a", main="from helper import X", helper="X = 1")
    (tmp_path / "link.py").symlink_to(path)
    assert load_file(tmp_path / "link.py").X == 1


def test_modules_of_one_name_beside_two_files(tmp_path: Path) -> None:
    first = _write(tmp_path / "a", main="from helper import X\nfrom pack.inner import Y", helper="X = 1",
                   pack__in____init__="", pack__in__inner="Y = 1")  # fmt: skip
    second = _write(tmp_path / "b", main="from helper import X\nfrom pack.inner import Y", helper="X = 2",
                    pack__in____init__="", pack__in__inner="Y = 2")  # fmt: skip
    one, two = load_file(first), load_file(second)
    assert (one.X, one.Y, two.X, two.Y) == (1, 1, 2, 2)
    assert one.__name__ != two.__name__
    assert load_file(first).X == 1


def test_a_file_edited_within_the_second_is_read_anew(tmp_path: Path) -> None:
    path = _write(tmp_path, main="X = 1")
    assert load_file(path).X == 1
    path.write_text("X = 2")
    assert load_file(path).X == 2


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = _write(tmp_path, main="import helper\n1 / 0", helper="X = 1")
    before = set(sys.modules)
    with pytest.raises(ZeroDivisionError):
        load_file(path)
    assert set(sys.modules) - before <= {"helper"}
    path.write_text("import helper\nX = helper.X")
    assert load_file(path).X == 1
    (tmp_path / "gone.py").unlink(missing_ok=True)
    with pytest.raises(UserError, match="Check the path"):
        load_file(tmp_path / "gone.py")


def test_a_plugin_of_the_present_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, plugin_here="import plugin_helper", plugin_helper="X = 1", plugin_exits="raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    load_plugin("plugin_here")
    assert sys.modules["plugin_helper"].X == 1
    with pytest.raises(UserError, match="plugin_exits failed: SystemExit: 3"):
        load_plugin("plugin_exits")


def test_a_block_inside_a_block(tmp_path: Path) -> None:
    _write(tmp_path / "a", in_a="X = 1", late_a="X = 1")
    _write(tmp_path / "b", in_b="X = 2")
    with beside(tmp_path / "a"):
        with beside(tmp_path / "b"):
            import in_b  # type: ignore[import-not-found]
        import in_a  # type: ignore[import-not-found]
    import late_a  # type: ignore[import-not-found]

    assert (in_a.X, in_b.X, late_a.X) == (1, 2, 1)


@pytest.mark.parametrize(
    "use",
    [
        "import reports\nX = reports.X", "from reports import X", "import helper\nX = helper.X",
        "import slurm.inner as s\nX = s.X", "from slurm.inner import X", "from slurm import inner\nX = inner.X",
        "import importlib\nX = 1\ndef later():\n    from reports import X\n    return X\nX = later()",
    ],
)  # fmt: skip
def test_a_neighbour_that_has_the_name_of_ours(tmp_path: Path, use: str) -> None:
    import reports.statistics

    ours = sys.modules["reports"]
    path = _write(
        tmp_path, main=use, reports="X = 1", helper="from reports import X",
        slurm__in____init__="", slurm__in__inner="from slurm.other import X", slurm__in__other="from reports import X",
    )  # fmt: skip
    assert load_file(path).X == 1
    assert sys.modules["reports"] is ours
    assert reports.statistics.__name__ == "reports.statistics"
    assert "inner" not in vars(sys.modules.get("slurm", object))


def test_a_neighbour_of_that_name_is_found_by_later_calls_and_hides_no_module_of_ours(tmp_path: Path) -> None:
    theirs, ours = "from benchmarks import X", "from benchmarks.published.rows import published_rows"
    text = f"def grid():\n    {theirs}\n    {ours}\n    return X\n"
    path = _write(tmp_path / "a", main=text, benchmarks="X = 1")
    other = _write(tmp_path / "b", main=text, benchmarks="X = 2")
    first, second = load_file(path), load_file(other)
    assert (first.grid(), second.grid(), first.grid()) == (1, 2, 1)
    alone = _write(tmp_path / "c", main="from slurm.jobs import Cause\nfrom . import nothing")
    with pytest.raises(ImportError, match="no known parent package"):
        load_file(alone)


def test_nothing_beside_a_file_hides_what_is_ours(tmp_path: Path) -> None:
    """In a process of its own: modules named as our packages, as the standard library's, as folders of dependencies."""
    fatal = "raise RuntimeError('a file of the user')"
    names = ("slurm", "ablations", "reports", "benchmarks", "cscdarts", "random", "json", "dataclasses", "csv", "queue")
    path = _write(
        tmp_path, main="import helper, yaml, csv\nX = helper.X", helper="X = 1", **dict.fromkeys(names, fatal)
    )
    for folder in ("yaml", "numpy", "torch", "mlflow"):
        (tmp_path / folder).mkdir()
    code = (
        f"import json, sys\nfrom pathlib import Path\nfrom cscdarts.spaces import load_file\n"
        f"found = [load_file(Path({str(path)!r})).X]\n"
        "import slurm.job, ablations.grid.load, reports.statistics, benchmarks, queue, yaml, numpy\n"
        "found += [m.__file__ for m in (slurm.job, ablations.grid.load, reports.statistics, benchmarks)]\n"
        "found += [hasattr(yaml, 'compose'), hasattr(numpy, 'array')]\n"
        "print(json.dumps(found))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    value, *files, yaml, numpy = json.loads(done.stdout)
    assert (value, yaml, numpy) == (1, True, True)
    assert all(file.startswith(str(ROOT)) for file in files)
