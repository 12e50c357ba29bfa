"""A retraining as a run: its network, width, precision, lines, checkpoints and what stops it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cscdarts.errors import NumericalError, Stopped
from cscdarts.models.cost import fit_channels, network_cost
from cscdarts.models.network import Network
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import with_values
from cscdarts.spaces import parse_genotype
from cscdarts.training.retrain import RetrainRun
from tests.support.records import written
from tests.support.training.plain_training import seeded
from tests.support.training.retraining import CLASSES, GENOTYPE, config, distance


def made(settings: RunConfig, path: Path) -> tuple[RetrainRun, list[str]]:
    """A run and the lines it says, those on its data left out."""
    path.mkdir(exist_ok=True)
    said: list[str] = []

    def report(line: str) -> None:
        if not line.startswith("data: "):
            said.append(line)

    return RetrainRun(settings, RunFolder(path), parse_genotype(GENOTYPE), lambda: False, report), said


def test_the_network_is_that_of_the_config_initialised_by_the_retraining_seed(tree: Path, tmp_path: Path) -> None:
    run, _ = made(config(tree), tmp_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(11, "network").initial_seed())
        expected = Network(
            parse_genotype(GENOTYPE), config(tree).evaluation, config(tree).supernet, "cell", CLASSES, 3, False
        )  # fmt: skip
    assert distance(run.network, expected) == 0
    other, _ = made(config(tree, **{"evaluation.seed": 12}), tmp_path)
    assert distance(run.network, other.network) > 0
    assert other.network.dropper.world == 1


def test_the_identity_of_the_evaluation_phase_is_built(tree: Path, tmp_path: Path) -> None:
    without, _ = made(config(tree, **{"supernet.identity_phases": "search"}), tmp_path)
    with_it, _ = made(config(tree), tmp_path)
    x = torch.randn(2, 3, 8, 8)
    assert not torch.allclose(without.network.eval()(x)[0], with_it.network.eval()(x)[0])
    alone, _ = made(config(tree, **{"supernet.identity_phases": "eval"}), tmp_path)
    assert torch.equal(alone.network.eval()(x)[0], with_it.network.eval()(x)[0])


def test_the_width_is_fitted_to_a_limit_of_macs(tree: Path, tmp_path: Path) -> None:
    settings = config(tree, **{"evaluation.fit_macs_m": 0.5, "evaluation.epochs": 0})
    run, said = made(settings, tmp_path)
    shape = (settings.supernet, "cell", CLASSES, 3, 8)
    widest = fit_channels(parse_genotype(GENOTYPE), settings.evaluation, *shape, limit_macs=0.5e6)
    assert widest > settings.evaluation.channels
    assert run.settings.channels == widest
    assert said == [f"{widest} channels fit 0.5 M MACs"]
    assert run.cost.macs <= 0.5e6
    run.finish()
    assert written(run.folder.file("result.json"))["channels"] == widest
    assert run.network.classifier.in_features == 4 * 4 * widest  # twice doubled, four nodes


def test_a_limit_one_mac_short_of_a_width_takes_the_one_below(tree: Path, tmp_path: Path) -> None:
    settings = config(tree, **{"evaluation.epochs": 0, "evaluation.channels": 32})
    wider = network_cost(parse_genotype(GENOTYPE), settings.evaluation, settings.supernet, "cell", CLASSES, 3, 8).macs
    assert wider > 2e6  # then a limit wrong by a millionth would let it in
    run, _ = made(with_values(settings, {"evaluation.fit_macs_m": (wider - 1) / 1e6}), tmp_path)
    assert run.settings.channels == 30


@pytest.mark.parametrize(("precision", "dtype"), [("none", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_holds_in_training_and_testing(
    precision: str, dtype: torch.dtype, tree: Path, tmp_path: Path
) -> None:
    run, _ = made(config(tree, **{"evaluation.amp": precision}), tmp_path)
    seen: list[tuple[bool, torch.dtype]] = []
    run.network.classifier.register_forward_hook(lambda layer, _, out: seen.append((layer.training, out.dtype)))
    run.train_epoch()
    run.finish()
    assert set(seen) == {(True, dtype), (False, dtype)}
    assert not run.scaler.is_enabled()


def test_fp16_losses_are_scaled_and_gradients_scaled_back_before_they_are_clipped(tree: Path, tmp_path: Path) -> None:
    """The CPU has no gradients in fp16 worth having; what is checked is that the scale is not clipped at."""
    run, _ = made(config(tree, **{"evaluation.amp": "fp16"}), tmp_path)
    assert run.scaler.is_enabled()
    plain, _ = made(config(tree), tmp_path)
    run.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    run.settings = plain.settings  # float32 passes, so that both can be compared
    run.train_epoch()
    plain.train_epoch()
    assert distance(run.network, plain.network) < 1e-5


def test_a_failed_compilation_is_told_and_the_run_goes_on(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    run, said = made(config(tree, **{"evaluation.compile": True}), tmp_path)
    plain, _ = made(config(tree), tmp_path)
    run.train_epoch()
    plain.train_epoch()
    assert distance(run.network, plain.network) == 0
    assert sum("torch.compile failed" in line for line in said) == 1


def test_the_lines_and_numbers_of_an_epoch(tree: Path, tmp_path: Path) -> None:
    run, said = made(config(tree), tmp_path)
    run.train_epoch()
    spent = run.epoch_seconds
    assert 0 < spent < 100
    run.close_epoch()
    values = run.folder.curves()[-1]["values"]
    assert values["retrain_epoch_time_s"] == spent
    assert said == [f"retrain epoch 1/5 loss {values['retrain_train_loss']:.4f} {spent:.1f}s"]
    assert (run.epoch, run.step, run.seconds, float(run.sums.abs().sum())) == (1, 0, spent, 0.0)


def test_a_loss_that_is_not_finite_is_told_by_its_step(tree: Path, tmp_path: Path) -> None:
    run, _ = made(config(tree), tmp_path)
    run.epoch = 2
    batch = next(run.data.train.batches(2))
    run.step = 1
    run._move((batch[0] * float("inf"), batch[1]))
    with pytest.raises(NumericalError, match="retrain: training loss is not finite at epoch 2, step 1"):
        run._look(last=False)
    run.sums = torch.tensor([float("nan"), 0.0, 2.0])
    with pytest.raises(NumericalError, match="training loss is not finite at epoch 2, step 1"):
        run.close_epoch()
    assert run.folder.file("broken.pt").exists()
    assert run.folder.curves() == []


def test_a_checkpoint_in_the_middle_of_an_epoch_goes_on_where_it_was(tree: Path, tmp_path: Path) -> None:
    whole, _ = made(config(tree), tmp_path / "whole")
    whole.train_epoch()
    whole.close_epoch()
    asked: list[bool] = [True]
    run, said = made(config(tree), tmp_path / "parts")
    run.stop = lambda: bool(asked)
    with pytest.raises(Stopped):
        run.train_epoch()
    again, said = made(config(tree), tmp_path / "parts")
    again.resume()
    assert said == ["retrain resumed at epoch 1, step 1"]
    again.train_epoch()
    again.close_epoch()
    assert distance(again.network, whole.network) == 0
    numbers = [run.folder.curves()[-1]["values"]["retrain_train_loss"] for run in (again, whole)]
    assert numbers[0] == numbers[1]
