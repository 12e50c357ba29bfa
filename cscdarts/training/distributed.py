"""Several processes on one run: torchrun or submitit's torch helper start them, gradients are averaged here.

Each process takes every world-th image of a batch and normalisation shares its statistics, so n processes compute what
one would on the whole batch. A retraining's gradients are averaged by torch's DistributedDataParallel, bucket by bucket
while the backward pass goes on. A search's are averaged after each pass, in one message: its passes differentiate by
`torch.autograd.grad` with respect to the weights, the architecture or both in turn, at weights that are moved in
between, and DistributedDataParallel knows only `backward` with respect to one set of parameters.
"""

import copy
import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cscdarts.data.source import Place
from cscdarts.errors import UserError
from cscdarts.kernels.batch_norm import BatchNorm

#: A derived network has some 15 MB of gradients: buckets of torch's usual 25 MB would all be sent at the end.
_BUCKET_MB = 4


@dataclass(frozen=True)
class World:
    """This process among all: its rank, their number, its rank on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0


def join_world(device: str) -> World:
    """Join the other processes if the environment names any (RANK, WORLD_SIZE, LOCAL_RANK, as torchrun sets them)."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    world = World(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", os.environ["RANK"])))
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return world


def leave_world() -> None:
    """Part from the other processes once all are done; a process that just ends can take its peers down with it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def resolve_device(name: str, world: World) -> torch.device:
    """`auto` is CUDA where there is one; with several processes each takes the GPU of its local rank.

    Errors:
        UserError: CUDA is asked for and not there, or the name is unknown.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError("runtime.device", name, "auto, cpu, cuda or cuda:N", "Correct the name.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("runtime.device", name, "cpu here", "torch sees no CUDA device; use device=cpu or auto.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UserError(
            "runtime.device", name, f"cuda:0 to cuda:{count - 1} here", f"torch sees {count}; name another."
        )
    if device.type == "cuda" and world.size > 1:
        device = torch.device("cuda", world.local_rank)
    return device


def place(device: torch.device, world: World) -> Place:
    """Which part of each batch this process takes."""
    return Place(device, world.rank, world.size)


def share_statistics(model: nn.Module, world: World) -> None:
    """Let normalisation see the whole batch when it is spread over processes."""
    for layer in model.modules():
        if isinstance(layer, BatchNorm):
            layer.sync = world.size > 1


def average(tensors: Sequence[Tensor], world: World) -> None:
    """Average tensors over all processes, in place, in one message."""
    if world.size == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    torch.distributed.all_reduce(flat)
    flat /= world.size
    pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, piece in zip(tensors, pieces, strict=True):
        tensor.copy_(piece.view_as(tensor))


def overlapped(model: nn.Module, world: World, images: tuple[int, int, int]) -> DistributedDataParallel | None:
    """The model with its gradients averaged over all processes during each `backward`; None for one process.

    Passes whose gradients are only added up go under its `no_sync()`. Parameters that a cell leaves unused keep no
    gradient, as with one process; statistics are shared by the normalisations themselves (`share_statistics`).

    Args:
        images: channels, height and width of an image.
    """
    if world.size == 1:
        return None
    # Called so since torch 2.13; before, the name that it now warns of.
    known = inspect.signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {buffers: False, "find_unused_parameters": _leaves_some_unused(model, images)}
    return DistributedDataParallel(model, bucket_cap_mb=_BUCKET_MB, **options)


def _leaves_some_unused(model: nn.Module, images: tuple[int, int, int]) -> bool:
    """Whether a training pass leaves parameters without a gradient, by a pass on shapes alone."""
    shapes = copy.deepcopy(model).to("meta").train()
    share_statistics(shapes, World())
    out = shapes(torch.empty(2, *images, device="meta"))
    logits = [one for one in (out if isinstance(out, tuple) else (out,)) if one is not None]
    parameters = list(shapes.parameters())
    grads = torch.autograd.grad(sum(one.sum() for one in logits), parameters, allow_unused=True)
    return any(grad is None for grad in grads)


def same_for_all(value: bool, world: World) -> bool:
    """Whether any process says yes; all get the same answer, so that all stop at the same step."""
    if world.size == 1:
        return value
    flag = torch.tensor([int(value)])
    if torch.distributed.get_backend() == "nccl":
        flag = flag.cuda(world.local_rank)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag.item())
