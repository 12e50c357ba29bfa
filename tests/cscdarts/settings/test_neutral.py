"""Fields that came after results were stored: left out of the hash at their neutral value, hashed at any other."""

import json
from fractions import Fraction
from typing import Annotated

import pytest

from cscdarts.settings.config import Neutral, RunConfig, neutral_values
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.protocols import PROTOCOLS, protocol
from cscdarts.settings.ratio import Ratio
from cscdarts.settings.values import Frozen


class Inner(Frozen):
    old: int = 1
    word: Annotated[str, Neutral("as before")] = "as before"
    number: Annotated[int, Neutral(0)] = 5  # the default was changed after the field came
    ratio: Annotated[Ratio, Neutral(Fraction(1, 2))] = Fraction(1, 2)
    optional: Annotated[int | None, Neutral(None)] = None
    flag: Annotated[bool | int, Neutral(False)] = False


class WithLater(RunConfig):
    inner: Inner = Inner()


def canonical(**values: object) -> dict[str, object]:
    inner: dict[str, object] = json.loads(WithLater(inner=Inner.model_validate(values)).canonical())["inner"]
    return inner


def test_a_later_field_is_left_out_at_its_neutral_value_only() -> None:
    assert canonical(number=0) == {"old": 1}
    assert canonical(number=0, word="otherwise") == {"old": 1, "word": "otherwise"}
    assert canonical(number=0, ratio="1/4") == {"old": 1, "ratio": "1/4"}
    assert canonical(number=0, optional=0) == {"old": 1, "optional": 0}


def test_a_default_that_is_not_neutral_is_hashed() -> None:
    assert canonical() == {"old": 1, "number": 5}


def test_neutral_values_by_path() -> None:
    own = {
        f"inner.{name}": value for name, value in {"word": "as before", "number": 0, "ratio": Fraction(1, 2)}.items()
    }
    assert neutral_values(WithLater) == {**neutral_values(), **own, "inner.optional": None, "inner.flag": False}


def test_a_value_of_another_type_is_not_the_neutral_one() -> None:
    """In Python 0 equals False; in the JSON they differ."""
    assert canonical(number=0, flag=0) == {"old": 1, "flag": 0}
    assert canonical(number=0, flag=False) == {"old": 1}


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("scale", ["smoke", "reduced", "paper"])
@pytest.mark.parametrize("preset", ["csc", "darts1", "darts2", "pcdarts", "dartsminus", "random", "random-ws"])
def test_protocols_hold_only_fields_of_the_first_schema(name: str, scale: str, preset: str) -> None:
    """The fields below were there when the first results were stored: with only these in it, their hashes stay.

    Presets that came later may hold later fields.
    """
    first = {
        "data": "crop_padding dataset flip image_size search_dataset search_fraction split_seed",
        "supernet": "bypass_reduce cells channels edge_norm identity identity_decay identity_phases identity_proj "
        "identity_scale ops shuffle space split_pick split_ratio",
        "search": "accumulate alpha_betas alpha_init_std alpha_lr alpha_warmup alpha_weight_decay amp batch_size "
        "checkpointing compile cosine_every derive epochs eps grad_clip hessian_every lr lr_min momentum nesterov "
        "order random_candidates strategy weight_decay xi",
        "evaluation": "accumulate amp auxiliary batch_size cells channels color_jitter compile cutout drop_path epochs "
        "fit_macs_m grad_clip identity_drop_path label_smoothing lr lr_gamma lr_min momentum nesterov schedule seed "
        "split_eval warmup_epochs weight_decay",
    }
    found = json.loads(apply_preset(protocol(name, scale), preset).canonical())
    assert set(found) == {"schema_version", "seed", *first}
    for section, words in first.items():
        assert sorted(found[section]) == words.split()


@pytest.mark.parametrize(
    ("name", "scale", "preset", "expected"),
    [
        ("quickstart", "reduced", "csc", "f57adfefabe3c811"),
        ("quickstart", "reduced", "darts1", "e16ab571455306c7"),
        ("quickstart", "reduced", "darts2", "873406a66107f5cd"),
        ("quickstart", "reduced", "pcdarts", "de72beaf1f29c2bd"),
        ("quickstart", "reduced", "dartsminus", "5680d5c9c4bec521"),
        ("quickstart", "reduced", "random", "5469707faf9665cf"),
        ("quickstart", "reduced", "random-ws", "490a831187f03007"),
        ("quickstart", "paper", "csc", "eac150c343d36a7e"),
        ("cifar10", "paper", "csc", "fb6e83b76b7549c2"),
        ("cifar100", "paper", "csc", "e207149c66ca9b95"),
        ("cifar100-transfer", "paper", "csc", "3c909555a8dbf8b3"),
        ("imagenet-transfer", "paper", "csc", "df08d0c9621e4d43"),
        ("imagenet-direct", "paper", "csc", "7bb13d8eaf4dc02c"),
        ("nasbench201", "paper", "csc", "38ca5ffa85d5213d"),
    ],
)
def test_stored_hashes_of_protocols_stay(name: str, scale: str, preset: str, expected: str) -> None:
    assert apply_preset(protocol(name, scale), preset).hash == expected
