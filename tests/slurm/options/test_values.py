"""Values as people and sbatch write them: what each form means, and what is refused in one sentence."""

import math
from pathlib import Path
from typing import Any

import pytest

from slurm.backends.slurm.options.values import count, fractional_minutes, gib, megabytes, minutes
from slurm.backends.slurm.profile import Profile, load_profile
from slurm.errors import ClusterError

TIMES = {
    "1": 1, "90": 90, "0090": 90, "010": 10, "12:00": 12, "90:00": 90, "1:30": 2, "0:01": 1, "12:00:00": 720,
    "00:30:00": 30, "1:02:03": 63, "100:00:00": 6000, "1-0": 1440, "1-12": 2160, "0-2": 120, "1-12:30": 2190,
    "1-12:30:00": 2190, "1-12:30:01": 2191, "30-00:00:00": 43200, " 60 ": 60,
}  # fmt: skip
SIZES = {
    "4": 4.0, "4G": 4.0, "4g": 4.0, "4GB": 4.0, "4GiB": 4.0, "4 GB": 4.0, "512M": 0.5, "2048M": 2.0, "1.5T": 1536.0,
    "1048576K": 1.0, "0.5": 0.5, ".5": 0.5, "0": 0.0, "08": 8.0,
}  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), TIMES.items())
def test_every_form_of_a_time(text: str, wanted: int, tmp_path: Path) -> None:
    assert minutes(text) == wanted
    (tmp_path / "p.yaml").write_text(f"time_min: {text}\nsignal_s: 10\ngroups:\n  retrain:\n    time_min: {text}\n")
    profile = load_profile(str(tmp_path / "p.yaml"), variables={})
    assert (profile.time_min, profile.resources("retrain").time_min) == (wanted, wanted)
    assert load_profile("cpu", [f"time_min={text}", "signal_s=10"], {}).time_min == wanted
    assert profile.sbatch("n", 1, None, hold=True)["time"] == wanted


@pytest.mark.parametrize(
    "text",
    ["", "soon", "1.5", "1e3", "0x10", "1_000", "12:00:00:00", "1-", "-1-2", "1-2-3", ":30", "1:", "UNLIMITED", "inf",
     "nan", "١٢", "1,5", "12h", "12 hours", "true", "9" * 40],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_the_forms(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1-12:30:00"):
        minutes(text)
    if text:
        with pytest.raises(ClusterError, match=r"--slurm time_min.*not valid; allowed: .*1-12:30:00") as caught:
            load_profile("cpu", [f"time_min={text}"], {})
        assert "\n" not in str(caught.value)


def test_a_time_of_nothing_and_one_of_ages_are_refused() -> None:
    for text in ("0", "0:00", "00:00:00", "-5", "99999999", "99999-0"):
        with pytest.raises(ClusterError, match=r"greater than or equal to 1|less than or equal to"):
            load_profile("cpu", [f"time_min={text}"], {})


def test_minutes_with_decimals() -> None:
    given: list[tuple[Any, float]] = [
        ("0.3", 0.3),
        ("15", 15.0),
        ("1:30", 1.5),
        ("1:00:00", 60.0),
        (2, 2.0),
        (0.5, 0.5),
    ]
    for text, wanted in given:
        assert fractional_minutes(text) == pytest.approx(wanted)
    for text in ("inf", "nan", "soon", "1e999"):
        with pytest.raises(ValueError, match="a number of minutes"):
            fractional_minutes(text)


@pytest.mark.parametrize(("text", "wanted"), SIZES.items())
def test_every_form_of_an_amount(text: str, wanted: float) -> None:
    assert gib(text) == pytest.approx(wanted)
    asked = load_profile("cpu", [f"mem_gb={text}"], {}).sbatch("n", 1, None, hold=True)["mem"]
    assert asked == ("0" if wanted == 0 else f"{round(wanted * 1024)}MB")


@pytest.mark.parametrize("text", ["much", "4X", "-4", "4GG", "1e3", "inf", "nan", "4 5", "G", "4,5", "٤"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ClusterError, match=r"mem_gb.*allowed: .*(GiB, or an amount with a unit|greater than)"):
        load_profile("cpu", [f"mem_gb={text}"], {})


def test_no_amount_is_asked_for_as_less_than_a_megabyte() -> None:
    assert megabytes(2.0**-20) == "1MB", "zero would be all of the node"
    assert megabytes(1.5) == "1536MB"
    assert megabytes(0.3) == f"{math.ceil(0.3 * 1024)}MB"


def test_memory_per_core_and_per_gpu_take_the_place_of_memory_per_node(tmp_path: Path) -> None:
    def asked(profile: Profile) -> dict[str, Any]:
        return {k: v for k, v in profile.sbatch("n", 1, None, hold=True).items() if k.startswith("mem")}

    assert asked(load_profile("cpu", ["mem_per_cpu_gb=2G"], {})) == {"mem_per_cpu": "2048MB"}
    assert asked(load_profile("gpu", ["mem_per_gpu_gb=0.5T"], {})) == {"mem_per_gpu": "524288MB"}
    grouped = load_profile("gpu", ["groups.retrain.mem_per_cpu_gb=4"], {})
    assert asked(grouped.resources("retrain")) == {"mem_per_cpu": "4096MB"}
    assert asked(grouped.resources("search")) == {"mem": "32768MB"}
    (tmp_path / "p.yaml").write_text("mem_gb: 1\nmem_per_cpu_gb: 1\n")
    with pytest.raises(ClusterError, match="mem_gb and mem_per_cpu_gb cannot both hold"):
        load_profile(str(tmp_path / "p.yaml"), variables={})


@pytest.mark.parametrize(("text", "wanted"), [("8", 8), ("08", 8), ("0008", 8), ("+8", 8), (8, 8)])
def test_numbers_are_decimal(text: Any, wanted: int) -> None:
    assert count(text) == wanted


@pytest.mark.parametrize("text", ["1_000", "0x10", "0o17", "1e1", "8.0", "true", "four", "１２", True, 2.0, "9" * 30])
def test_what_is_no_number_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="an integer"):
        count(text)


def test_a_group_is_checked_with_its_own_limit() -> None:
    with pytest.raises(ClusterError, match=r"signal_s=180 leaves no time of groups\.search\.time_min=2"):
        load_profile("gpu", ["groups.search.time_min=2"], {})
