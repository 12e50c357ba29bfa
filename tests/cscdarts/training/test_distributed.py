"""Two processes on one run compute what one does on the whole batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cscdarts.errors import UserError
from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.records.run_folder import RunFolder, read_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import protocol
from cscdarts.spaces import DARTS, NASBENCH201
from cscdarts.training.derivation import derive
from cscdarts.training.distributed import World, average, overlapped, resolve_device, same_for_all
from cscdarts.training.retrain import retrain
from cscdarts.training.search import search

SCRIPT = """
import json, sys, torch
from pathlib import Path
torch.set_num_threads(1)
from cscdarts.training.derivation import derive
from cscdarts.settings.overrides import build
from cscdarts.training.retrain import retrain
from cscdarts.records.run_folder import RunFolder
from cscdarts.training.search import search
config, folder = build(json.loads(sys.argv[1])), RunFolder(Path(sys.argv[2]))
search(config, folder, lambda: False, lambda line: None)
torch.distributed.barrier()
derive(config, folder)
torch.distributed.barrier()
retrain(config, folder, lambda: False, lambda line: None)
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""

#: A net with a part that no pass uses, and images for it.
NET = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    def forward(self, x):
        return self.used(x)
def together():
    torch.manual_seed(1)
    return Net().double(), torch.randn(8, 3, dtype=torch.float64)
"""

SYNC_SCRIPT = (
    NET
    + """
import sys
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
from cscdarts.kernels.batch_norm import BatchNorm
torch.manual_seed(0)
x = torch.randn(8, 3, 4, 4, dtype=torch.float64)
layer = BatchNorm(3).double()
layer.sync = True
share = x[rank::2].clone().requires_grad_()
y = layer(share)
(y * torch.arange(y[0].numel(), dtype=torch.float64).view_as(y[0])).sum().backward()
torch.save([y.detach(), share.grad, layer.running_mean, layer.running_var], f"{sys.argv[1]}/{rank}.pt")
from cscdarts.training.distributed import World, overlapped
net, images = together()
shared = overlapped(net, World(rank, 2), (3,))
first, second = images[rank::2].chunk(2)
with shared.no_sync():
    shared(first).square().mean().backward()
local = net.used.weight.grad.clone()
shared(second).square().mean().backward()
torch.save([net.used.weight.grad, local, net.unused.weight.grad], f"{sys.argv[1]}/grads{rank}.pt")
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""
)


NODE_SCRIPT = """
import sys, torch
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
torch.set_num_threads(1)
from cscdarts.models.mixed_ops import MixedOps
found = []
for ops, pool_norm in eval(sys.argv[2]):
    for kernels in ("portable", "plain"):
        torch.manual_seed(0)
        layer = MixedOps(ops, 2, 4, 1, pool_norm).double()
        layer.use(kernels)
        x = torch.randn(4, 4, 4, 4, dtype=torch.float64)
        weights = torch.randn(2, len(ops), dtype=torch.float64).softmax(1).requires_grad_()
        for norm in layer._norms:
            norm.sync = True
        share = x[rank::2].clone().requires_grad_()
        y = torch.cat(layer(share, layer.mixing_weights(weights)), dim=1)
        loss = (y * torch.arange(y[0].numel(), dtype=torch.float64).view_as(y[0])).sum()
        grads = torch.autograd.grad(loss, [share, weights, *layer.parameters()])
        found.append([y.detach(), *grads, *layer.buffers()])
torch.save(found, f"{sys.argv[1]}/{rank}.pt")
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def launch(script: str, tmp_path: Path, *arguments: str) -> None:
    """Run a script in two gloo processes, with the environment that torchrun sets."""
    file = tmp_path / "script.py"
    file.write_text(script)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(file), *arguments],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=Path(__file__).parents[3],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=240)
            assert process.returncode == 0, errors[-2000:]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def config(**values: Any) -> RunConfig:
    sizes = {
        "data.search_fraction": 0.1,
        "search.batch_size": 20,
        "search.epochs": 1,
        "evaluation.epochs": 1,
        "evaluation.batch_size": 280,
        "evaluation.drop_path": 0.3,
        "runtime.device": "cpu",
    }
    return with_values(apply_preset(protocol("quickstart", "smoke"), "csc"), {**sizes, **values})


@pytest.mark.slow
def test_two_processes_equal_one_on_the_doubled_batch(tmp_path: Path) -> None:
    """Search (second order) and retraining (with drop-path): same losses, to the tolerance of float32 sums."""
    one = RunFolder(tmp_path / "one")
    one.create(config())
    torch.set_num_threads(1)
    search(config(), one, lambda: False, lambda line: None)
    derive(config(), one)
    retrain(config(), one, lambda: False, lambda line: None)

    two = RunFolder(tmp_path / "two")
    two.create(config())
    launch(SCRIPT, tmp_path, config().model_dump_json(), str(two.path))

    assert read_json(two.file("genotype.json")) == read_json(one.file("genotype.json"))
    for here, there in zip(one.curves(), two.curves(), strict=True):
        for name in ("search_train_loss", "search_valid_loss", "retrain_train_loss"):
            if name in here["values"]:
                assert there["values"][name] == pytest.approx(here["values"][name], rel=2e-3), name
    alphas = [torch.tensor(folder.alphas()[-1]["alpha"]["cell"]) for folder in (one, two)]
    assert torch.allclose(alphas[0], alphas[1], atol=2e-3)
    lines = (two.path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len([json.loads(line) for line in lines]) == 2  # one writer


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have found."""
    place = tmp_path_factory.mktemp("two")
    launch(SYNC_SCRIPT, place, str(place))
    return place


def test_shared_statistics_are_those_of_the_whole_batch(two: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    layer = BatchNorm(3).double()
    y = layer(x)
    (y * torch.arange(y[0].numel(), dtype=torch.float64).view_as(y[0])).sum().backward()
    assert x.grad is not None
    for rank in (0, 1):
        values, grad, mean, var = torch.load(two / f"{rank}.pt", weights_only=True)
        assert torch.allclose(values, y[rank::2])
        assert torch.allclose(grad, x.grad[rank::2])
        assert torch.allclose(mean, layer.running_mean)
        assert torch.allclose(var, layer.running_var)


def test_the_portable_kernels_share_statistics_as_plain_autograd_does(tmp_path: Path) -> None:
    """Sums, all gradients of each process's part, running statistics; chains, whole convolutions, both poolings."""
    operations = [(space.ops, space is DARTS) for space in (DARTS, NASBENCH201)]
    launch(NODE_SCRIPT, tmp_path, str(tmp_path), repr(operations))
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for portable, plain in (found[:2], found[2:]):
            for one, other in zip(portable, plain, strict=True):
                assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)


def test_gradients_averaged_during_the_pass_are_those_of_the_whole_batch(two: Path) -> None:
    """In two parts, of which only the second sends: the sum of both arrives; an unused part has no gradient."""
    scope: dict[str, Any] = {}
    exec(NET, scope)
    net, images = scope["together"]()
    for part in images.chunk(2):
        net(part).square().mean().backward()
    for rank in (0, 1):
        grad, local, unused = torch.load(two / f"grads{rank}.pt", weights_only=True)
        assert torch.allclose(grad, net.used.weight.grad)
        assert not torch.allclose(local, net.used.weight.grad / 2)
        assert unused is None


def test_a_world_of_one_sends_nothing() -> None:
    assert overlapped(torch.nn.Linear(2, 2), World(), (3, 8, 8)) is None
    tensors = [torch.ones(3)]
    average(tensors, World())
    assert torch.equal(tensors[0], torch.ones(3))
    assert same_for_all(True, World()) is True
    assert World().leads


@pytest.mark.parametrize("name", ["cuda:99x", "quantum"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"runtime\.device"):
        resolve_device(name, World())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_cuda_without_a_device_is_refused() -> None:
    with pytest.raises(UserError, match="no CUDA device"):
        resolve_device("cuda", World())
    assert resolve_device("auto", World()).type == "cpu"
