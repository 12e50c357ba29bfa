"""Whether an image reaches the classifier: cells that `none` cuts off from their input can learn nothing. No torch."""

from collections.abc import Container, Mapping
from typing import Literal

from cscdarts.spaces.operations import OPERATIONS
from cscdarts.spaces.skeleton import CellPlan
from cscdarts.spaces.space import SPACES, Genotype


def idle_kinds(genotype: Genotype) -> tuple[str, ...]:
    """The kinds of cell no operation of which has a part in the output: every way from the inputs ends in a `none`."""
    space = SPACES[genotype.space]
    given = dict.fromkeys(range(space.inputs), True)
    return tuple(kind for kind in space.cell_kinds if not _carries(genotype, kind, given))


def is_cut_off(
    genotype: Genotype,
    cells: int,
    *,
    identity: Literal["cell", "edge", "none"] = "none",
    projects: bool = True,
    bypass: Literal["all", "stride 1", "none"] = "none",
) -> bool:
    """Whether the network of a genotype gives one answer to all images, because no map of an image is handed on.

    Args:
        cells: number of cells, as the space's skeleton counts them.
        identity: the identity connection of the network.
        projects: whether the cell identity also stands where its shapes differ, see `SupernetConfig.identity_proj`.
        bypass: at which edges channels pass the operation by (`EvaluationConfig.split_eval`).
    """
    space = SPACES[genotype.space]
    maps = [True, True]  # whether the two newest maps depend on the image
    for block in space.plan(cells, 2, False, genotype).blocks:
        alive = maps[1]
        if isinstance(block, CellPlan):
            given = dict(enumerate(maps[-space.inputs :]))
            strided = range(space.inputs) if block.reduction else ()
            passed = identity == "edge" or bypass == "all"
            alive = _carries(genotype, block.kind, given, passed, passed or bypass == "stride 1", strided)
            matches = block.inputs[-1] == block.outputs and not block.reduction
            alive = alive or (identity == "cell" and maps[1] and (projects or matches))
        maps = [maps[1], alive]
    return not maps[1]


def _carries(
    genotype: Genotype,
    kind: str,
    given: Mapping[int, bool],
    strided_pass: bool = False,
    others_pass: bool = False,
    strided: Container[int] = (),
) -> bool:
    """Whether a cell's output depends on those of its inputs that do.

    Args:
        given: input node -> whether its map depends on the image.
        strided_pass, others_pass: whether edges of stride 2, and all others, hand something on whatever they do.
        strided: the nodes whose edges have stride 2.
    """
    alive = dict(given)
    for source, target, op in sorted(genotype.edges(kind), key=lambda edge: edge.target):
        passes = strided_pass if source in strided else others_pass
        alive[target] = alive.get(target, False) or (
            alive.get(source, False) and (passes or not OPERATIONS[op].is_zero)
        )
    return any(alive.get(node, False) for node in genotype.concat(kind))
