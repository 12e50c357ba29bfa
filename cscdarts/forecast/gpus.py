"""GPUs as their data sheets describe them, and how long a step takes on one by the roofline model. No torch.

    kernels = sum over launches of max(bytes / (s_b * bandwidth), FLOPs / (s_f * peak))
    step    = max(kernels, launches * t_l)

A step waits for memory, for arithmetic, or for the host that launches it. Williams, Waterman and Patterson 2009 for the
model; the shares s_b and s_f of the data sheet that eager code reaches are assumptions, see `BANDWIDTH_SHARE`. What
comes out is an estimate and is called one wherever it stands.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, TypeVar

#: Share of the bandwidth that small, mostly depthwise float32 maps in NCHW reach, by our count of bytes. Set so that
#: DARTS of first order comes out at its published 0.4 GPU-days on a GTX 1080 Ti; other published costs test it.
BANDWIDTH_SHARE = 0.19
#: Share of the arithmetic peak; nothing published here hangs on it.
PEAK_SHARE = 0.4
#: Seconds in which eager PyTorch launches one operator of a forward and backward pass: an assumption, 8 microseconds.
LAUNCH_S = 8e-6
#: Bytes that a process holds beside what torch allocates in tensors: CUDA context, loaded kernels, workspaces of
#: algorithms that are tried out, the allocator's reserve. From the four published figures in `docs/gpu.md`.
OUTSIDE_BYTES = 1.2e9


class Work(Protocol):
    """One operator's launch; see `counting.Launch`."""

    @property
    def moved(self) -> int: ...

    @property
    def flops(self) -> int: ...

    @property
    def depthwise(self) -> bool: ...

    @property
    def half(self) -> bool: ...


AnyWork = TypeVar("AnyWork", bound=Work)


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        memory_gb: of its memory, 10^9 bytes.
        bandwidth_gb_s: of its memory.
        tflops: float32 arithmetic outside of matrix units.
        tensor_tflops: convolutions and products of float32 maps, in TF32 where matrix units have it.
        half_tflops: the same of half-precision maps.
        source: where these stand.
    """

    name: str
    memory_gb: float
    bandwidth_gb_s: float
    tflops: float
    tensor_tflops: float
    half_tflops: float
    source: str

    def kernel_s(self, work: Work) -> float:
        """Seconds of one launch on the device."""
        peak = self.tflops if work.depthwise else self.half_tflops if work.half else self.tensor_tflops
        return max(work.moved / (BANDWIDTH_SHARE * self.bandwidth_gb_s * 1e9), work.flops / (PEAK_SHARE * peak * 1e12))

    def step_s(self, kinds: Mapping[AnyWork, int]) -> float:
        """Seconds of a step, from its launches and how often each comes."""
        kernels = sum(times * self.kernel_s(work) for work, times in kinds.items())
        return max(kernels, sum(kinds.values()) * LAUNCH_S)


_ALL = (
    Gpu("V100", 32, 900, 15.7, 15.7, 125, "NVIDIA V100 Tensor Core GPU data sheet, SXM2 (16 or 32 GB)"),
    Gpu("A100", 80, 2039, 19.5, 156, 312, "NVIDIA A100 Tensor Core GPU data sheet, SXM 80 GB (40 GB: 1,555 GB/s)"),
    Gpu("H100", 80, 3350, 67, 494, 989, "NVIDIA H100 Tensor Core GPU data sheet, SXM5, without sparsity"),
    Gpu("RTX 4090", 24, 1008, 82.6, 82.6, 165.2, "NVIDIA Ada GPU Architecture white paper, GeForce RTX 4090"),
)
GPUS: Mapping[str, Gpu] = MappingProxyType({gpu.name: gpu for gpu in _ALL})
#: On which the published search costs were measured; it has no matrix units.
GTX_1080_TI = Gpu("GTX 1080 Ti", 11, 484, 11.3, 11.3, 11.3, "NVIDIA GeForce GTX 1080 Ti product page")
