"""What a search writes down: each number of an epoch and of `search.json` against its own computation."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cscdarts.data.open import open_data
from cscdarts.data.source import Place
from cscdarts.errors import NumericalError
from cscdarts.models.channel_split import Split
from cscdarts.models.cost import supernet_cost
from cscdarts.records.checkpoint import read_state
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import search_key
from cscdarts.settings.overrides import build, with_values
from cscdarts.spaces import parse_genotype, random_genotype
from cscdarts.training.build import build_supernet
from cscdarts.training.derivation import derive, genotype_of_line
from cscdarts.training.one_shot import discrete_mixing, error_pct
from cscdarts.training.search import SearchRun, search
from tests.support.records import written
from tests.support.training.plain_training import Pictures, batches, cross_entropy, seeded

CPU = torch.device("cpu")


def config(**values: Any) -> RunConfig:
    sizes = {
        "seed": 6,
        "data.search_fraction": 0.03,
        "supernet.space": "nasbench201",
        "supernet.channels": 4,
        "supernet.cells": 1,
        "supernet.identity_phases": "search",  # what the search's numbers are asked for is its own phase
        "search.order": 1,
        "search.epochs": 2,
        "search.batch_size": 10,
        "search.alpha_lr": 0.3,
        "search.alpha_warmup": 0,
        "runtime.device": "cpu",
        "runtime.threads": 1,
    }
    return with_values(build({}), sizes | values)


def searched(path: Path, **values: Any) -> tuple[RunFolder, list[str]]:
    folder = RunFolder(path)
    said: list[str] = []
    settings = config(**values)
    folder.create(settings)
    search(settings, folder, report=said.append)
    return folder, said


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, list[str]]:
    return searched(tmp_path_factory.mktemp("done"))


def trained(settings: RunConfig, folder: RunFolder) -> Any:
    """The supernet as its checkpoint holds it, and the half of the architecture."""
    data = open_data(settings.data, "digits", Path("unused"), Place(CPU), settings.search.batch_size, settings.seed)
    supernet = build_supernet(settings, data, CPU)
    supernet.load_state_dict(read_state(folder.file("checkpoint.pt"), CPU)["supernet"])
    return supernet, data.halves(settings.data)[1]


def test_the_numbers_of_the_last_epoch(done: tuple[RunFolder, list[str]]) -> None:
    folder, said = done
    settings = folder.config()
    line = folder.curves()[-1]
    assert (line["stage"], line["epoch"], line["step"]) == ("search", 1, 2)
    values = line["values"]
    supernet, half = trained(settings, folder)
    supernet.eval()
    with torch.no_grad():
        logits = supernet((half.images.float() / 255 - half.mean) / half.std)
    error = 100 * float((logits.argmax(1) != half.labels).double().mean())
    assert values["search_valid_loss"] == pytest.approx(float(cross_entropy(logits.double(), half.labels)), rel=1e-4)
    assert values["search_valid_error_pct"] == pytest.approx(error)
    # Cosine from 0.025 to 0.001: half way at epoch 1 of 2.
    assert values["weight_lr"] == pytest.approx(0.013)
    assert values["identity_scale"] == 1.0
    alpha = supernet.alphas["cell"].detach().double()
    shares = alpha.softmax(1)
    assert values["alpha_entropy"] == pytest.approx(float(-(shares * shares.log()).sum(1).mean()), rel=1e-5)
    cell = [settings.supernet.ops[int(k)] for k in alpha.argmax(1)]  # type: ignore[index]
    assert values["skip_count"] == cell.count("skip_connect")
    assert values["skip_share_pct"] == pytest.approx(100 * cell.count("skip_connect") / 6)
    genotype = genotype_of_line(settings.supernet, folder.alphas()[-1])
    discrete = error_pct(supernet, half, discrete_mixing(supernet, genotype), limit=None)
    assert values["discretisation_gap_pct"] == pytest.approx(discrete - error)
    assert 0 < values["search_epoch_time_s"] < 60
    assert torch.tensor(folder.alphas()[-1]["alpha"]["cell"]).equal(supernet.alphas["cell"])
    assert [entry["epoch"] for entry in folder.alphas()] == [0, 1]
    loss = values["search_train_loss"]
    assert said[-1].startswith(f"search epoch 2/2 loss {loss:.4f} valid error {error:.2f}% ")


def test_the_training_loss_and_error_are_means_over_the_steps_of_the_epoch(tmp_path: Path) -> None:
    """Before any step that changes a weight: with a learning rate of nothing, every pass is one of the first
    weights."""
    folder, _ = searched(
        tmp_path, **{"search.lr": 1e-30, "search.lr_min": 0.0, "search.alpha_lr": 1e-30, "search.epochs": 1}
    )
    settings = folder.config()
    run = SearchRun(settings, RunFolder(tmp_path / "again"), lambda: False, lambda line: None)
    half = run.train
    pictures = Pictures(half.images, half.labels, half.mean.flatten().tolist(), half.std.flatten().tolist())  # type: ignore[attr-defined]
    losses, wrong = [], []
    for images, labels in batches(pictures, 6, "weights", 0, 10, padding=1, flip=False, cutout=0):
        with torch.no_grad():
            logits = run.supernet(images.float())
        losses.append(float(cross_entropy(logits.double(), labels)))
        wrong += (logits.argmax(1) != labels).tolist()
    values = folder.curves()[0]["values"]
    assert len(losses) == 2
    assert values["search_train_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert values["search_train_error_pct"] == pytest.approx(100 * np.mean(wrong))


def test_an_epoch_counts_each_of_its_steps(tmp_path: Path) -> None:
    folder, _ = searched(tmp_path, **{"data.search_fraction": 0.06, "search.epochs": 1})
    steps = SearchRun(folder.config(), RunFolder(tmp_path / "again"), lambda: False, lambda line: None).train.steps
    assert folder.curves()[-1]["step"] == steps >= 4


def test_the_cost_is_asked_for_the_identity_of_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def cost(supernet: Any, identity: str, *sizes: Any, **more: Any) -> Any:
        asked.append(identity)
        return supernet_cost(supernet, identity, *sizes, **more)

    monkeypatch.setattr("cscdarts.training.stages.costs.supernet_cost", cost)
    searched(tmp_path, **{"search.epochs": 1})
    assert asked == ["cell"]


def test_search_json(done: tuple[RunFolder, list[str]]) -> None:
    folder, _ = done
    settings = folder.config()
    found = written(folder.file("search.json"))
    lines = folder.curves()
    cost = supernet_cost(settings.supernet, "cell", 10, 1, 8, batch=10)
    values = found["values"]
    assert values["supernet_valid_error_pct"] == lines[-1]["values"]["search_valid_error_pct"]
    assert values["search_time_s"] == pytest.approx(sum(line["values"]["search_epoch_time_s"] for line in lines))
    assert values["supernet_params_m"] == cost.params / 1e6
    assert values["supernet_macs_m"] == cost.macs / 1e6
    assert values["memory_access_mb"] == cost.memory_access_bytes / 1e6
    assert 0.05 < values["saved_mb"] < 50
    assert values["peak_memory_mib"] > 0
    data = open_data(settings.data, "digits", Path("unused"), Place(CPU), 10, 0)
    assert found["data"] == data.record()
    assert found["key"] == search_key(settings).id
    assert {"dataset": "digits", "label": data.label, "sha256": data.sha256}.items() <= found["data"].items()
    assert found["finished_at"] > 1.6e9
    assert "genotype" not in found


def test_alpha_begins_near_0(tmp_path: Path) -> None:
    """quark0/darts: 1e-3 times normal draws; other draws for another seed, the same for the same."""

    def alphas(**values: Any) -> torch.Tensor:
        settings = config(**{"supernet.space": "darts", "supernet.cells": 3, **values})
        data = open_data(settings.data, "digits", Path("unused"), Place(CPU), 10, settings.seed)
        return torch.cat([a.detach().flatten() for a in build_supernet(settings, data, CPU).architecture()])

    first = alphas()
    assert len(first) == 2 * 14 * 8
    assert 0.8e-3 < float(first.std()) < 1.2e-3
    assert abs(float(first.mean())) < 0.3e-3
    assert torch.equal(first, alphas())
    assert not torch.equal(first, alphas(seed=7))
    assert torch.allclose(1000 * first, alphas(**{"search.alpha_init_std": 1.0}), rtol=1e-4)


def test_edge_parameters_are_written_and_read_back(tmp_path: Path) -> None:
    folder, _ = searched(tmp_path, **{"supernet.edge_norm": True, "search.epochs": 1})
    supernet, _ = trained(folder.config(), folder)
    (line,) = folder.alphas()
    assert torch.tensor(line["beta"]["cell"]).equal(supernet.betas["cell"])


def test_the_searched_data_may_be_other_than_the_retrained(tmp_path: Path) -> None:
    folder, _ = searched(tmp_path, **{"data.dataset": "cifar10", "data.search_dataset": "digits", "search.epochs": 1})
    assert written(folder.file("search.json"))["data"]["dataset"] == "digits"


def test_a_label_of_the_run_names_the_data(tmp_path: Path) -> None:
    folder, _ = searched(tmp_path, **{"labels.data": "Our digits", "search.epochs": 1})
    assert written(folder.file("search.json"))["data"]["label"] == "Our digits"


# --- strategies that draw -------------------------------------------------------------------------


def test_random_search_with_sharing_trains_one_drawn_path_a_step_and_keeps_the_best_of_its_candidates(
    tmp_path: Path,
) -> None:
    folder, _ = searched(tmp_path, **{"search.strategy": "random-ws", "search.random_candidates": 4})
    settings = folder.config()
    found = written(folder.file("search.json"))
    supernet, half = trained(settings, folder)
    draw = np.random.default_rng(seeded(6, "candidates").initial_seed())
    candidates = [random_genotype("nasbench201", draw) for _ in range(4)]
    errors = [error_pct(supernet, half, discrete_mixing(supernet, cell), None) for cell in candidates]
    assert found["candidates"] == 4
    assert found["candidate_error_pct"] == pytest.approx(min(errors))
    assert parse_genotype(found["genotype"]) == candidates[errors.index(min(errors))]
    # Alpha has not moved.
    assert folder.alphas()[0]["alpha"] == folder.alphas()[1]["alpha"]


def test_paths_are_drawn_by_epoch_and_step(tmp_path: Path) -> None:
    run = SearchRun(config(**{"search.strategy": "random-ws"}), RunFolder(tmp_path), lambda: False, lambda line: None)
    for epoch, step in ((0, 0), (1, 1)):
        run.epoch, run.step = epoch, step
        run._draw()
        draw = np.random.default_rng(seeded(6, "path", epoch, step).initial_seed())
        expected = discrete_mixing(run.supernet, random_genotype("nasbench201", draw))
        assert torch.equal(run.mixing["cell"][0], expected["cell"][0])


def test_channels_are_drawn_by_epoch_and_step(tmp_path: Path) -> None:
    run = SearchRun(config(**{"supernet.split_pick": "random"}), RunFolder(tmp_path), lambda: False, lambda line: None)
    for epoch, step in ((0, 0), (1, 1)):
        run.epoch, run.step = epoch, step
        run._draw()
        draw = seeded(6, "channels", epoch, step)
        for split in (layer for layer in run.supernet.modules() if isinstance(layer, Split)):
            assert split.order is not None
            assert torch.equal(split.order, torch.randperm(split.channels, generator=draw))


def test_random_architectures_are_drawn_by_the_seed(tmp_path: Path) -> None:
    folder, said = searched(tmp_path, **{"search.strategy": "random"})
    draw = np.random.default_rng(seeded(6, "architecture").initial_seed())
    cell = str(random_genotype("nasbench201", draw))
    found = written(folder.file("search.json"))
    assert found["genotype"] == cell
    assert found["key"] == search_key(folder.config()).id
    assert found["values"] == {"search_time_s": 0.0}
    assert found["finished_at"] > 1.6e9
    assert said == [f"sampled {cell}"]


def test_a_given_cell_is_recorded_without_data_or_training(tmp_path: Path) -> None:
    cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|"
    nowhere = {"data.dataset": "image-folder", "runtime.data_root": str(tmp_path / "nothing")}
    folder, said = searched(tmp_path, **{"search.strategy": "given", "search.genotype": cell, **nowhere})
    found = written(folder.file("search.json"))
    assert found["genotype"] == cell
    assert found["values"] == {"search_time_s": 0.0}
    assert said == [f"given {cell}"]
    assert not {"alphas.jsonl", "metrics.jsonl", "checkpoint.pt"} & {path.name for path in tmp_path.iterdir()}
    assert str(derive(folder.config(), folder)) == cell
    record = written(folder.file("genotype.json"))
    assert [record[key] for key in ("text", "epoch", "rule", "why")] == [cell, 0, "given", "the cell was given"]
    assert "values" not in record


@pytest.mark.parametrize("rule", ["last", "best", "skip-stop", "skip-cap"])
def test_a_given_cell_stays_whole_under_every_rule(tmp_path: Path, rule: str) -> None:
    cell = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
    values = {"search.strategy": "given", "search.genotype": cell, "search.derive": rule}
    folder, _ = searched(tmp_path, **values)
    assert str(derive(folder.config(), folder)) == cell


# --- probes and guards ----------------------------------------------------------------------------


def test_probes_look_at_the_first_batches_of_the_epoch(tmp_path: Path) -> None:
    run = SearchRun(
        config(**{"search.cosine_every": 1, "search.hessian_every": 2}),
        RunFolder(tmp_path),
        lambda: False,
        lambda line: None,
    )
    run.weight_optimizer.param_groups[0]["lr"] = 0.07
    train, valid = next(run.train.batches(0)), next(run.valid.batches(0))
    assert run._probes() == {"hvp_cosine": pytest.approx(run.alpha_step.product_cosine(train, valid, 0.07), rel=1e-4)}
    run.epoch = 1
    found = run._probes()
    assert set(found) == {"hvp_cosine", "alpha_hessian_eigenvalue"}
    valid = next(run.valid.batches(1))
    assert found["alpha_hessian_eigenvalue"] == pytest.approx(run.alpha_step.hessian_eigenvalue(valid), rel=1e-3)


def test_the_step_of_a_broken_loss_is_named(tmp_path: Path) -> None:
    """The losses looked at together are told apart by their steps; alpha is looked at as well."""
    run = SearchRun(config(), RunFolder(tmp_path), lambda: False, lambda line: None)
    run.epoch = 1
    for step, loss in ((3, 1.0), (4, math.inf), (5, math.nan)):
        run.watch.note(step, {"training loss": torch.tensor(loss)})
    with pytest.raises(NumericalError, match="training loss is not finite at epoch 1, step 4"):
        run._look(last=False)
    run.watch.note(6, {"training loss": torch.tensor(1.0)})
    run._look(last=False)
    with torch.no_grad():
        run.supernet.alphas["cell"][0, 0] = math.inf
    for step in (7, 8):
        run.watch.note(step, {"training loss": torch.tensor(1.0)})
    with pytest.raises(NumericalError, match=r"alphas\.cell is not finite at epoch 1, step 8"):
        run._look(last=True)


def test_a_broken_edge_parameter_is_named(tmp_path: Path) -> None:
    run = SearchRun(config(**{"supernet.edge_norm": True}), RunFolder(tmp_path), lambda: False, lambda line: None)
    with torch.no_grad():
        run.supernet.betas["cell"][0] = math.nan
    run.watch.note(1, {"training loss": torch.tensor(1.0)})
    with pytest.raises(NumericalError, match=r"betas\.cell"):
        run._look(last=True)
