"""A sweep is the grid that a person would have written with the same loops, in a file that a person would keep."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.grid.load import load_grid
from ablations.grid.sweep import read_sweep, require_distinct
from ablations.grid.written import command_of, default_name, grid_text
from cscdarts import apply_preset, protocol, with_values
from cscdarts.settings.optimiser_recipes import PROFILES
from cscdarts.settings.overrides import field_paths, holds_commas, words_of
from tests.support.harness.slurm_site import Site

ROOT = Path(__file__).parents[3]
Line = Callable[..., tuple[int, str, str]]


def written(folder: Path, *given: object, scale: str = "smoke") -> tuple[Path, list[str]]:
    """The file of a sweep, and the hashes of its runs."""
    sweep = read_sweep(*given)  # type: ignore[arg-type]
    path = folder / f"{default_name(sweep)}.py"
    path.write_text(grid_text(sweep, path.stem, scale))
    return path, [point.hash for point in load_grid(str(path), scale).points]


def test_it_is_the_loops_that_one_would_write(tmp_path: Path) -> None:
    _, found = written(tmp_path, ["quickstart"], ["csc"], ["split_ratio=1,1/2,1/4", "search.epochs=2"], "3")
    base = apply_preset(protocol("quickstart", "smoke"), "csc")
    wanted = [
        with_values(base, {"seed": seed, "supernet.split_ratio": ratio, "search.epochs": 2}).hash
        for seed in (0, 1, 2)
        for ratio in ("1", "1/2", "1/4")
    ]
    assert found == list(dict.fromkeys(wanted))


def test_protocols_presets_profiles_lists_and_seeds(tmp_path: Path) -> None:
    ops = ("none,skip_connect", "none,nor_conv_3x3,skip_connect")
    given = [f"supernet.ops={';'.join(ops)}", "profile=pcdarts,darts", "search.alpha_warmup=1", "search.epochs=2,3"]
    _, found = written(tmp_path, ["quickstart", "nasbench201"], ["csc,darts1"], given, "7-8")
    wanted = [
        with_values(
            apply_preset(protocol(recipe, "smoke"), preset),
            {
                "supernet.ops": tuple(names.split(",")), **PROFILES[profile], "search.alpha_warmup": 1,
                "search.epochs": epochs, "seed": seed,
            },
        ).hash
        for seed in (7, 8)
        for recipe in ("quickstart", "nasbench201")
        for preset in ("csc", "darts1")
        for names in ops
        for profile in ("pcdarts", "darts")
        for epochs in (2, 3)
    ]  # fmt: skip
    assert found == list(dict.fromkeys(wanted))


@pytest.mark.parametrize(
    ("seeds", "numbers"),
    [("3", [0, 1, 2]), ("5-5", [5]), ("100-119", list(range(100, 120))), ("7,1", [7, 1]), (" 2 ", [0, 1])],
)
def test_seeds(seeds: str, numbers: list[int], tmp_path: Path) -> None:
    sweep = read_sweep(["quickstart"], ["csc"], [], seeds)
    assert list(sweep.seeds) == numbers
    assert command_of(sweep, default_name(sweep))[-1] == seeds.strip()
    path, found = written(tmp_path, ["quickstart"], ["csc"], [], seeds)
    assert len(found) == len(numbers)
    assert found == [point.hash for point in load_grid(str(path), "smoke").points]


@pytest.mark.parametrize(
    "given",
    [
        ['labels.note=a"b;it\'s;x,y;back\\slash;three """ quotes;ä'],
        ["search.epochs=2,3", "evaluation.epochs=1,2", "evaluation.seed=4,5", "shuffle=true,false"],
        ["runtime.data_root=" + "a long name " * 9, "search.lr=" + ",".join(f"0.0{n}" for n in range(1, 60))],
        ["supernet.space=darts,nasbench201"],
    ],
    ids=["quotes", "same names", "long", "word"],
)
def test_the_file_is_clean(given: list[str], tmp_path: Path) -> None:
    sweep = read_sweep(["quickstart"], ["csc"], given, "2")
    path = tmp_path / f"{default_name(sweep)}.py"
    path.write_text(grid_text(sweep, path.stem, "smoke"), encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff"]
    for width in ("88", "120"):
        command = [*ruff, "format", "--isolated", "--check", "--line-length", width, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + path.read_text()
    rules = ["--isolated", "--select", "F,W,I,UP,B,C4,SIM,PERF"]
    done = subprocess.run([*ruff, "check", *rules, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    wanted = [config.hash for _, config in sweep.runs("smoke")]
    assert [point.hash for point in load_grid(str(path), "smoke").points] == list(dict.fromkeys(wanted))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--preset", "nonsense"], "--preset: 'nonsense'"),
        (["--preset", "csc,csc"], "each name once"),
        (["--protocol", "cifar"], "--protocol: 'cifar'"),
        (["--set", "split_ratio"], "KEY=VALUE,VALUE"),
        (["--set", "nonsense=1"], "--set: 'nonsense'"),
        (["--set", "split_ratio=1,,2"], "none empty"),
        (["--set", "split_ratio=1,1"], "each value once"),
        (["--set", "split_ratio=1", "--set", "supernet.split_ratio=1/2"], "each setting once"),
        (["--set", "split_ratio=1/2,1/0"], "supernet.split_ratio: '1/0'"),
        (["--set", "profile=sgd"], "darts, pcdarts"),
        (["--set", "seed=1,2"], "--seeds"),
        (["--set", "split_ratio=1/2,2/4"], "supernet.split_ratio=1/2 and supernet.split_ratio=2/4 give the same run"),
        (["--set", "runtime.threads=1,2"], "give the same run"),
        (["--set", "split_ratio=1/2,1/16"], "leaves fewer than 2 channels"),
        (["--seeds", "0"], "--seeds: '0'"),
        (["--seeds", "5-3"], "--seeds: '5-3'"),
        (["--seeds", "1,1"], "--seeds: '1,1'"),
        (["--seeds", "x"], "--seeds: 'x'"),
        (["--seeds", "99999999"], "at most 20,000 runs"),
        (["--seeds", "200", "--set", "search.epochs=" + ",".join(map(str, range(1, 200)))], "at most 20,000 runs"),
        (["--name", "quickstart"], "--name: 'quickstart'"),
        (["--name", "a/b"], "--name: 'a/b'"),
        (["--name", "a b"], "'a b'"),
        (["--on", "slurm:nowhere"], "slurm:cpu"),
        (["--set", "data.dataset=image-folder", "--data-root", "nowhere"], "nowhere"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_wrong_input_is_one_sentence_and_no_file(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: Line
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command_line("sweep", "--scale", "smoke", *words)
    assert code == 2, err
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_two_methods_share_is_named(tmp_path: Path) -> None:
    sweep = read_sweep(["quickstart"], ["csc", "darts2"], ["split_ratio=1", "identity=none"], "1")
    (told,) = require_distinct(sweep, "smoke")
    assert told.startswith("preset=csc and preset=darts2 are one run")


def test_the_file_is_written_once_and_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: Line
) -> None:
    monkeypatch.chdir(tmp_path)
    begun: list[list[str]] = []

    def begin(driver: object, *_: object) -> int:
        begun.append([point.hash for point in driver.grid.points])  # type: ignore[attr-defined]
        return 0

    monkeypatch.setattr("ablations.commands.sweep.begin", begin)
    words = ["sweep", "--scale", "smoke", "--set", "split_ratio=1,1/2", "--seeds", "2"]
    code, out, err = command_line(*words, "--plan")
    assert (code, list(tmp_path.iterdir()), begun) == (0, [], [])
    assert "would run 4" in out
    path = tmp_path / "sweep_split_ratio.py"
    assert command_line(*words)[0] == 0
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert command_line(*words)[0] == 0
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert begun[0] == begun[1] == [point.hash for point in load_grid(str(path), "smoke").points]
    assert len(begun[0]) == 4

    code, _, err = command_line(*words[:-1], "3")
    assert code == 2
    assert "--name" in err
    path.write_bytes(b"\xff\n")
    assert command_line(*words)[0] == 2
    assert path.read_bytes() == b"\xff\n"
    assert command_line(*words, "--name", "other")[0] == 0
    assert "--name other" in (tmp_path / "other.py").read_text()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["other.py", "sweep_split_ratio.py"]


def test_it_runs_as_any_grid_and_a_second_call_runs_nothing(site: Site) -> None:
    words = ["sweep", "--scale", "smoke", "--set", "split_ratio=1,1/2", "--set", "search.epochs=1"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    for told in ("2 to run here", "0 to run here"):
        command = [sys.executable, "-m", "tests.support.harness.drive", *words]
        done = subprocess.run(command, cwd=site.path, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert told in done.stdout
        assert "sweep_split_ratio: 2 runs: 2 done" in done.stdout
    runs = [path.name for path in (site.path / "runs" / "sweep_split_ratio").iterdir() if len(path.name) == 16]
    points = load_grid(str(site.path / "sweep_split_ratio.py"), "smoke").points
    assert sorted(runs) == sorted(point.hash for point in points)


def test_what_a_setting_takes() -> None:
    assert words_of("supernet.identity") == ["cell", "edge", "none"]
    assert words_of("data.flip") == ["true", "false", "null"]
    assert words_of("search.epochs") == words_of("data.image_size") == words_of("runtime.data_root") == []
    assert {path for path in field_paths() if holds_commas(path)} >= {"supernet.ops", "labels.note"}
    assert not any(map(holds_commas, ("seed", "supernet.split_ratio", "supernet.identity", "search.lr")))
