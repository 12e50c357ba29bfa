"""What it costs that several processes work on one retraining: gradients averaged after the pass and during it.

`python -m benchmarks.speed.communication --out FILE` starts gloo processes on this machine. On one machine without GPUs
the message's way is memory, and processes share the cores: the ratio of the two ways tells something, the seconds
nothing of a cluster.
"""

import copy
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import click
import torch
from torch import nn
from torch.nn import functional as F

from cscdarts.kernels.batch_norm import batch_norms
from cscdarts.models.network import Network
from cscdarts.records.environment import describe
from cscdarts.settings.config import EvaluationConfig, SupernetConfig
from cscdarts.spaces.known import KNOWN_GENOTYPES
from cscdarts.training.distributed import World, average, join_world, leave_world, overlapped, share_statistics

Way = Literal["none", "after", "during"]
WAYS: tuple[Way, ...] = ("none", "after", "during")
#: The sizes that are measured unless others are asked for: a small network of the DARTS space.
SIZE = {"channels": 16, "cells": 8, "batch": 16, "image_size": 32}


def measure(world: World, rounds: int, channels: int, cells: int, batch: int, image_size: int) -> dict[str, Any]:
    """Seconds of a step of retraining DARTS_V2 by each way, in turns, medians over the rounds.

    Args:
        batch: images of all processes together.
    """
    torch.manual_seed(0)
    evaluation = EvaluationConfig(channels=channels, cells=cells)
    network = Network(KNOWN_GENOTYPES["DARTS_V2"], evaluation, SupernetConfig(), "none", 10)
    share_statistics(network, world)
    shape: tuple[int, int, int, int] = (batch // world.size, 3, image_size, image_size)
    images, labels = torch.randn(shape), torch.randint(10, shape[:1])
    together = overlapped(copy.deepcopy(network), world, shape[1:])
    parameters = list(network.parameters())

    def step(way: Way) -> None:
        forward: nn.Module = together if way == "during" and together is not None else network
        forward.zero_grad()
        logits, auxiliary = forward(images)
        torch.autograd.backward(F.cross_entropy(logits, labels) + 0.4 * F.cross_entropy(auxiliary, labels))
        if way == "after":
            average([p.grad for p in parameters if p.grad is not None], world)

    seconds: dict[Way, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds + 1):
        for way in WAYS:
            if world.size > 1:
                torch.distributed.barrier()
            begin = time.perf_counter()
            step(way)
            if number:
                seconds[way].append(time.perf_counter() - begin)
    return {
        "processes": world.size,
        "step_s": {way: statistics.median(spent) for way, spent in seconds.items()},
        "least_s": {way: min(spent) for way, spent in seconds.items()},
        "gradients_mb": sum(p.numel() * p.element_size() for p in parameters) / 1e6,
        "statistics_messages": 2 * len(batch_norms(network)),  # one forward, one backward, each waited for
        **{"channels": channels, "cells": cells, "batch": batch, "image_size": image_size, "rounds": rounds},
    }


def spread(processes: int, rounds: int, size: dict[str, int]) -> dict[str, Any]:
    """`measure` in so many gloo processes, each with one thread; gives what the first one found."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
              "OMP_NUM_THREADS": "1"}  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "found.json"
        words = [sys.executable, "-m", "cscdarts._harness", "-m", "benchmarks.speed.communication"]
        words += ["--inside", str(out), "--rounds", str(rounds)]
        words += [word for name, value in size.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        started = [
            subprocess.Popen(words, env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(processes)
        ]
        try:
            codes = [one.wait(timeout=600) for one in started]
        finally:
            for one in started:
                one.kill()
                one.wait()
        if any(codes):
            raise RuntimeError(f"processes ended with {codes}")
        found: dict[str, Any] = json.loads(out.read_text())
        return found


@click.command()
@click.option("--processes", multiple=True, type=click.IntRange(2), help="[2 and 4]")
@click.option("--rounds", type=click.IntRange(1), default=6, show_default=True)
@click.option("--channels", type=int, default=SIZE["channels"], show_default=True)
@click.option("--cells", type=int, default=SIZE["cells"], show_default=True)
@click.option("--batch", type=int, default=SIZE["batch"], show_default=True, help="Of all processes together.")
@click.option("--image-size", type=int, default=SIZE["image_size"], show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write what was measured here.")
@click.option("--inside", hidden=True, type=click.Path(path_type=Path))
def communication(
    processes: tuple[int, ...], rounds: int, channels: int, cells: int, batch: int, image_size: int, out: Path | None,
    inside: Path | None,
) -> None:  # fmt: skip
    """Measure averaging gradients after the backward pass and during it, with several processes on this machine."""
    size = {"channels": channels, "cells": cells, "batch": batch, "image_size": image_size}
    if inside is not None:
        torch.set_num_threads(1)
        world = join_world("cpu")
        found = measure(world, rounds, **size)
        if world.leads:
            inside.write_text(json.dumps(found))
        leave_world()
        return
    measured = [spread(count, rounds, size) for count in processes or (2, 4)]
    for one in measured:
        none, after, during = (f"{one['step_s'][way]:.3f} s (least {one['least_s'][way]:.3f})" for way in WAYS)
        click.echo(
            f"{one['processes']} processes: step without averaging {none}, averaged after the pass {after}, during it "
            f"{during}; {one['gradients_mb']:.1f} MB of gradients, {one['statistics_messages']} messages of shared "
            "statistics"
        )
    if out is not None:
        command = "python -m benchmarks.speed.communication --out FILE"
        out.write_text(json.dumps({"environment": describe("cpu"), "command": command, "measured": measured}, indent=1))


if __name__ == "__main__":
    communication()
