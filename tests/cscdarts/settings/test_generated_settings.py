"""Every setting against values that mean nothing: each is refused in one sentence that names it, or read as what it
says; bounds hold to the last digit."""

import json
import math
from typing import Any

import pytest
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given
from hypothesis import strategies as st

from cscdarts.errors import UserError
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import build, dotted, field_paths, parse_assignments, with_values
from cscdarts.settings.values import LARGEST, LONGEST_TEXT, SMALLEST
from tests.support.generated import OBJECTS, TEXTS, Tally, ends, generated, objects, require_sentence, tallied, texts

PATHS = field_paths()
BASE = RunConfig()
tally = tallied("settings")


def field(path: str) -> Any:
    model: Any = RunConfig
    for part in path.split("."):
        found = model.model_fields[part]
        model = found.annotation
    return found


def attempt(path: str, value: object, tally: Tally, route: str) -> RunConfig | None:
    """The config with a value, or None where it is refused; fails where neither holds."""
    try:
        with ends():
            if route == "text":
                config = with_values(BASE, parse_assignments([f"{path}={value}"]))
            elif route == "value":
                config = with_values(BASE, {path: value})
            else:
                nested: Any = value
                for part in reversed(path.split(".")):
                    nested = {part: nested}
                config = build(nested)
    except UserError as error:
        require_sentence(str(error), path.rsplit(".", 1)[-1])
        tally.note("refused")
        return None
    tally.note("accepted")
    return config


def require_sound(config: RunConfig) -> None:
    """A config that can be hashed, written, read again, and that holds numbers of which each is one."""
    assert build(json.loads(config.model_dump_json())) == config
    assert build(json.loads(config.model_dump_json())).hash == config.hash
    for path, value in dotted(config.model_dump()).items():
        if isinstance(value, float):
            assert value == 0 or SMALLEST <= abs(value) <= LARGEST, path
            assert math.copysign(1, value) == 1 or value < 0, path
        if isinstance(value, str):
            assert len(value) <= LONGEST_TEXT, path
        annotation = field(path).annotation
        assert not isinstance(value, bool) or annotation is bool or bool in getattr(annotation, "__args__", ()), path


@pytest.mark.parametrize("path", PATHS)
def test_each_text_and_each_object_is_read_or_refused(path: str, tally: Tally) -> None:
    for value in TEXTS:
        config = attempt(path, value, tally, "text")
        if config is not None:
            require_sound(config)
    for value in OBJECTS:
        for route in ("value", "nested"):
            config = attempt(path, value, tally, route)
            if config is not None:
                require_sound(config)


@generated(400)
@given(path=st.sampled_from(PATHS), value=texts())
def test_any_text(path: str, value: str, tally: Tally) -> None:
    config = attempt(path, value, tally, "text")
    if config is not None:
        require_sound(config)


@generated(400)
@given(path=st.sampled_from(PATHS), value=objects(), route=st.sampled_from(["value", "nested"]))
def test_any_object(path: str, value: object, route: str, tally: Tally) -> None:
    config = attempt(path, value, tally, route)
    if config is not None:
        require_sound(config)


@generated(100)
@given(values=st.dictionaries(st.sampled_from(PATHS), objects(), min_size=2, max_size=4))
def test_any_objects_together(values: dict[str, object], tally: Tally) -> None:
    try:
        with ends():
            config = with_values(BASE, values)
    except UserError as error:
        require_sentence(str(error))
        tally.note("refused")
        return
    tally.note("accepted")
    require_sound(config)


@generated(100)
@given(assignment=st.one_of(texts(), st.tuples(texts(), texts()).map("=".join)))
def test_any_assignment(assignment: str, tally: Tally) -> None:
    try:
        require_sound(with_values(BASE, parse_assignments([assignment])))
        tally.note("accepted")
    except UserError as error:
        require_sentence(str(error))
        tally.note("refused")


@generated(60)
@given(path=st.one_of(texts(), st.sampled_from(OBJECTS[:20])))
def test_any_path_in_a_grid(path: Any, tally: Tally) -> None:
    try:
        with_values(BASE, {path: 1})
        tally.note("accepted")
    except UserError as error:
        require_sentence(str(error))
        tally.note("refused")


@pytest.mark.parametrize(
    "whole", [None, 3, "x", [], [1], {"": 1}, {"nope": {}}, {"search": None}, {"search": [1]}, {"search": "x"}]
)
def test_what_is_no_config(whole: Any) -> None:
    with pytest.raises(UserError) as caught:
        build(whole)
    require_sentence(str(caught.value))


def bounded() -> list[tuple[str, Any, bool]]:
    """(path, value, whether it is within) at each bound and just outside it."""
    found: list[tuple[str, Any, bool]] = []
    for path in PATHS:
        kinds = (field(path).annotation, *getattr(field(path).annotation, "__args__", ()))
        for mark in field(path).metadata:
            step: Any = 1 if int in kinds else None
            if isinstance(mark, Ge | Le):
                bound: Any = mark.ge if isinstance(mark, Ge) else mark.le
                way = -1 if isinstance(mark, Ge) else 1
                beyond: Any = bound + way * step if step else math.nextafter(bound, way * math.inf)
                if beyond == 0 or abs(beyond) >= SMALLEST:
                    found += [(path, bound, True), (path, beyond, False)]
                else:
                    found += [(path, bound, True), (path, way * SMALLEST, False)]
            elif isinstance(mark, Gt | Lt):
                bound = mark.gt if isinstance(mark, Gt) else mark.lt
                way = -1 if isinstance(mark, Gt) else 1
                inside: Any = bound - way * step if step else math.nextafter(bound, -way * math.inf)
                found += [
                    (path, bound, False),
                    (path, inside if inside == 0 or abs(inside) >= SMALLEST else SMALLEST, True),
                ]
    return found


#: What else has to change so that a bound is a possible value.
ALONG: dict[str, dict[str, Any]] = {
    "supernet.channels": {"supernet.split_ratio": 1},
    "search.epochs": {"search.alpha_warmup": 0},
    "search.alpha_warmup": {"search.epochs": 10_000, "search.strategy": "random"},
    "search.lr": {"search.lr_min": 0},
    "search.penalty_weight": {"search.penalty": "log-sum-exp"},
    "search.momentum": {"search.nesterov": False},
    "search.accumulate": {"search.batch_size": 1024},
    "evaluation.accumulate": {"evaluation.batch_size": 1024},
    "evaluation.warmup_epochs": {"evaluation.epochs": 0},
    "search.lr_min": {"search.lr": LARGEST},
    "seed": {"evaluation.seed": 0},
}


@pytest.mark.parametrize(("path", "value", "within"), bounded(), ids=str)
def test_bounds_hold_to_the_last_digit(path: str, value: Any, within: bool) -> None:
    for given_as in (value, repr(value)):
        values = {**ALONG.get(path, {}), path: given_as}
        if within:
            with_values(BASE, values)
        else:
            with pytest.raises(UserError, match=path):
                with_values(BASE, values)


def test_no_number_is_without_bounds() -> None:
    """Whole numbers have a largest, so that none of them takes memory or time without end."""
    for path in PATHS:
        annotation = field(path).annotation
        if int in (annotation, *getattr(annotation, "__args__", ())):
            assert any(isinstance(mark, Le | Lt) for mark in field(path).metadata), path


def test_zero_has_one_hash() -> None:
    assert with_values(BASE, {"search.lr_min": -0.0}).hash == with_values(BASE, {"search.lr_min": 0.0}).hash
    assert with_values(BASE, {"search.lr_min": "-0"}).hash == with_values(BASE, {"search.lr_min": 0}).hash
