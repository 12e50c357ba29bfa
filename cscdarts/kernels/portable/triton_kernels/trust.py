"""Whether the Triton programs compute on a device what torch's own functions do there."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.kernels.candidates import SharedMap
from cscdarts.kernels.portable.arithmetic import TORCH, Arithmetic, BackItem, Item
from cscdarts.kernels.portable.levels import joined

#: Largest difference, as a share of the largest value.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
#: Images, edges, channels, height and width: planes of several blocks' rest, an odd side, more than one of all.
_SHAPE = 3, 2, 4, 6, 5


def fault(programs: Arithmetic, device: torch.device, dtype: torch.dtype) -> str | None:
    """What is wrong with the programs on a device, in some words; None where nothing is.

    Takes a moment, and the host waits for the device; the state of torch's random numbers stays.
    """
    try:
        # Tensors of one stand for what is read where nothing is normalised, and the like: both ways have all of them.
        for (what, found), (_, expected) in zip(_results(programs, device, dtype), _results(TORCH, device, dtype)):  # noqa: B905
            difference = float((found.double() - expected.double()).abs().max())
            if not difference <= _TOLERANCE.get(dtype, 1e-2) * max(1.0, float(expected.double().abs().max())):
                return f"{what} differ by {difference:.2g}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
    return None


def _results(by: Arithmetic, device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Everything that an arithmetic computes of maps made from one seed, with its name."""
    draw = torch.Generator().manual_seed(0)
    n, edges, c, h, w = _SHAPE
    width = edges * c

    def random(*shape: int, type_: torch.dtype = dtype) -> Tensor:
        return torch.randn(*shape, generator=draw).to(device, type_)

    sums = torch.float64 if dtype == torch.float64 else torch.float32
    norms = [BatchNorm(width, affine=False).to(device, sums) for _ in range(4)]
    for name in ("running_mean", "running_var"):
        for norm, place in zip(norms, torch.stack([getattr(norm, name) for norm in norms]), strict=True):
            setattr(norm, name, place)
    pool_norm = BatchNorm(c, affine=False).to(device, sums)
    chain, whole, pooled, x = (random(n, d, h, w) for d in (3 * width, width, c, c))
    weight = random(3 * width, type_=sums).abs_()
    weight[: 2 * width] = 1  # of operations that go on
    terms, rectified = by.normalise(
        [
            Item(chain, norms[:3], weight, on=2),
            Item(whole, norms[3:], weight[-width:]),
            Item(pooled, [pool_norm], None),
        ]
    )
    for number, term in enumerate(terms):
        assert term.statistics is not None
        yield "means", term.statistics.mean
        yield "deviations", term.statistics.inv_std
        yield "rectified maps", rectified[min(number, 1)]
    yield "running means", joined([norm.running_mean for norm in norms])
    yield "running variances", joined([norm.running_var for norm in norms])
    statistics = terms[0].statistics
    assert statistics is not None
    yield "rectified maps once more", torch.stack(list(by.rectify(chain, statistics, norms[0].eps, 3, 2)))
    factors = random(3, edges, type_=sums)
    skip, average = SharedMap(None, None, 1), SharedMap("avg", None, 1)
    averages = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    given = [
        (operation, terms[2]._replace(map=map_, statistics=None, weighted=map_, affine=None))
        for operation, map_ in ((skip, x), (average, x if by.folds(average) else averages))
    ]
    shared = [(SharedMap("max", pool_norm, 1), terms[2]), *given]
    yield "sums", torch.stack(by.weigh(x, terms[:2], shared, factors))
    grad = random(n, width, h, w)
    backs = [BackItem(t.map, t.statistics, weight[-t.map.shape[1] :], t.on) for t in terms[:2] if t.statistics]
    for found in by.normalise_backward(
        grad, backs, [random(n, width, h, w) for _ in range(2)], rectified, [(True, True)] * 2
    ):
        assert found.map is not None
        assert found.weight is not None
        yield "gradients of maps", found.map
        yield "gradients of mixing weights", found.weight
    of_pool = terms[2].statistics
    yield "gradients of pooled maps", torch.stack(by.shared_backward(grad, factors[:2], [pooled] * 2, [of_pool] * 2))
    parts = [random(n, c, h, w)]
    of_relu = [random(n, c, h, w) for _ in range(2)]
    if not by.folds(skip):
        mine = TORCH.shared_backward(grad, factors[1:], [x, x], [None, None])
        back = torch.ops.aten.avg_pool2d_backward(mine[1], x, [3, 3], [1, 1], [1, 1], False, False, None)
        yield "gradients of x", by.gather(of_relu, x.relu(), [*parts, mine[0], back], grad, None, None)
    else:
        yield "gradients of x", by.gather(of_relu, x.relu(), parts, grad, factors[1], factors[2])
