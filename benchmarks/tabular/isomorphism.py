"""Which cells of the NAS-Bench-201 space are the same network: exact classes of the 15,625 architecture strings. No torch.

A cell is read as an expression over *atoms*. An atom is the cell's input or the output of one convolution edge; the
value of a node is a sum of atoms, each average-pooled zero or more times (`skip_connect` passes a sum on, `avg_pool_3x3`
is linear, so it distributes over a sum). Then

* edges that read a zero node or do not reach the output vanish, as does `none`;
* the order of parallel edges and the number of a node do not matter;
* reading one convolution twice (2 f(x)) and summing two convolutions (f(x) + g(x)) stay apart.

This is exact where a convolution of zero is zero (ReLU-Conv-BN without learned affine parameters or biases): the
embedded benchmark's network is built so. It is *not* the official `get_unique_str` (6,466 classes), which merges
2 f(x) with f(x) + g(x) and keeps dead edges apart; ask the official package for that one.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import permutations, product

from cscdarts.spaces import NASBENCH201, CellGenotype

#: A node's value: (times pooled, atom) -> multiplicity; atom -1 is the cell's input.
Value = dict[tuple[int, int], int]

_CONVOLUTIONS = ("nor_conv_1x1", "nor_conv_3x3")


def all_cells() -> list[CellGenotype]:
    """The 15,625 cells, in the order of `itertools.product` over edges and operations (not the official order)."""
    return [CellGenotype(ops) for ops in product(NASBENCH201.ops, repeat=len(NASBENCH201.edges))]


def live_edges(ops: Sequence[str]) -> tuple[bool, ...]:
    """Which of the six edges carry something to the output: operation not `none`, source not zero, target read."""
    nonzero = [True, False, False, False]
    for (source, target), op in zip(NASBENCH201.edges, ops, strict=True):
        nonzero[target] |= op != "none" and nonzero[source]
    read = [False, False, False, True]
    for (source, target), op in reversed(list(zip(NASBENCH201.edges, ops, strict=True))):
        read[source] |= op != "none" and read[target]
    return tuple(
        op != "none" and nonzero[source] and read[target]
        for (source, target), op in zip(NASBENCH201.edges, ops, strict=True)
    )


def canonical_form(ops: Sequence[str]) -> tuple[object, ...]:
    """The smallest spelling of the cell's expression over all orders of its convolutions; equal forms, equal networks."""
    values: list[Value] = [{(0, -1): 1}, {}, {}, {}]
    atoms: list[tuple[int, Value]] = []
    for (source, target), op, live in zip(NASBENCH201.edges, ops, live_edges(ops), strict=True):
        if not live:
            continue
        if op in _CONVOLUTIONS:
            atoms.append((_CONVOLUTIONS.index(op), values[source]))
            added: Value = {(0, len(atoms) - 1): 1}
        else:
            pooled = int(op == "avg_pool_3x3")
            added = {(times + pooled, atom): count for (times, atom), count in values[source].items()}
        total = Counter(values[target])
        total.update(added)
        values[target] = dict(total)
    best: tuple[object, ...] | None = None
    for order in permutations(range(len(atoms))):
        place = {atom: position for position, atom in enumerate(order)} | {-1: -1}
        if any(place[read] >= place[atom] for atom in order for _, read in atoms[atom][1]):
            continue
        form = (
            tuple((atoms[atom][0], _spelled(atoms[atom][1], place)) for atom in order),
            _spelled(values[3], place),
        )
        if best is None or form < best:
            best = form
    assert best is not None
    return best


def _spelled(value: Value, place: dict[int, int]) -> tuple[tuple[int, int, int], ...]:
    return tuple(sorted((times, place[atom], count) for (times, atom), count in value.items()))


@cache
def classes() -> tuple[dict[str, int], tuple[CellGenotype, ...]]:
    """All cells by class.

    Returns:
        (architecture string -> class number, class number -> its first cell in the order of `all_cells`).
    """
    numbers: dict[tuple[object, ...], int] = {}
    class_of: dict[str, int] = {}
    first: list[CellGenotype] = []
    for cell in all_cells():
        form = canonical_form(cell.ops)
        if form not in numbers:
            numbers[form] = len(first)
            first.append(cell)
        class_of[str(cell)] = numbers[form]
    return class_of, tuple(first)
