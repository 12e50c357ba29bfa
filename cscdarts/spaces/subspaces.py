"""The DARTS space with fewer operations: S1 to S4 of Zela et al. 2020 (R-DARTS, arXiv 1909.09656), section 3.

Plain DARTS finds bad cells in each of them, which is what they are for.

| space | candidates of an edge |
|---|---|
| `darts_s1` | two operations, other ones on each edge: those a search of the whole space with pruning left |
| `darts_s2` | `skip_connect`, `sep_conv_3x3` |
| `darts_s3` | `none`, `skip_connect`, `sep_conv_3x3` |
| `darts_s4` | `gaussian_noise`, `sep_conv_3x3` |

Cells, genotypes, stacking and sizes are those of the `darts` space. Names have an underscore where papers have none, as
all names of spaces are identifiers. The candidates of S1 are those of automl/RobustDARTS `src/spaces.py`; `noise` there
is `gaussian_noise` here, so that operations that users registered under that name keep it.
"""

from dataclasses import replace

from cscdarts.spaces.darts import DARTS
from cscdarts.spaces.space import Space, register_space

_SHORT = {
    "id": "skip_connect",
    "mp": "max_pool_3x3",
    "ap": "avg_pool_3x3",
    "s3": "sep_conv_3x3",
    "d3": "dil_conv_3x3",
    "d5": "dil_conv_5x5",
}
#: Two operations for each edge in the order of `Space.edges`, a node's edges between bars.
_S1 = {
    "normal": "id,d3 id,d5 | id,d5 id,s3 id,d3 | mp,id id,s3 id,s3 id,d3 | id,s3 mp,id id,d3 d3,d5 d3,d5",
    "reduce": "mp,ap mp,d3 | mp,ap mp,ap id,d5 | mp,ap mp,s3 id,d3 id,d5 | mp,ap mp,ap id,d5 id,d5 id,d5",
}


def _candidates(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(_SHORT[op] for op in edge.split(",")) for edge in text.split() if edge != "|")


SUBSPACES: tuple[Space, ...] = (
    replace(
        DARTS,
        name="darts_s1",
        ops=("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3", "dil_conv_5x5"),
        candidates={kind: _candidates(text) for kind, text in _S1.items()},
    ),
    replace(DARTS, name="darts_s2", ops=("skip_connect", "sep_conv_3x3")),
    replace(DARTS, name="darts_s3", ops=("none", "skip_connect", "sep_conv_3x3")),
    replace(DARTS, name="darts_s4", ops=("gaussian_noise", "sep_conv_3x3")),
)
for _space in SUBSPACES:
    register_space(_space)
