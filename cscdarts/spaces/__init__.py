"""Search spaces and candidate operations, found by name. No torch.

A space is one `Space` object, an operation one `Operation` record. Those of the package are registered here; a user's
are registered the same way, from a grid file or from a module named in `CSCDARTS_PLUGINS` (see `registry`).
"""

from cscdarts.spaces.darts import DARTS, DartsGenotype
from cscdarts.spaces.genotype import parse_genotype, random_genotype
from cscdarts.spaces.nasbench201 import NASBENCH201, CellGenotype
from cscdarts.spaces.neighbours import beside
from cscdarts.spaces.operations import (
    OPERATIONS,
    Conv,
    ConvShape,
    Noise,
    Operation,
    Pool,
    Skip,
    Zero,
    register_operation,
)
from cscdarts.spaces.registry import load_file, load_plugin
from cscdarts.spaces.rules import StrongestInputs, StrongestOperation, softmax
from cscdarts.spaces.skeleton import CellPlan, MacroSkeleton, NetworkPlan, ReductionPlan, is_large, size_step
from cscdarts.spaces.space import CLOSED, SPACES, Genotype, KeptEdge, NetworkSize, Space, register_space
from cscdarts.spaces.subspaces import SUBSPACES

SPACES.close()

__all__ = [
    "CLOSED",
    "DARTS",
    "NASBENCH201",
    "OPERATIONS",
    "SPACES",
    "SUBSPACES",
    "CellGenotype",
    "CellPlan",
    "Conv",
    "ConvShape",
    "DartsGenotype",
    "Genotype",
    "KeptEdge",
    "MacroSkeleton",
    "NetworkPlan",
    "NetworkSize",
    "Noise",
    "Operation",
    "Pool",
    "ReductionPlan",
    "Skip",
    "Space",
    "StrongestInputs",
    "StrongestOperation",
    "Zero",
    "beside",
    "is_large",
    "load_file",
    "load_plugin",
    "parse_genotype",
    "random_genotype",
    "register_operation",
    "register_space",
    "size_step",
    "softmax",
]
