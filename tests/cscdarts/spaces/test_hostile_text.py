"""Text that was made to be read for ever, or to fill the memory, is refused soon."""

import time

import pytest

from cscdarts.errors import UserError
from cscdarts.spaces.reading.read import read_text


def doubled(first: int, end: int) -> str:
    """YAML in which each list holds the one before it twice."""
    return "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(first, end))


@pytest.mark.parametrize(
    "text",
    [
        "Genotype(" + "(" * 200_000,
        "Genotype(normal=" + "[" * 100 + "]" * 100 + ")",
        "Genotype(normal=[" * 20_000,
        '{"normal": [' * 20_000,
        "|none~0|+" * 50_000,
        "normal = [" * 20_000,
        "a" * 2_000_000,
        "a " * 1_000_000,
        "normal: &a [x]\n" + "".join(f"b{i}: &b{i} [{'*a, ' * 9}*a]\n" for i in range(20)),
        "a: &a [1]\na0: &a0 [*a, *a]\n" + doubled(1, 40) + "normal_x: 1",
        "normal: [x]\na0: &a0 [1]\n" + doubled(1, 60),
        "~0+" * 100_000,
        "Genotype(normal=" + "-" * 50_000 + "1)",
        "Genotype(normal=" + "+".join("a" * 5_000) + ")",
        "Genotype(normal=[('none', 0x" + "f" * 50_000 + ")])",
        "Genotype(normal=x" + ".item()" * 5_000 + ")",
    ],
    ids=[
        "deep", "deeper", "calls", "dictionaries", "strings", "fields", "one word", "words", "anchors",
        "doubling anchors", "doubling anchors beside a cell", "signs", "minus signs", "sums",
        "a huge number", "methods",
    ],
)  # fmt: skip
def test_hostile_text_is_refused_in_bounded_time(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(UserError):
        read_text(text)
    assert time.monotonic() - began < 20
