"""torch, the GPUs as the driver and as torch see them, and threads."""

import importlib.util
import os
import warnings
from collections.abc import Iterator

from ablations.doctor.finding import Finding, bad, good, weak
from ablations.doctor.question import Question
from slurm.devices import DEVICES, usable_cores, visible_gpus

#: Share of a GPU's memory that others may hold before it is said.
_TAKEN = 0.5


def build(_: Question) -> Iterator[Finding]:
    """Whether torch can be imported, and what it was built for."""
    import torch

    made_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU"
    if torch.version.hip:
        made_for = f"ROCm {torch.version.hip}"
    yield good("torch", f"torch {torch.__version__}, built for {made_for}.")


def gpus(_: Question) -> Iterator[Finding]:
    """GPUs: those that the driver tells of, against those that torch can use."""
    import torch

    names = visible_gpus()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    why = f" torch says: {' '.join(str(said[0].message).split())[:300]}" if said else ""
    if not names and not count:
        hidden = os.environ.get(DEVICES)
        told = f" ({DEVICES} is {hidden!r})" if hidden is not None else ""
        yield good("GPU", f"None here{told}: runs go on the CPU.")
        return
    if not count:
        built = "torch is built for the CPU" if torch.version.cuda is None else f"torch cannot use it.{why}"
        yield bad(
            "GPU", f"The driver tells of {len(names)}, and {built}.",
            "Install a torch for this driver's CUDA (https://pytorch.org/get-started), or update the driver.",
        )  # fmt: skip
        return
    if len(names) > count:
        yield weak("GPU", f"The driver tells of {len(names)}, torch can use {count}.{why}", f"Look at {DEVICES}.")
    for number in range(count):
        yield _one(number)
    if importlib.util.find_spec("triton") is None:
        yield weak(
            "GPU", "triton is not installed: the supernet's mixed operations run unfused, several times slower.",
            "pip install triton",
        )  # fmt: skip


def _one(number: int) -> Finding:
    import torch

    properties = torch.cuda.get_device_properties(number)
    name = f"cuda:{number} is {properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    known = torch.cuda.get_arch_list()
    capability = f"sm_{properties.major}{properties.minor}"
    if known and capability not in known and not any(one.startswith(f"sm_{properties.major}") for one in known):
        return bad("GPU", f"{name}, {capability}: this torch has no code for it.", "Install a torch that lists it.")
    try:
        value = (torch.ones(8, device=f"cuda:{number}") * 2).sum().item()
    except RuntimeError as error:
        said = " ".join(str(error).split())[:200]
        return bad("GPU", f"{name}: nothing can be computed on it: {said}.", "Restart what holds it, or choose others.")
    if value != 16:
        return bad("GPU", f"{name}: it computes 8 x 2 as {value}.", "Do not use it; look at nvidia-smi.")
    free, total = torch.cuda.mem_get_info(number)
    if 1 - free / total > _TAKEN:
        way = f"nvidia-smi says who; choose another with {DEVICES}."
        return weak("GPU", f"{name}: others hold {1 - free / total:.0%} of its memory.", way)
    return good("GPU", f"{name}, {free / 2**30:.0f} GiB of it free.")


def threads(_: Question) -> Iterator[Finding]:
    """Threads that torch will use against the cores at hand."""
    import torch

    count, cores = torch.get_num_threads(), usable_cores()
    told = f"torch uses {count} on {cores} usable cores"
    asked = os.environ.get("OMP_NUM_THREADS")
    if count > cores:
        yield weak("threads", f"{told}: they wait for each other.", f"export OMP_NUM_THREADS={cores}")
    else:
        yield good("threads", f"{told}{'' if asked is None else f' (OMP_NUM_THREADS={asked[:20]})'}.")


CHECKS = {"importing torch": build, "GPUs": gpus, "threads": threads}
