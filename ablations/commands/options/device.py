"""Whether this machine has the device that runs are to take, asked before any of them begins; torch is imported only
where CUDA is named."""

from collections.abc import Iterable

from cscdarts.errors import UserError
from slurm.backends.local import visible_gpus


def require_device(name: str) -> None:
    """Refuse a device that this machine lacks.

    Errors:
        UserError: CUDA is named, and torch sees none, or fewer devices.
    """
    if name.startswith("cuda"):
        from cscdarts.training.distributed import World, resolve_device

        resolve_device(name, World())


def require_pooled_devices(names: Iterable[str]) -> None:
    """Refuse devices that the workers of a grid on this machine will lack: each sees one GPU and calls it `cuda:0`.

    Errors:
        UserError: see `require_device`; or a second GPU is named where each worker sees one.
    """
    for name in sorted(set(names)):
        require_device("cuda" if name == "cuda:0" else name)
        if name.startswith("cuda:") and name != "cuda:0" and visible_gpus():
            raise UserError(
                "runtime.device", name, "auto, cpu, cuda or cuda:0 in a grid on this machine",
                "Each worker sees a GPU of its own; CUDA_VISIBLE_DEVICES chooses which GPUs take part.",
            )  # fmt: skip
