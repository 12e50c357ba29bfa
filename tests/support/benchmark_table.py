"""A small benchmark table for tests of checks: its numbers are easy to count by hand."""

import numpy as np

from benchmarks.tabular.space import SIZE
from benchmarks.tabular.table import BenchmarkTable

NAN = float("nan")


def sparse(values: dict[int, float], rest: float = NAN) -> np.ndarray:
    column = np.full(SIZE, rest)
    for index, value in values.items():
        column[index] = value
    return column


def table(**more: np.ndarray) -> BenchmarkTable:
    """Five cells on two data sets; on CIFAR-10 two lengths, and two trials of the longer one."""
    return BenchmarkTable(
        {
            "digits_valid_acc_6": sparse({5: 90.0, 6: 80.0, 7: 70.0, 8: 60.0, 9: NAN}),
            "digits_test_acc_6": sparse({5: 88.0, 6: 89.0, 7: 71.0, 8: 88.0, 9: 50.0}),
            "digits_query_s_6": sparse({5: 1.5}),
            "cifar10_valid_acc_12": sparse({5: 40.0, 6: 41.0}),
            "cifar10_test_acc_12": sparse({5: 42.0, 6: 41.5}),
            "cifar10_valid_acc_200": sparse({5: 91.0, 6: 92.0}),
            "cifar10_test_acc_200": sparse({5: 93.0, 6: 92.5}),
            "cifar10_valid_acc_200_777": sparse({5: 90.5}),
            "cifar10_test_acc_200_777": sparse({5: 93.5}),
            **more,
        },
        {"kind": "invented"},
    )
