"""Grid files that end the program, never end, or yield what is none: each is one sentence, and nothing is written."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.commands.options.terminal import one_line
from ablations.grid.file import MOST_POINTS, SECONDS_VARIABLE
from ablations.grid.load import load_grid
from cscdarts.errors import UserError
from cscdarts.settings.overrides import field_paths
from tests.support.generated import TEXTS, Tally, ends, generated, objects, require_sentence, tallied, texts

tally = tallied("grids")
BASE = """from cscdarts import apply_preset, protocol, with_values
BASE = apply_preset(protocol("quickstart", "smoke"), "csc")
"""
ENDLESS = {
    "fast": "def grid(scale):\n    while True:\n        yield BASE",
    "apart": "def grid(scale):\n  n = 0\n  while True:\n    n += 1\n    yield with_values(BASE, {'seed': n})",
    "busy": "def grid(scale):\n    while True:\n        pass",
    "deaf": "def grid(scale):\n  while True:\n    try:\n      [].x\n    except Exception:\n      pass",
    "import": "while True:\n    pass",
    "counts": "import itertools\n\ndef grid(scale):\n    return (BASE for _ in itertools.count())",
}
WRONG = (
    "def grid(scale):\n    import sys\n    sys.exit(0)\n    yield",
    "def grid(scale):\n    yield BASE\n    raise SystemExit",
    "import sys\nsys.exit(0)",
    "exit()",
    "def grid(scale):\n    raise GeneratorExit",
    "class Odd(BaseException): pass\ndef grid(scale):\n    raise Odd('x')",
    "def grid(scale):\n    return grid(scale)",
    "def grid(scale):\n    raise MemoryError",
    "def grid(scale):\n    return BASE",
    "def grid(scale):\n    pass",
    "def grid(scale):\n    return 3",
    "def grid(scale):\n    return 'ab'",
    "def grid(scale):\n    return {BASE: 1, 2: 3}",
    "def grid(a, b):\n    yield BASE",
    "grid = 3",
    "grid = int",
    "class grid: pass",
    "def grid(scale):\n    yield BASE.model_copy(update={'seed': -1})",
    "def grid(scale):\n    yield BASE.model_copy(update={'seed': float('nan')})",
    "def grid(scale):\n    yield type(BASE).model_construct(seed=10**400)",
    "def grid(scale):\n    yield with_values(BASE, {'nope.x': 1})",
    "def grid(scale):\n    yield with_values(BASE, {'seed.x': 1})",
    "def grid(scale):\n    yield with_values(BASE, {3: 1})",
    "def grid(scale):\n    yield with_values(BASE, {'lr': 1})",
    "def grid(scale):\n    yield with_values(BASE, {'search.nope': 1})",
    "RETRAININGS = float('inf')\ndef grid(scale):\n    yield BASE",
    "RETRAININGS = 100\ndef grid(scale):\n    yield from [BASE] * 20_000",
    "RETRAININGS = 3\ndef grid(scale):\n    yield with_values(BASE, {'seed': 2**31 - 1})",
    "def grid(scale):\n    yield with_values(BASE, {'seed': 2**31 - 1, 'search.best_of': 2})",
)


def refused(path: Path, tally: Tally, assignments: tuple[str, ...] = ()) -> str:
    with pytest.raises(UserError) as caught, ends():
        load_grid(str(path), "smoke", assignments)
    require_sentence(one_line(str(caught.value)))
    assert [one.name for one in path.parent.iterdir() if one.name != "__pycache__"] == [path.name]
    tally.note("refused")
    return str(caught.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the clock may strike in a callback
@pytest.mark.parametrize("kind", ENDLESS)
def test_a_grid_that_does_not_end(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally) -> None:
    monkeypatch.setenv(SECONDS_VARIABLE, "1")
    path = tmp_path / "mine.py"
    path.write_text(BASE + ENDLESS[kind])
    said = refused(path, tally)
    assert f"{MOST_POINTS:,} runs" in said or f"{SECONDS_VARIABLE}=600" in said


@pytest.mark.parametrize("text", WRONG)
def test_a_grid_that_is_none(text: str, tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / "mine.py"
    path.write_text(BASE + text)
    refused(path, tally)


@pytest.mark.parametrize("name", ["a b", "x" * 120, "-x", "a%b"])
def test_a_name_that_no_folder_of_runs_has(name: str, tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / f"{name}.py"
    path.write_text(BASE + "def grid(scale):\n    yield BASE")
    assert "Rename the file" in refused(path, tally)


@pytest.mark.parametrize("text", ["0", "-1", "x", "²", "1e9", "inf", "10**9"])
def test_a_clock_that_is_none(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally) -> None:
    monkeypatch.setenv(SECONDS_VARIABLE, text)
    path = tmp_path / "mine.py"
    path.write_text(BASE + "def grid(scale):\n    yield BASE")
    assert SECONDS_VARIABLE in refused(path, tally)


@pytest.mark.parametrize("text", TEXTS)
def test_seeds(text: str, tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / "mine.py"
    path.write_text(BASE + "def grid(scale):\n    yield BASE")
    if text not in ("1,5", "+3"):
        assert "seeds" in refused(path, tally, (f"seeds={text}",))


def test_seeds_are_counted_before_they_are_made(tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / "mine.py"
    path.write_text(BASE + "def grid(scale):\n    yield BASE\n    yield with_values(BASE, {'search.epochs': 3})")
    for seeds in ("1000000000", str(MOST_POINTS // 2 + 1)):
        assert "at most 20,000 runs" in refused(path, tally, (f"seeds={seeds}",))
    assert len(load_grid(str(path), "smoke", ["seeds=3,3,3"]).points) == 2


@generated(60)
@given(content=st.one_of(st.binary(max_size=60), texts().map(lambda text: text.encode(errors="replace"))))
def test_any_file(content: bytes, tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(content)
    refused(path, tally)


@generated(60)
@given(path=st.sampled_from(field_paths()), value=objects(), copied=st.booleans())
def test_any_point(path: str, value: Any, copied: bool, tmp_path: Path, tally: Tally) -> None:
    """A copy of a config is checked by nobody but the grid."""
    from ablations.grid.load import _points
    from cscdarts import apply_preset, protocol, with_values

    base = apply_preset(protocol("quickstart", "smoke"), "csc")
    section, _, leaf = path.rpartition(".")
    try:
        with ends():
            if copied and section:
                inner = getattr(base, section).model_copy(update={leaf: value})
                config = base.model_copy(update={section: inner})
            else:
                config = base.model_copy(update={path: value}) if copied else with_values(base, {path: value})
            (point,) = _points([config], {}, "smoke", 1)
        tally.note("accepted")
        assert len(point.hash) == 16
    except UserError as error:
        require_sentence(str(error))
        tally.note("refused")
