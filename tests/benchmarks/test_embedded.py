"""The embedded benchmark: many cells at once equal one at a time, and the files say what the shards said."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.embedded.build import assemble
from benchmarks.embedded.nats_form import export
from benchmarks.embedded.network import BatchedCells
from benchmarks.embedded.protocol import Protocol, Skeleton
from benchmarks.embedded.table import FOLDER, card, costs, embedded_table, results
from benchmarks.embedded.trainer import _nesterov, digits, prepare, train_all, train_unit, units
from benchmarks.official.nats import NatsBench
from benchmarks.official.table import table_of
from benchmarks.tabular.isomorphism import all_cells, classes, live_edges
from benchmarks.tabular.space import SIZE, network_classes, official_archs, read_cell
from benchmarks.tabular.table import Table
from cscdarts.errors import UserError
from cscdarts.spaces import NASBENCH201

TINY = Protocol(seeds=(1, 2, 3), epochs=1, chunk=4, channels=2, batch_size=128)


def quiet(line: str) -> None:
    """Takes progress and says nothing."""


def norm(x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, training=True)


def plain(net: BatchedCells, ops: tuple[str, ...], model: int, images: Tensor) -> Tensor:
    """The network of one model, edge by edge as NAS-Bench-201 writes it, dead edges included (with weights of their own)."""
    noise = torch.Generator().manual_seed(0)
    live = live_edges(ops)

    def weight(stage: int, edge: int) -> Tensor:
        width = net.skeleton.stages[stage][0]
        source, target = NASBENCH201.edges[edge]
        if not live[edge]:
            kernel = 3 if ops[edge] == "nor_conv_3x3" else 1
            return torch.randn(width, width, kernel, kernel, generator=noise)
        number, plan = next((n, p) for n, p in enumerate(net.plans) if (p.source, p.op) == (source, ops[edge]))
        before = sum(len(models) for t, models in zip(plan.targets, plan.models, strict=True) if t < target)
        row = before + plan.models[plan.targets.index(target)].tolist().index(model)
        return net.weights[stage, number][row * width : (row + 1) * width]

    def cell(x: Tensor, stage: int) -> Tensor:
        nodes = [x]
        for node in (1, 2, 3):
            total = torch.zeros_like(x)
            for edge, (source, target) in enumerate(NASBENCH201.edges):
                if target != node:
                    continue
                if ops[edge] == "skip_connect":
                    total = total + nodes[source]
                elif ops[edge] == "avg_pool_3x3":
                    total = total + F.avg_pool2d(nodes[source], 3, 1, 1, count_include_pad=False)
                elif ops[edge] != "none":
                    kernel = weight(stage, edge)
                    total = total + norm(F.conv2d(F.relu(nodes[source]), kernel, padding=kernel.shape[-1] // 2))
            nodes.append(total)
        return nodes[3]

    c = net.skeleton.channels
    narrow, wide = slice(model * c, (model + 1) * c), slice(model * 2 * c, (model + 1) * 2 * c)
    x = cell(norm(F.conv2d(images, net.stem[narrow], padding=1)), 0)
    main = norm(F.conv2d(F.relu(x), net.reduce3[wide], stride=2, padding=1))
    x = cell(main + norm(F.conv2d(F.avg_pool2d(x, 2), net.reduce1[wide])), 1)
    return F.relu(x).mean((2, 3)) @ net.linear[model] + net.bias[model]


def test_many_cells_at_once_equal_each_alone_edge_by_edge() -> None:
    cells = random.Random(0).sample(all_cells(), 24)
    net = BatchedCells([cell.ops for cell in cells], [str(cell) for cell in cells], 1, Skeleton(channels=4))
    images = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    together = net.forward(images, training=True)
    for model, cell in enumerate(cells):
        torch.testing.assert_close(together[model], plain(net, cell.ops, model, images), rtol=1e-4, atol=1e-5)


def test_all_spellings_of_a_network_compute_the_same() -> None:
    # Two spellings of conv3(x) + pool(x) + x; equal weights are equal draws, so outputs are equal, not only distributions.
    one = ("nor_conv_3x3", "none", "none", "avg_pool_3x3", "skip_connect", "none")
    skip_first = ("nor_conv_3x3", "none", "skip_connect", "avg_pool_3x3", "none", "skip_connect")
    outputs = []
    for ops in (one, skip_first):
        net = BatchedCells([ops], ["same key"], 1, Skeleton(channels=4))
        outputs.append(net.forward(torch.ones(4, 1, 8, 8) * torch.arange(4)[:, None, None, None], training=True))
    torch.testing.assert_close(outputs[0], outputs[1])


def test_a_cell_that_gives_zero_knows_only_the_bias() -> None:
    net = BatchedCells([("none",) * 6], ["zero"], 1, Skeleton(channels=4))
    logits = net.forward(torch.randn(8, 1, 8, 8), training=True)
    assert torch.equal(logits, net.bias.expand_as(logits))


def test_a_model_does_not_depend_on_its_neighbours() -> None:
    protocol, data = TINY, digits()
    chosen = units(protocol, [100, 2000, 4000])[0]
    alone = units(protocol, [2000])[0]
    together, single = train_unit(chosen, protocol, data), train_unit(alone, protocol, data)
    place = together["classes"].index(2000)
    assert abs(together["valid_loss"][place] - single["valid_loss"][0]) < 1e-3


def test_training_is_reproducible_and_seeds_differ() -> None:
    first, second = units(TINY, [3000])[:2]
    assert (first.seed, second.seed) == (1, 2)
    again = train_unit(first, TINY, digits())
    once = train_unit(first, TINY, digits())
    timeless = {key for key in once if not key.endswith("_s")}
    assert {key: once[key] for key in timeless} == {key: again[key] for key in timeless}
    assert train_unit(second, TINY, digits())["valid_loss"] != once["valid_loss"]


def test_the_fused_optimizer_is_torch_sgd_with_nesterov() -> None:
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(3, 2, generator=generator), torch.randn(4, generator=generator)]
    ours = [value.clone().requires_grad_() for value in start]
    theirs = [value.clone().requires_grad_() for value in start]
    protocol = Protocol()
    optimizer = torch.optim.SGD(
        theirs, lr=0.1, momentum=protocol.momentum, weight_decay=protocol.weight_decay, nesterov=True
    )
    buffers = [torch.zeros_like(value) for value in ours]
    for step in range(5):
        gradients = tuple(torch.randn(value.shape, generator=generator) for value in start)
        rate = 0.1 / (step + 1)
        _nesterov(ours, tuple(gradient.clone() for gradient in gradients), buffers, protocol, rate)
        for value, gradient in zip(theirs, gradients, strict=True):
            value.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_parts_are_disjoint_and_are_the_search_halves() -> None:
    data = digits()
    assert [len(part[1]) for part in (data.train, data.valid, data.test)] == [719, 718, 360]
    seen = [{image.numpy().tobytes() for image in part[0]} for part in (data.train, data.valid, data.test)]
    # A few scans of digits are equal pixel by pixel; rows themselves are never shared.
    assert len(seen[0] & seen[1]) + len(seen[0] & seen[2]) + len(seen[1] & seen[2]) <= 5


def test_units_cover_every_class_once_a_seed() -> None:
    every = units(Protocol())
    for seed in Protocol().seeds:
        numbers = [number for unit in every if unit.seed == seed for number in unit.classes]
        assert sorted(numbers) == list(range(len(classes()[1])))
    assert [unit.seed for unit in every] == sorted((unit.seed for unit in every), key=Protocol().seeds.index)


def test_costs_count_the_weights() -> None:
    for ops in (
        ("nor_conv_3x3",) * 6,
        ("nor_conv_1x1", "none", "skip_connect", "nor_conv_3x3", "none", "nor_conv_3x3"),
    ):
        net = BatchedCells([ops], ["a"], 1, Skeleton())
        if all(live or op in ("none", "skip_connect") for op, live in zip(ops, live_edges(ops), strict=True)):
            assert Skeleton().cost(ops)[0] * 1e6 == sum(weight.numel() for weight in net.parameters())
    params, macs = costs(Skeleton())
    for index in (0, 11, 1835, 15_000):
        assert (params[index], macs[index]) == pytest.approx(Skeleton().cost(read_cell(official_archs()[index]).ops))


def test_a_folder_of_another_protocol_is_refused(tmp_path: Path) -> None:
    prepare(tmp_path / "work", TINY)
    prepare(tmp_path / "work", TINY)
    with pytest.raises(UserError, match="same protocol"):
        prepare(tmp_path / "work", Protocol())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--work"):
        prepare(tmp_path / "file" / "work", TINY)


@pytest.mark.slow
def test_a_build_goes_on_where_it_stopped(tmp_path: Path) -> None:
    only = [10, 20, 30, 40, 50]
    assert train_all(tmp_path, TINY, 1, quiet, only) == 6  # two chunks under three seeds
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("seed*")}
    (tmp_path / "seed2-chunk0001.json").unlink()
    assert train_all(tmp_path, TINY, 1, quiet, only) == 1
    assert {path.name for path in tmp_path.glob("seed*")} == set(kept)
    untouched = {path.name: path.read_bytes() for path in tmp_path.glob("seed*") if path.name != "seed2-chunk0001.json"}
    assert all(kept[name] == content for name, content in untouched.items())


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards with invented counts for two seeds and half of a third."""
    work = tmp_path_factory.mktemp("shards")
    prepare(work, TINY)
    draw = np.random.default_rng(5)
    quality = draw.normal(size=len(classes()[1]))
    for unit in units(TINY):
        if unit.seed == 3 and unit.number > 100:
            continue
        noisy = quality[list(unit.classes)] + 0.5 * draw.normal(size=len(unit.classes))
        shard: dict[str, Any] = {"seed": unit.seed, "classes": list(unit.classes), "train_s": 0.1, "valid_s": 0.1}
        for part, count in (("train", 640), ("valid", 718), ("test", 360)):
            shard[f"{part}_correct"] = (count / (1 + np.exp(-noisy))).astype(int).tolist()
            shard[f"{part}_loss"] = np.round(2 - noisy / 5, 5).tolist()
        (work / unit.file).write_text(json.dumps(shard), encoding="utf-8")
    return work


@pytest.fixture(scope="module")
def built(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built")
    assemble(shards, out)
    return out


def test_the_table_is_what_the_shards_say(shards: Path, built: Path) -> None:
    table, made = embedded_table(built), card(built)
    assert made["seeds"] == [1, 2]
    assert made["seeds_incomplete"] == [3]
    assert table.holds == SIZE
    assert table.epochs("digits") == (1,)
    assert table.trials("digits", 1) == (1, 2)
    shard = json.loads((shards / "seed2-chunk0007.json").read_text())
    for number, correct in zip(shard["classes"], shard["test_correct"], strict=True):
        members = np.flatnonzero(network_classes() == number)
        assert (table.accuracy("digits", "test", 1, 2)[members] == 100 * correct / 360).all()
    mean = (table.accuracy("digits", "test", 1, 1) + table.accuracy("digits", "test", 1, 2)) / 2
    np.testing.assert_allclose(table.accuracy("digits", "test"), mean)


def test_statistics_follow_the_data(built: Path) -> None:
    found = card(built)["statistics"]
    # Two noisy looks at one quality, noise variance 1/4: correlation 1 / (1 + 1/4), and 2 r / (1 + r) for the means.
    assert found["between_seeds"]["valid"]["spearman"] == pytest.approx(0.8, abs=0.03)
    assert found["between_seeds"]["valid"]["ceiling_spearman"] == pytest.approx(0.89, abs=0.03)
    best = found["best"][0]
    assert best["test_acc"] == embedded_table(built).accuracy("digits", "test").max()
    assert official_archs()[best["index"]] == best["arch"]
    text = (built / "README.md").read_text(encoding="utf-8")
    assert best["arch"].replace("|", r"\|") in text
    assert "Seeds 3 of the protocol are not complete" in text


def test_building_twice_gives_the_same_bytes(shards: Path, built: Path, tmp_path: Path) -> None:
    assemble(shards, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"digits.parquet", "digits.json", "README.md"}
    for path in built.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_nothing_is_assembled_from_an_incomplete_build(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--work"):
        assemble(tmp_path, tmp_path / "out")
    prepare(tmp_path, TINY)
    with pytest.raises(UserError, match="at least one seed"):
        assemble(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["folder", "file"])
def test_the_unmodified_package_reads_the_official_form(form: str, built: Path, tmp_path: Path) -> None:
    import nats_bench

    places = [0, 11, 284, 1835, SIZE - 1]
    written = export(tmp_path / "out", "folder" if form == "folder" else "file", quiet, places, built)
    api = nats_bench.create(str(written), "tss", fast_mode=form == "folder", verbose=False)
    table = embedded_table(built)
    for place in places:
        info = api.get_more_info(place, "digits", hp="01", is_random=False)
        assert info["valid-accuracy"] == pytest.approx(table.accuracy("digits", "valid")[place])
        assert info["test-accuracy"] == pytest.approx(table.accuracy("digits", "test")[place])
        trial = api.get_more_info(place, "digits", hp="01", is_random=2)
        assert trial["test-accuracy"] == table.accuracy("digits", "test", 1, 2)[place]
        cost = api.get_cost_info(place, "digits", hp="01")
        assert cost["params"] == pytest.approx(table.columns["digits_params_mb"][place])
        assert api.query_index_by_arch(official_archs()[place]) == place
    again: Table = table_of(NatsBench(written), quiet)
    for name in ("digits_test_acc_1", "digits_valid_acc_1_2", "digits_flops_m"):
        np.testing.assert_allclose(again.columns[name][places], table.columns[name][places])


def test_export_does_not_write_into_a_folder_in_use(built: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(UserError, match="--out"):
        export(tmp_path, "folder", quiet, [0], built)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_shipped_benchmark_is_whole() -> None:
    table, made = embedded_table(), card()
    assert table.holds == SIZE == made["architectures"]
    assert made["data"]["sha256"] == digits().sha256
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_000_000
    test = table.accuracy("digits", "test")
    dead = [place for place, arch in enumerate(official_archs()) if not any(live_edges(read_cell(arch).ops))]
    assert (np.abs(test[dead] - 10) < 3).all()  # a cell that gives zero guesses one of ten classes
    assert test.max() > 90
    convolutions = np.array([arch.count("nor_conv_3x3") for arch in official_archs()])
    assert test[convolutions >= 3].mean() > test[convolutions == 0].mean() + 5
    assert all(np.isfinite(values).all() for values in table.columns.values())


@pytest.mark.slow
def test_training_again_gives_the_shipped_numbers() -> None:
    made = card()
    protocol = Protocol(**{**made["protocol"], "seeds": tuple(made["protocol"]["seeds"])})
    unit = units(protocol)[60]
    again, shipped = train_unit(unit, protocol, digits()), results()
    differences = [
        abs(shipped[f"{part}_correct_{unit.seed}"][number] - count)
        for part in ("valid", "test")
        for number, count in zip(unit.classes, again[f"{part}_correct"], strict=True)
    ]
    # Exact with the torch and kind of processor that made it; elsewhere sums round in another order.
    assert np.median(differences) <= 15
