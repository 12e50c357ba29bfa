"""The edge-by-edge supernet that tests hold ours against; see `benchmarks/edgewise.py`, which the speed benchmark shares."""

from benchmarks.edgewise import (
    OracleSupernet,
    copy_weights,
    first_order_gradient,
    second_order_gradient,
    weight_step,
)

__all__ = ["OracleSupernet", "copy_weights", "first_order_gradient", "second_order_gradient", "weight_step"]
