"""Checkpoints whose seal is right and whose content is not: the one before is used, or the stage starts afresh with one
line said, and the numbers are those of an undisturbed run. Nothing is deleted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cscdarts.errors import Stopped
from cscdarts.records.checkpoint import misfit, previous_of, read_state, write_sealed
from cscdarts.records.run_folder import RunFolder
from cscdarts.training.retrain import RetrainRun
from cscdarts.training.search import SearchRun, search
from tests.support.harness.old_runs import go, small_config

CPU = torch.device("cpu")
State = dict[str, Any]


def _without(key: str) -> Callable[[State], State]:
    return lambda state: {name: value for name, value in state.items() if name != key}


def _with(**values: Any) -> Callable[[State], State]:
    return lambda state: {**state, **values}


def _model(change: Callable[[dict[str, Any], str], object]) -> Callable[[State], State]:
    """Change the model's state, given the name of its first tensor."""

    def changed(state: State) -> State:
        part = "supernet" if "supernet" in state else "network"
        model = dict(state[part])
        change(model, next(iter(model)))
        return {**state, part: model}

    return changed


def _momentum(value: Any, number: int = 0) -> Callable[[State], State]:
    def changed(state: State) -> State:
        part = "weight_optimizer" if "weight_optimizer" in state else "optimizer"
        return {**state, part: {**state[part], "state": {number: {"momentum_buffer": value}}}}

    return changed


#: What is done to a good state.
WRONG: dict[str, Callable[[State], Any]] = {
    **{f"without {key}": _without(key) for key in ("epoch", "step", "seconds", "stage", "rng", "sums", "hash")},
    "without a form": _without("format"),
    "of another key": _with(hash="0" * 16),
    "of another stage": _with(stage="other"),
    "another form": _with(format=0),
    "an epoch that is a text": _with(epoch="1"),
    "an epoch beyond the last": _with(epoch=99),
    "an epoch before the first": _with(epoch=-1),
    "no step": _with(step=None),
    "no sums": _with(sums=None),
    "a generator of another size": _with(rng=torch.zeros(3, dtype=torch.uint8)),
    "a generator of another type": lambda state: {**state, "rng": state["rng"].float()},
    "no model": _model(lambda model, name: model.clear()),
    "a tensor too few": _model(lambda model, name: model.pop(name)),
    "a tensor too many": _model(lambda model, name: model.update(more=torch.zeros(1))),
    "a tensor of another shape": _model(lambda model, name: model.update({name: torch.zeros(2, 2)})),
    "a number for a tensor": _model(lambda model, name: model.update({name: 1.0})),
    "whole numbers for weights": _model(lambda model, name: model.update({name: model[name].long()})),
    "a momentum of another shape": _momentum(torch.zeros(2, 3, 5)),
    "a momentum of no parameter": _momentum(torch.zeros(1), 10_000),
    "a list": lambda state: [state],
}  # fmt: skip


def _seal(path: Path, state: Any) -> None:
    """Seal a state as it is, with the number of its form where it has one."""
    import hashlib
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    path.write_bytes(payload + b"cscdarts-seal-1:" + hashlib.sha256(payload).digest())


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose search is done and whose retraining has stopped in its last epoch."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("half") / "runs" / "mine" / small_config().hash
    path.mkdir(parents=True)
    assert go(path, small_config(), steps=None) == "done"
    return RunFolder(path)


@pytest.mark.parametrize("stage", ["search", "retrain"])
def test_each_wrong_state_is_known(half: RunFolder, stage: str) -> None:
    config, said = small_config(), list[str]()
    genotype = _genotype(half)
    run = (
        SearchRun(config, half, lambda: False, said.append) if stage == "search"
        else RetrainRun(config, half, genotype, lambda: False, said.append)
    )  # fmt: skip
    path = half.file(run.checkpoint)
    good, before = read_state(path, CPU), path.read_bytes()
    previous_of(path).unlink(missing_ok=True)
    try:
        for name, change in WRONG.items():
            _seal(path, change(good))
            fresh = {key: value.clone() for key, value in _model_of(run).items()}
            run.epoch = 0
            run.resume()
            assert run.epoch == 0, name
            assert "starts afresh" in said[-1], name
            assert all(torch.equal(value, fresh[key]) for key, value in _model_of(run).items()), name
            aside = path.parent / "damaged" / path.name
            assert aside.exists(), name
            assert not path.exists(), name
            aside.unlink()
            # The one before is taken where it is good.
            _seal(path, change(good))
            write_sealed(previous_of(path), good)
            run.resume()
            assert run.epoch == good["epoch"], name
            assert any(f"{path.name} is not used" in line for line in said[-3:]), name
            previous_of(path).unlink()
    finally:
        path.write_bytes(before)


def _genotype(folder: RunFolder) -> Any:
    from cscdarts.records.run_folder import read_record
    from cscdarts.spaces import parse_genotype

    found = read_record(folder.file("genotype.json"))
    assert found is not None
    return parse_genotype(found["text"], found["space"])


def _model_of(run: Any) -> Any:
    return (run.supernet if isinstance(run, SearchRun) else run.network).state_dict()


@pytest.mark.parametrize("good", [True, False], ids=["the one before is good", "none is good"])
def test_the_numbers_are_those_of_an_undisturbed_search(half: RunFolder, tmp_path: Path, good: bool) -> None:
    folder, config = RunFolder(tmp_path / "run"), small_config(runtime__checkpoint_minutes=0.0)  # one at each step
    folder.create(config)
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls == 3

    with pytest.raises(Stopped):
        search(config, folder, stop)
    path = folder.file("checkpoint.pt")
    assert previous_of(path).exists()
    wrong = WRONG["a tensor of another shape"](read_state(path, CPU))
    for one in (path,) if good else (path, previous_of(path)):
        _seal(one, wrong)
    said: list[str] = []
    search(config, folder, report=said.append)
    assert any("search resumed" in line for line in said) == good
    assert sum("starts afresh" in line for line in said) == (0 if good else 1)
    assert folder.alphas() == half.alphas()
    a, b = (read_state(one.file("checkpoint.pt"), CPU)["supernet"] for one in (folder, half))
    assert all(torch.equal(a[name], b[name]) for name in b)


def test_what_a_form_allows() -> None:
    wanted = {"a": torch.zeros(2, 3), "n": 1, "x": 0.5, "many": (torch.zeros(1), 0), "text": "t"}
    assert misfit(wanted, wanted) is None
    assert misfit({**wanted, "more": 1, "x": 2, "text": None}, wanted) is None
    assert misfit({**wanted, "a": torch.ones(2, 3, dtype=torch.float64)}, wanted) is None
    for key, value, said in (
        ("a", torch.zeros(3, 2), "a has shape"), ("a", torch.zeros(2, 3).long(), "a is of type"),
        ("a", torch.zeros(2, 3, dtype=torch.complex64), "a is of type"), ("a", [[0.0]], "a is no tensor"),
        ("n", 1.5, "n is no number"), ("n", True, "n is no number"), ("x", "1", "x is no number"),
        ("many", (torch.zeros(1),), "many is no list of 2"), ("many", (torch.zeros(2), 0), "many[0] has shape"),
    ):  # fmt: skip
        assert (misfit({**wanted, key: value}, wanted) or "").startswith(said)
