"""Forecasts against what was published of GPUs, and the check of a GPU, which on a CPU only has to work."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from benchmarks.speed.forecast import cost_against_published, memory_against_published
from benchmarks.speed.gpu import check
from benchmarks.speed.gpu.check import PARTS
from benchmarks.speed.gpu.generated import write_images
from benchmarks.speed.gpu.setting import Finding, Setting


@pytest.mark.slow
def test_search_memory_is_within_15_percent_of_what_was_measured_on_gpus() -> None:
    """ROME, batch 64: DARTS 9.4 GB, PC-DARTS 5.7 (K=2) and 3.7 (K=4), GDAS 3.1."""
    held = list(memory_against_published())
    assert [(one.method, one.published) for one in held] == [
        ("DARTS", 9.4), ("PC-DARTS (K=2)", 5.7), ("PC-DARTS", 3.7), ("GDAS", 3.1),
    ]  # fmt: skip
    for one in held:
        assert abs(one.error_pct) < 15, one


@pytest.mark.slow
def test_search_costs_are_within_a_factor_of_two_of_published_ones() -> None:
    held = list(cost_against_published())
    assert [round(one.published, 1) for one in held] == [9.6, 24.0, 2.4, 3.0, 8.3]
    for one in held:
        assert 0.5 < one.forecast / one.published < 2, one


@pytest.mark.slow
@pytest.mark.parametrize("part", [name for name in PARTS if name != "seconds"])
def test_each_part_of_the_check_finds_what_holds(part: str, tmp_path: Path) -> None:
    """At a tiny size on the CPU; whatever is asked there holds."""
    found: list[Finding] = []
    check.run_part(part, Setting("cpu", True, tmp_path, float("inf")), found.append)
    assert found
    assert [one for one in found if one.holds is False] == []
    json.dumps([one.values for one in found])


def _fails(setting: Setting) -> Iterator[Finding]:
    yield Finding("first", "seen", "seen", True)
    raise RuntimeError("no such kernel\nand more")


def test_a_part_that_fails_is_a_line_and_keeps_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "equality", (_fails, 1))
    found: list[Finding] = []
    check.run_part("equality", Setting("cpu", True, tmp_path, float("inf")), found.append)
    assert [(one.name, one.holds) for one in found] == [("first", True), ("equality", False)]
    assert found[1].value == "RuntimeError: no such kernel"


def test_a_part_out_of_time_is_a_line(tmp_path: Path) -> None:
    """In a process of its own that is given no time to start: the table and the record are whole."""
    found = check._apart("equality", "cpu", True, tmp_path, -check._GRACE_S + 0.2)
    assert [(one["name"], one["holds"]) for one in found] == [("equality", False)]
    assert "out of time" in found[0]["value"]


def test_the_table_and_the_record_hold_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def apart(name: str, device: str, tiny: bool, place: Path, seconds: float) -> list[dict[str, Any]]:
        shares.append(seconds)
        return [{"name": name, "value": "1", "goal": "1", "holds": name != "resume", "values": None}]

    shares: list[float] = []
    monkeypatch.setattr(check, "_apart", apart)
    out = tmp_path / "new" / "record.json"
    result = CliRunner().invoke(check.gpu_check, ["--device", "cpu", "--tiny", "--seconds", "80", "--out", str(out)])
    assert result.exit_code == 1
    record = json.loads(out.read_text())
    assert [one["part"] for one in record["findings"]] == list(PARTS)
    assert record["environment"]["torch"] == torch.__version__
    assert "NO     resume" in result.output
    assert f"{len(PARTS) - 1} hold, 1 do not" in result.output
    # What a part leaves is shared among those after it, and the last has what is left.
    assert shares == sorted(shares) or shares[-1] == pytest.approx(80, abs=1)


def test_time_is_for_eight_minutes() -> None:
    assert sum(seconds for _, seconds in PARTS.values()) <= 8 * 60


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_gpu_the_check_says_what_works() -> None:
    result = CliRunner().invoke(check.gpu_check, [])
    assert result.exit_code != 0
    assert "torch sees no CUDA device" in str(result.exception)


def test_generated_images_are_written_once(tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", 20, 10, 4)
    assert len(list((root / "train").rglob("*.png"))) == 20
    first = (root / "test" / "class3" / "0.png").read_bytes()
    assert write_images(root, 40, 10, 4) == root
    assert (root / "test" / "class3" / "0.png").read_bytes() == first
    assert len(list((root / "train").rglob("*.png"))) == 20
