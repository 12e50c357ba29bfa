"""Files of another form than a command reads: each is one sentence that names the file and what it lacks."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.generated import Tally, generated, objects, outcome, tallied

tally = tallied("files")
#: Ways to give a file to a command.
WAYS = (
    ("check", "{}"), ("check", "11", "--benchmark", "index:{}"), ("check", "11", "--benchmark", "csv:{}"),
    ("check", "11", "--benchmark", "nats:{}"), ("check", "11", "--benchmark", "nasbench201:{}"),
    ("draw", "{}", "--out", "cell.svg"),    ("cost", "--genotype", "{}"), ("report", "diff", "{}", "{}"),
    ("benchmark", "index", "--csv", "{}", "--out", "t.parquet"),
    ("benchmark", "verify", "{}", "--against", "nats:{}"), ("export", "{}", "--out", "net.pt2"),
    ("ablate", "plan", "quickstart", "--scale", "smoke", "--on", "slurm:{}"), ("ablate", "plan", "{}"),
)  # fmt: skip


def give(way: tuple[str, ...], place: Path, name: str, tally: Tally) -> str:
    found = outcome([word.replace("{}", name) for word in way], place)
    tally.note(found.kind)
    return found.err if found.kind != "accepted" else ""


def plain(value: Any) -> Any:
    try:
        return json.dumps(value)
    except (TypeError, ValueError, UnicodeEncodeError):
        return "{}"


@generated(60)
@given(way=st.sampled_from(WAYS),
       content=st.one_of(st.binary(max_size=100), objects().map(plain).map(lambda text: text.encode(errors="replace"))),
       ending=st.sampled_from(["json", "txt", "yaml", "csv", "py", "parquet"]))  # fmt: skip
def test_any_file(way: tuple[str, ...], content: bytes, ending: str, tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / f"given.{ending}"
    path.write_bytes(content)
    give(way, tmp_path, path.name, tally)
    for one in tmp_path.iterdir():
        one.unlink() if one.is_file() else None


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_what_is_no_file(way: tuple[str, ...], tmp_path: Path, tally: Tally) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("link")
    for name in ("folder", "link", "gone", "folder/gone", "x" * 300, "/dev/null"):
        assert give(way, tmp_path, name, tally), (way, name)


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_a_json_of_another_form_says_what_it_lacks(way: tuple[str, ...], tmp_path: Path, tally: Tally) -> None:
    (tmp_path / "other.json").write_text('{"something": "else", "list": [1, 2]}')
    said = give(way, tmp_path, "other.json", tally)
    assert "other.json" in said
