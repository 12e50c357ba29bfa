"""The NAS-Bench-201 space as the official packages number it: 15,625 architecture strings and their indices. No torch.

The official order is the order of a random draw, so it has to be shipped: `embedded/official-order.bin` holds one
little-endian 16-bit code for each index, six base-5 digits, one per edge, most significant first.
`embedded/network-classes.bin` holds in the same way which strings spell the same network, as
`benchmarks.tabular.isomorphism` works it out.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cscdarts.errors import UserError
from cscdarts.spaces import NASBENCH201, CellGenotype, Genotype, parse_genotype

Ints = npt.NDArray[np.int64]

SIZE = 5**6
_EMBEDDED = Path(__file__).parents[1] / "embedded"
_ORDER_FILE = _EMBEDDED / "official-order.bin"
_CLASSES_FILE = _EMBEDDED / "network-classes.bin"
#: Weight of each edge's digit in a code.
POWERS: Ints = 5 ** np.arange(5, -1, -1, dtype=np.int64)


@cache
def official_codes() -> Ints:
    """Code of the architecture at each official index, shape (15625,)."""
    return np.fromfile(_ORDER_FILE, dtype="<u2").astype(np.int64)


@cache
def index_of_code() -> Ints:
    """Official index of each code, shape (15625,): the inverse of `official_codes`."""
    inverse = np.empty(SIZE, dtype=np.int64)
    inverse[official_codes()] = np.arange(SIZE)
    return inverse


@cache
def network_classes() -> Ints:
    """Class of equal networks at each official index, shape (15625,): the numbers of `isomorphism.classes`."""
    return np.fromfile(_CLASSES_FILE, dtype="<u2").astype(np.int64)


@cache
def official_archs() -> tuple[str, ...]:
    """The architecture strings in official order, `meta_archs` of NATS-tss-v1_0-3ffb9."""
    # Spelled here rather than by CellGenotype, whose checks would cost a third of a second over the whole space.
    ops = NASBENCH201.ops
    spelled = [f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|" for a, b, c, d, e, f in product(ops, repeat=6)]
    return tuple(spelled[code] for code in official_codes().tolist())


def official_arch(index: int) -> str:
    """The architecture string of an official index.

    Errors:
        UserError: no such index.
    """
    if not 0 <= index < SIZE:
        raise UserError("genotype", index, f"an index from 0 to {SIZE - 1}", "The space holds 15,625 cells.")
    return official_archs()[index]


@cache
def _index_of_arch() -> dict[str, int]:
    return {arch: index for index, arch in enumerate(official_archs())}


def official_index(arch: str | CellGenotype) -> int:
    """The official index of an architecture.

    The packages answer -1 for an unknown string and pass it on as an index; here it is an error.

    Errors:
        UserError: the text is no cell of this space.
    """
    index = _index_of_arch().get(str(arch))
    return index if index is not None else _index_of_arch()[str(read_cell(str(arch)))]


def official_indices(archs: Iterable[str]) -> Ints:
    """The official indices of many architecture strings, shape (len(archs),).

    Errors:
        UserError: one of them is no cell of this space.
    """
    known = _index_of_arch()
    texts = list(archs)
    try:
        return np.fromiter((known[text] for text in texts), dtype=np.int64, count=len(texts))
    except KeyError:
        return np.array([official_index(text) for text in texts], dtype=np.int64)


def read_cell(text: str) -> CellGenotype:
    """A NAS-Bench-201 cell from its string.

    Errors:
        UserError: another text, or a genotype of another space.
    """
    return require_cell(parse_genotype(text))


def require_cell(genotype: Genotype) -> CellGenotype:
    """The genotype itself where it is a cell of this space.

    Errors:
        UserError: a genotype of another space.
    """
    if not isinstance(genotype, CellGenotype):
        raise UserError(
            "genotype",
            f"a cell of the {genotype.space} space",
            "a cell of the nasbench201 space, |op~0|+|op~0|op~1|+|op~0|op~1|op~2|",
            "The benchmarks hold no other cells; cscdarts cost, draw and retrain take this one.",
        )
    return genotype


def require_official_order(archs: Sequence[str], source: str) -> None:
    """Refuse a list of architectures that is not the official one.

    Errors:
        UserError: another number of architectures, another space or another order.
    """
    if tuple(archs) == official_archs():
        return
    if len(archs) != SIZE:
        found = f"{len(archs)} architectures"
    else:
        place = next(i for i, (a, b) in enumerate(zip(archs, official_archs(), strict=True)) if a != b)
        found = f"{str(archs[place])[:80]} at index {place}"
    raise UserError(
        source,
        found,
        "the 15,625 cells of the NAS-Bench-201 space in official order",
        "This is another search space or a broken file; give the topology (tss) benchmark.",
    )
