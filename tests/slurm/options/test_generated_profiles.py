"""Every key of a profile, in its file and on the command line, against values that mean nothing: refused in one
sentence that names the key, or read, and then the script holds nothing but what was said."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.commands.options.terminal import one_line
from slurm.backends.slurm.options.resources import Resources
from slurm.backends.slurm.profile import Profile, load_profile
from slurm.errors import ClusterError
from tests.support.generated import LONG, TEXTS, Tally, ends, generated, objects, require_sentence, tallied, texts

tally = tallied("profiles")
KEYS = [*Profile.model_fields, *(f"groups.search.{key}" for key in Resources.model_fields)]
#: Shell, which bash reads in a process for each text; tried with fewer.
SHELL = {"setup"}


def attempt(key: str, tally: Tally, source: str, overrides: tuple[str, ...] = ()) -> Profile | None:
    try:
        with ends():
            profile = load_profile(source, overrides, {})
    except ClusterError as error:
        require_sentence(one_line(str(error)), key.rsplit(".", 1)[-1], Path(source).name)
        tally.note("refused")
        return None
    tally.note("accepted")
    return profile


def require_sound(profile: Profile) -> None:
    """One that sbatch can be given: no option of several lines, numbers within what SLURM counts."""
    for name, value in profile.sbatch("name", 1, None, False).items():
        if name not in ("setup", "additional_parameters"):
            assert isinstance(value, str | int | float | type(None)), name
            assert len(str(value).splitlines()) <= 1, (name, value)
            assert len(str(value)) < 20_000, name


def write(path: Path, key: str, value: Any) -> str:
    nested = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    path.write_text(json.dumps(nested, default=str), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("key", KEYS)
def test_each_key(key: str, tmp_path: Path, tally: Tally) -> None:
    for text in TEXTS if key not in SHELL else TEXTS[::8]:
        for profile in (
            attempt(key, tally, "cpu", (f"{key}={text}",)),
            attempt(key, tally, write(tmp_path / "mine.yaml", key, text)),
        ):
            if profile is not None:
                require_sound(profile)


@generated(150)
@given(key=st.sampled_from([key for key in KEYS if key not in SHELL]), value=objects())
def test_any_value_in_a_file(key: str, value: Any, tmp_path: Path, tally: Tally) -> None:
    profile = attempt(key, tally, write(tmp_path / "mine.yaml", key, value))
    if profile is not None:
        require_sound(profile)


@generated(100)
@given(content=st.one_of(st.binary(max_size=80), st.text("{}[]:,-&*!|>'\"% \n#?ab1", max_size=40).map(str.encode)))
def test_any_file(content: bytes, tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    attempt("", tally, str(path))


@generated(100)
@given(override=st.one_of(texts(), st.tuples(texts(), texts()).map("=".join)))
def test_any_override(override: str, tally: Tally) -> None:
    attempt("", tally, "cpu", (override,))


@pytest.mark.parametrize(
    "source", ["", " ", "no/such.yaml", "/", "x" * 300 + ".yaml", LONG + ".yaml", "~nobody/x.yaml", "a\0.yaml", "²"]
)
def test_what_names_no_profile(source: str, tally: Tally) -> None:
    attempt("", tally, source)
