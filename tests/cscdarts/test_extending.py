"""Operations and spaces of users: registered from outside, they are searched, derived, retrained, drawn and counted."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ablations.drive.driver import Driver
from ablations.grid.load import load_grid
from ablations.run.stages import stages_of
from cscdarts import RunConfig, RunFolder, UserError, apply_preset, network_cost, parse_genotype, protocol, with_values
from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.models.cost import operation_convs, supernet_cost
from cscdarts.models.mixed_ops import MixedOps
from cscdarts.models.network import Network
from cscdarts.models.operations import discrete_operation
from cscdarts.models.supernet import Supernet
from cscdarts.records.run_folder import read_json
from cscdarts.spaces import (
    NASBENCH201,
    OPERATIONS,
    SPACES,
    Conv,
    ConvShape,
    Genotype,
    KeptEdge,
    MacroSkeleton,
    Operation,
    Pool,
    Skip,
    Space,
    StrongestInputs,
    Zero,
    random_genotype,
    register_operation,
    register_space,
)
from cscdarts.training.derivation import derive, genotype_of
from cscdarts.training.retrain import retrain
from cscdarts.training.search import search
from reports.figures.genotype import cell_svg, draw, layout


class Noise(nn.Module):
    """Zela et al. 2020 (arXiv 1909.09656), space S4: standard normal noise in place of the input."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn_like(x[:, :, :: self.stride, :: self.stride])


class Twice(nn.Module):
    """2 x, for known answers."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


NOISE = Operation("noise", "noise", module=lambda channels, stride, affine: Noise(stride), has_weights=False)


@dataclass(frozen=True)
class Tree(Genotype):
    """A cell in which every node reads one earlier node; its text is `tree(op<source, ...)`, node by node."""

    genes: tuple[tuple[str, int], ...]
    space: str = "tree"

    form: ClassVar[str] = "tree(op<0, ...)"

    def __post_init__(self) -> None:
        self.check()

    def __str__(self) -> str:
        return f"tree({', '.join(f'{op}<{source}' for op, source in self.genes)})"

    def edges(self, kind: str) -> tuple[KeptEdge, ...]:
        return tuple(KeptEdge(source, node, op) for node, (op, source) in enumerate(self.genes, 1))

    @classmethod
    def from_edges(cls, space: str, cells: Mapping[str, Sequence[KeptEdge]]) -> Self:
        return cls(tuple((edge.op, edge.source) for edge in cells["cell"]), space)

    @classmethod
    def parse(cls, text: str, space: str) -> Self | None:
        found = re.fullmatch(r"tree\((.*)\)", text)
        if found is None:
            return None
        genes = re.findall(r"(\w+)<(\d+)", found[1])
        return cls(tuple((op, int(source)) for op, source in genes), space)


def tree_space(**values: Any) -> Space:
    """One input, three nodes that are all the cell's output, two stages."""
    settings: dict[str, Any] = {
        "ops": ("none", "skip_connect", "sep_conv_3x3", "avg_pool_3x3"),
        "inputs": 1,
        "nodes": 3,
        "genotype": Tree,
        "rule": StrongestInputs(1),
        "skeleton": MacroSkeleton("block", stages=2, normalised_head=True),
        "output": "concat",
        "published": {"Oak": "tree(sep_conv_3x3<0, skip_connect<1, avg_pool_3x3<0)"},
    }
    return Space("tree", **{**settings, **values})


@pytest.fixture
def extended() -> Iterator[None]:
    """The noise operation and the tree space, known for one test."""
    register_operation(NOISE)
    register_space(tree_space())
    yield
    SPACES.unregister("tree")
    OPERATIONS.unregister("noise")


@pytest.fixture
def own_operation() -> Iterator[list[str]]:
    """Names to forget after a test."""
    names: list[str] = []
    yield names
    for name in names:
        OPERATIONS.unregister(name)


def smoke(**values: Any) -> RunConfig:
    sizes = {
        "data.search_fraction": 0.08,
        "search.batch_size": 18,
        "search.alpha_lr": 0.1,
        "evaluation.batch_size": 360,
        "runtime.device": "cpu",
    }
    return with_values(apply_preset(protocol("quickstart", "smoke"), "csc"), {**sizes, **values})


def go(config: RunConfig, path: Path) -> RunFolder:
    folder = RunFolder(path)
    folder.create(config)
    search(config, folder, lambda: False, lambda line: None)
    derive(config, folder)
    retrain(config, folder, lambda: False, lambda line: None)
    return folder


@pytest.mark.parametrize(
    "values",
    [
        {"supernet.ops": "skip_connect,nor_conv_3x3,noise"},
        {"supernet.space": "darts", "supernet.ops": "skip_connect,sep_conv_3x3,noise", "supernet.cells": 3},
        {"supernet.space": "tree"},
        {"supernet.space": "tree", "supernet.ops": "none,sep_conv_3x3,noise", "supernet.identity": "edge"},
    ],
    ids=["noise in nasbench201", "noise in darts", "tree", "noise in tree"],
)
def test_the_whole_way(values: dict[str, Any], tmp_path: Path, extended: None) -> None:
    """Search, derive, retrain, draw, and count with what a user registered; the run folder tells all of it again."""
    config = smoke(**values)
    folder = go(config, tmp_path)
    assert folder.config() == config
    stored = read_json(folder.file("genotype.json"))
    result = read_json(folder.file("result.json"))
    genotype = parse_genotype(stored["text"], stored["space"])
    assert genotype.space == config.supernet.space
    assert str(genotype) == result["genotype"]
    assert 0 <= result["values"]["test_error_pct"] <= 100
    cells = layout(genotype)
    assert [len(cell.arcs) for cell in cells] == [
        len(genotype.edges(kind)) for kind in SPACES[genotype.space].cell_kinds
    ]
    axes = Figure().add_subplot()
    draw(axes, cells[0])
    drawn = [arc.op for arc in cells[0].arcs if not OPERATIONS[arc.op].is_zero]
    assert {text.get_text() for text in axes.texts} == {OPERATIONS[op].label for op in drawn} | set(cells[0].nodes)
    assert cell_svg(cells).count("<svg") == len(cells)
    size = int(1e6 * result["values"]["params_m"] + 0.5)
    assert (
        network_cost(genotype, config.evaluation, config.supernet, config.identity_in("eval"), 10, 1, 8).params == size
    )
    counted = supernet_cost(config.supernet, config.identity_in("search"), 10, 1, 8, batch=2)
    assert set(counted.by_operation) <= {*(config.supernet.ops or ()), "fixed"}
    assert counted.by_operation.get("noise", 0) == 0  # no convolution


def test_stages_of_a_run_follow_from_what_a_benchmark_holds(extended: None) -> None:
    assert "check" in stages_of(smoke())
    assert "check" not in stages_of(smoke(**{"supernet.ops": "skip_connect,noise"}))
    assert "check" not in stages_of(smoke(**{"supernet.space": "tree"}))


def test_an_operation_with_a_stride_and_a_split(extended: None) -> None:
    """In a reduction cell, on a share of the channels, beside operations that are computed together."""
    config = smoke(**{"supernet.space": "darts", "supernet.ops": "noise,skip_connect", "supernet.cells": 3}).supernet
    model = Supernet(config, 10, 1, "cell")
    images = torch.randn(2, 1, 8, 8)
    assert model(images).shape == (2, 10)
    model(images).sum().backward()
    assert all(alpha.grad is not None and alpha.grad.abs().sum() > 0 for alpha in model.alphas.values())


def test_mixing_an_operation_of_ones_own_is_a_weighted_sum(own_operation: list[str]) -> None:
    """m(x) = w_0 conv(x) + w_1 2 x: values and gradients of weights and input, in a pass that keeps little and a plain one."""
    register_operation(Operation("twice", "2x", module=lambda channels, stride, affine: Twice()))
    own_operation.append("twice")
    torch.manual_seed(0)
    ops, x = ("twice", "nor_conv_3x3"), torch.randn(2, 4, 6, 6, dtype=torch.float64)
    mixed, alone = MixedOps(ops, 3, 4, 1).double(), MixedOps(("nor_conv_3x3",), 3, 4, 1).double()
    alone.load_state_dict({key: value for key, value in mixed.state_dict().items() if "nor_conv" in key})
    weights = torch.rand(3, 2, dtype=torch.float64)
    for plain in (False, True):
        mixed.plain = alone.plain = plain
        results = []
        for model, columns in ((mixed, [0, 1]), (alone, [1])):
            at, w = x.clone().requires_grad_(), weights.clone().requires_grad_()
            outputs = torch.stack(list(model(at, model.mixing_weights(w[:, columns]))))
            if columns == [1]:
                outputs = outputs + torch.stack([w[edge, 0] * 2 * at for edge in range(3)])
            grads = torch.autograd.grad((outputs * torch.arange(outputs.numel()).view_as(outputs)).sum(), (at, w))
            results.append((outputs, *grads))
        for ours, known in zip(*results, strict=True):
            torch.testing.assert_close(ours, known, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "record",
    [
        Operation("sep_conv_7x7", "sep 7×7", (Conv(7, depthwise=True), Conv(7, depthwise=True))),
        Operation("sep_conv_3x3_5x5", "sep 3×3 5×5", (Conv(3, depthwise=True), Conv(5, depthwise=True))),
        Operation("dil_conv_3x3_3", "dil 3×3, 3", (Conv(3, depthwise=True, dilation=3),)),
        Operation("dil_conv_full", "dil full", (Conv(3, dilation=2),)),
        Operation("bottleneck", "1×1 3×3", (Conv(1), Conv(3))),
        Operation("max_pool_5x5", "max 5×5", (Pool("max", 5),)),
        Operation("given", "given", module=lambda c, s, a: nn.Sequential(nn.Conv2d(c, c, 1, s), BatchNorm(c, a))),
        Operation("group", "group", (Conv(3),), batched=lambda e, c, s: nn.Conv2d(c, e * c, 3, s, 1, bias=False)),
    ],
    ids=lambda record: record.name,
)
@pytest.mark.parametrize("stride", [1, 2])
def test_parts_say_how_an_operation_is_made(record: Operation, stride: int, own_operation: list[str]) -> None:
    """In the supernet an edge computes what the discrete module of the same weights does, and costs as much."""
    register_operation(record)
    own_operation.append(record.name)
    torch.manual_seed(0)
    edges, channels = 2, 4
    mixed = MixedOps((record.name, "skip_connect"), edges, channels, stride, pool_norm=False).double()
    x = torch.randn(3, channels, 8, 8, dtype=torch.float64, requires_grad=True)
    only = mixed.mixing_weights(torch.tensor([[1.0, 0.0], [0.5, 0.0]], dtype=torch.float64))
    outputs = mixed(x, only)
    assert [out.shape for out in outputs] == [(3, channels, 8 // stride, 8 // stride)] * edges
    if record.batched is None:
        for edge, factor in enumerate((1.0, 0.5)):
            module = discrete_operation(record, channels, stride, affine=False).double()
            held = list(mixed.kinds[record.name].parameters()) if record.name in mixed.kinds else []
            own = list(module.parameters())
            for at, parameter in enumerate(own):
                stacked = held[at + edge * len(own)] if len(held) == edges * len(own) else held[at][edge]
                parameter.data.copy_(stacked.detach())
            known = factor * module(x)
            torch.testing.assert_close(outputs[edge], known, rtol=1e-9, atol=1e-9)
            direction = torch.randn_like(known)
            grads = [torch.autograd.grad(out, x, direction, retain_graph=True)[0] for out in (outputs[edge], known)]
            torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-9)
    traced = network_convs(discrete_operation(record, channels, stride), channels)
    assert sum(conv.macs for conv in operation_convs(record, channels, 8, 8, stride)) == traced


def network_convs(module: nn.Module, channels: int) -> int:
    """Multiply-accumulates of a module on 8x8 maps, counted by a hook on every convolution."""
    found = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        found.append(output.shape[2:].numel() * layer.weight.numel())

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    module(torch.randn(2, channels, 8, 8))
    return sum(found)


def test_a_cost_that_an_operation_gives_itself() -> None:
    record = Operation(
        "own", "own", module=lambda c, s, a: Twice(), shapes=lambda c, h, w, s: [ConvShape(c, c, 3, c, h * w, h * w)]
    )
    (conv,) = operation_convs(record, 4, 8, 8, 1)
    assert conv.macs == 8 * 8 * 4 * 9


def test_a_space_of_ones_own_is_derived_by_its_rule(extended: None) -> None:
    """Each node keeps the input whose strongest operation but `none` weighs most."""
    alpha = np.zeros((6, 4))
    strong = {0: "skip_connect", 2: "sep_conv_3x3", 4: "avg_pool_3x3"}  # rows 0; 1 2; 3 4 5 enter nodes 1, 2, 3
    for row, op in strong.items():
        alpha[row, SPACES["tree"].ops.index(op)] = 2.0
    alpha[:, 0] = 5.0  # none
    genotype = genotype_of(smoke(**{"supernet.space": "tree"}).supernet, {"cell": alpha})
    assert str(genotype) == "tree(skip_connect<0, sep_conv_3x3<1, avg_pool_3x3<1)"
    assert genotype.skips == 1
    assert not genotype.parameter_free


def test_text_of_a_space_of_ones_own(extended: None) -> None:
    for seed in range(10):
        genotype = random_genotype("tree", np.random.default_rng(seed))
        assert parse_genotype(str(genotype)) == genotype
    assert str(parse_genotype("Oak")) == SPACES["tree"].published["Oak"]
    assert parse_genotype("tree(noise<0, noise<0, noise<1)").parameter_free
    with pytest.raises(UserError, match=r"tree\(op<0, \.\.\.\)"):
        parse_genotype("nonsense")
    with pytest.raises(UserError, match="an input from 0 to 0 for node 0"):
        parse_genotype("tree(noise<1)")
    with pytest.raises(UserError, match="nor_conv_3x3"):  # of another space
        parse_genotype("tree(nor_conv_3x3<0, noise<0, noise<0)")


def test_the_skeleton_stacks_a_space_of_ones_own(extended: None) -> None:
    """Two stages of two cells, a block between them, three maps concatenated."""
    config = smoke(**{"supernet.space": "tree", "evaluation.cells": 2}).evaluation
    network = Network(parse_genotype("Oak"), config, smoke().supernet, "none", 7, 1)
    kinds = [type(cell).__name__ for cell in network.cells]
    assert kinds == ["DerivedCell", "DerivedCell", "ResidualReduction", "DerivedCell", "DerivedCell"]
    assert network.classifier.in_features == 3 * 2 * config.channels
    assert network(torch.randn(2, 1, 8, 8))[0].shape == (2, 7)


def test_reductions_may_share_the_parameters_of_other_cells() -> None:
    """One kind of cell, searched reductions: the same rows of alpha stand for operations in another order there."""
    space = tree_space(skeleton=MacroSkeleton("cell", stem_factor=2))
    register_space(space)
    try:
        model = Supernet(smoke(**{"supernet.space": "tree", "supernet.cells": 3}).supernet, 10, 1)
        assert set(model.alphas) == {"cell"}
        assert model(torch.randn(2, 1, 8, 8)).shape == (2, 10)
    finally:
        SPACES.unregister("tree")


def test_the_unknown_says_how_to_register_it() -> None:
    with pytest.raises(
        UserError, match=r"operation: 'noise' .*sep_conv_3x3.*cscdarts\.register_operation.*CSCDARTS_PLUGINS"
    ):
        OPERATIONS["noise"]
    with pytest.raises(UserError, match=r"supernet\.ops: 'noise' .*skip_connect.*cscdarts\.register_operation"):
        smoke(**{"supernet.ops": "skip_connect,noise"})
    with pytest.raises(UserError, match=r"supernet\.space: 'tree' .*darts, nasbench201.*cscdarts\.register_space"):
        smoke(**{"supernet.space": "tree"})
    with pytest.raises(UserError, match=r"genotype\.cell: 'noise' .*register_operation"):
        parse_genotype("|noise~0|+|none~0|none~1|+|none~0|none~1|none~2|")


def test_operations_of_another_space_are_not_taken() -> None:
    with pytest.raises(UserError, match=r"supernet\.ops: 'sep_conv_3x3' is not possible"):
        smoke(**{"supernet.ops": "skip_connect,sep_conv_3x3"})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: register_operation(Operation("none", "n", (Zero(),))), "a name that the package does not use"),
        (lambda: OPERATIONS.unregister("none"), "registered from outside"),
        (
            lambda: register_space(tree_space().__class__(**{**vars(NASBENCH201)})),
            "a name that the package does not use",
        ),
        (lambda: Operation("a", "a"), "either parts or module"),
        (lambda: Operation("a", "a", (Skip(), Conv(3))), "convolutions in a row"),
        (lambda: Operation("a", "a", (Conv(2),)), "an odd number of pixels"),
        (lambda: tree_space(ops=("none",)), "at least two different operations"),
        (lambda: tree_space(ops=("none", "nothing")), "cscdarts.register_operation"),
        (lambda: tree_space(inputs=3), "1 or 2 inputs"),
        (lambda: tree_space(nodes=0), "one or more"),
    ],
)
def test_what_cannot_be_registered_is_refused(make: Any, said: str) -> None:
    before = OPERATIONS.names(), SPACES.names()
    with pytest.raises(UserError, match=said):
        make()
    assert (OPERATIONS.names(), SPACES.names()) == before


GRID = '''"""A user's grid with an operation of its own."""
from cscdarts import Operation, apply_preset, protocol, register_operation, with_values


def noise(channels, stride, affine):
    import torch
    from torch import nn

    class Noise(nn.Module):
        def forward(self, x):
            return torch.randn_like(x[:, :, ::stride, ::stride])

    return Noise()


register_operation(Operation("noise", "noise", module=noise, has_weights=False))


def grid(scale):
    base = apply_preset(protocol("quickstart", "smoke"), "csc")
    yield with_values(base, {"supernet.ops": "noise,nor_conv_1x1", "data.search_fraction": 0.08,
                             "search.batch_size": 18, "search.epochs": 1, "runtime.device": "cpu"})
'''


@pytest.mark.slow
def test_workers_know_what_a_grid_file_registers(
    tmp_path: Path, own_operation: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is another process: its task names the file, and it imports it before it reads the config."""
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join((str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")))
    )
    own_operation.append("noise")
    (tmp_path / "mine.py").write_text(GRID)
    grid = load_grid(str(tmp_path / "mine.py"), "smoke")
    assert grid.plugins == (str(tmp_path / "mine.py"),)
    driver = Driver(
        grid,
        tmp_path / "runs",
    )
    driver.take()
    driver.run_here([point.hash for point in grid.points], 1, lambda states: None)
    (state,) = driver.states()
    assert state.status == "done", state
    assert read_json(driver.path(grid.points[0]) / "result.json")["values"]["test_error_pct"] <= 100


def test_grids_without_anything_of_their_own_carry_nothing() -> None:
    assert load_grid("quickstart", "smoke").plugins == ()


def test_other_commands_know_what_the_environment_names(tmp_path: Path) -> None:
    """`CSCDARTS_PLUGINS` names a file (or a module); without it the name is unknown."""
    (tmp_path / "mine.py").write_text(GRID)
    code = (
        "import json, sys, cscdarts\n"
        "text = '|noise~0|+|none~0|none~1|+|none~0|none~1|noise~2|'\n"
        "print(json.dumps(str(cscdarts.parse_genotype(text)) == text))\n"
        "sys.exit('torch' in sys.modules)"
    )
    root = str(Path(__file__).parents[2])
    for plugins, found in ((str(tmp_path / "mine.py"), True), ("mine", True), ("", False)):
        environment = {**os.environ, "CSCDARTS_PLUGINS": plugins, "PYTHONPATH": os.pathsep.join((root, str(tmp_path)))}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
        )
        assert (done.returncode == 0) == found, done.stderr
        assert json.loads(done.stdout or "false") == found


def test_a_plugin_that_does_not_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    for plugin, said in (("broken.py", "ZeroDivisionError"), ("missing.py", "existing Python file")):
        monkeypatch.setenv("CSCDARTS_PLUGINS", str(tmp_path / plugin))
        with pytest.raises(UserError, match=said):
            OPERATIONS["nothing of this name"]
    monkeypatch.setenv("CSCDARTS_PLUGINS", "no_such_module_here")
    with pytest.raises(UserError, match="no_such_module_here"):
        OPERATIONS["nothing of this name"]
