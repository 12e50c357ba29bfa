"""Whether this machine has the device that a run is to take, asked before it begins; torch is imported only where CUDA
is named."""


def require_device(name: str) -> None:
    """Refuse a device that this machine lacks.

    Errors:
        UserError: CUDA is named, and torch sees none, or fewer devices.
    """
    if name.startswith("cuda"):
        from cscdarts.training.distributed import World, resolve_device

        resolve_device(name, World())
