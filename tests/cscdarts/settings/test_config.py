"""The run configuration: one hash over everything that can change a number and nothing else; sentences for bad
input."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from cscdarts.errors import UserError
from cscdarts.settings.config import RunConfig
from cscdarts.settings.methods import PRESETS, apply_preset
from cscdarts.settings.open_choices import switches
from cscdarts.settings.overrides import build, field_paths, parse_assignments, resolve_key, with_values
from cscdarts.settings.protocols import PROTOCOLS, protocol

#: A second valid value for each field, given the defaults.
OTHER: dict[str, Any] = {
    "schema_version": 99,
    "seed": 7,
    "data.dataset": "cifar10",
    "data.search_dataset": "cifar100",
    "data.image_size": 16,
    "data.search_fraction": 0.5,
    "data.flip": True,
    "data.crop_padding": 2,
    "data.split_seed": 3,
    "data.square": "pad",
    "data.background": "black",
    "data.fingerprint": "0123456789abcdef",
    "data.search_fingerprint": "fedcba9876543210",
    "supernet.space": "nasbench201",
    "supernet.ops": ("skip_connect", "sep_conv_3x3"),
    "supernet.channels": 32,
    "supernet.cells": 5,
    "supernet.split_ratio": "1/4",
    "supernet.split_pick": "last",
    "supernet.shuffle": False,
    "supernet.edge_norm": True,
    "supernet.bypass_reduce": "avg",
    "supernet.identity": "edge",
    "supernet.identity_scale": 0.5,
    "supernet.identity_decay": "linear",
    "supernet.identity_proj": "pool-pad",
    "supernet.identity_phases": "search",
    "search.strategy": "random-ws",
    "search.genotype": "PDARTS",
    "search.order": 1,
    "search.xi": 0.01,
    "search.eps": 0.1,
    "search.epochs": 40,
    "search.batch_size": 128,
    "search.lr": 0.1,
    "search.lr_min": 0.0,
    "search.momentum": 0.5,
    "search.nesterov": True,
    "search.weight_decay": 1e-4,
    "search.grad_clip": 1.0,
    "search.alpha_lr": 6e-4,
    "search.alpha_betas": (0.9, 0.99),
    "search.alpha_weight_decay": 0.0,
    "search.alpha_init_std": 0.0,
    "search.alpha_warmup": 0,
    "search.weighting": "gumbel",
    "search.temperature": 10.0,
    "search.temperature_end": 0.1,
    "search.alpha_noise": 0.3,
    "search.penalty": "zero-one",
    "search.penalty_weight": 2.0,
    "search.penalty_rise": "linear",
    "search.skip_dropout": 0.2,
    "search.stages": 2,
    "search.stage_epochs": 0.5,
    "search.stage_cells": (0.5,),
    "search.stage_skip_dropout": (0.3,),
    "search.stage_candidates": 3,
    "search.derive": "best",
    "search.derive_finetune": 2,
    "search.derive_skips": 3,
    "search.derive_window": 4,
    "search.derive_growth": 1.3,
    "search.best_of": 4,
    "search.random_candidates": 5,
    "search.accumulate": 2,
    "search.amp": "bf16",
    "search.compile": True,
    "search.checkpointing": "cell",
    "search.cosine_every": 5,
    "search.hessian_every": 5,
    "evaluation.channels": 16,
    "evaluation.cells": 8,
    "evaluation.epochs": 10,
    "evaluation.batch_size": 64,
    "evaluation.lr": 0.1,
    "evaluation.lr_min": 0.001,
    "evaluation.schedule": "linear",
    "evaluation.lr_gamma": 0.9,
    "evaluation.warmup_epochs": 5,
    "evaluation.momentum": 0.5,
    "evaluation.nesterov": True,
    "evaluation.weight_decay": 0.0,
    "evaluation.grad_clip": 1.0,
    "evaluation.auxiliary": 0.0,
    "evaluation.cutout": 8,
    "evaluation.drop_path": 0.3,
    "evaluation.identity_drop_path": True,
    "evaluation.split_eval": True,
    "evaluation.label_smoothing": 0.1,
    "evaluation.color_jitter": True,
    "evaluation.fit_macs_m": 600.0,
    "evaluation.accumulate": 2,
    "evaluation.amp": "fp16",
    "evaluation.compile": True,
    "evaluation.seed": 9,
    "runtime.device": "cpu",
    "runtime.data_root": "/elsewhere",
    "runtime.threads": 2,
    "runtime.workers": 7,
    "runtime.checkpoint_minutes": 1.0,
    "runtime.deterministic": False,
    "runtime.kernels": "plain",
    "runtime.benchmark": "index:table.parquet",
    "runtime.retrain": False,
    "runtime.cut_off": "train",
    "runtime.standstill_epochs": 9,
    "labels.method": "mine",
    "labels.scale": "smoke",
    "labels.data": "CIFAR-10 (JPEG copy)",
    "labels.note": "a note",
}


def changed(path: str) -> RunConfig:
    values = {path: OTHER[path]}
    if path == "supernet.identity_decay":
        values["supernet.identity_phases"] = "search"
    if path == "search.penalty_weight":  # of a penalty, which may weigh nothing
        values["search.penalty"] = "log-sum-exp"
    if path == "search.genotype":
        values["search.strategy"] = "given"
    return with_values(RunConfig(), values)


def test_every_field_has_a_second_value_here() -> None:
    assert set(field_paths()) == set(OTHER)


@pytest.mark.parametrize("path", field_paths())
def test_hash_changes_with_what_can_change_a_number_and_with_nothing_else(path: str) -> None:
    outside = path.split(".")[0] in ("runtime", "labels")
    assert (changed(path).hash == RunConfig().hash) == outside


def test_hashes_of_all_fields_differ() -> None:
    paths = [path for path in field_paths() if path.split(".")[0] not in ("runtime", "labels")]
    assert len({changed(path).hash for path in paths}) == len(paths)


@pytest.mark.parametrize("path", field_paths())
def test_config_survives_its_json(path: str) -> None:
    config = changed(path)
    again = build(json.loads(config.model_dump_json()))
    assert again == config
    assert again.hash == config.hash


def test_equal_values_written_differently_hash_equally() -> None:
    ways = (["split_ratio=0.25"], ["split_ratio=1/4"], ["supernet.split_ratio=2/8"])
    hashes = {with_values(RunConfig(), parse_assignments(way)).hash for way in ways}
    assert len(hashes) == 1


def test_order_words() -> None:
    for word, order in (("first", 1), ("second", 2), ("2", 2), ("second-exact", "second-exact")):
        assert with_values(RunConfig(), {"search.order": word}).search.order == order


def test_warmup_keeps_its_share_of_the_epochs() -> None:
    assert RunConfig().search.alpha_warmup == 15
    assert with_values(RunConfig(), {"search.epochs": "100"}).search.alpha_warmup == 30
    assert with_values(RunConfig(), {"search.epochs": 100, "search.alpha_warmup": 3}).search.alpha_warmup == 3


def test_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().seed = 3


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("split_ratio=1.5", ["supernet.split_ratio", "1.5", "at most 1"]),
        ("split_ratio=0", ["supernet.split_ratio", "above 0"]),
        ("split_ratio=1/0", ["supernet.split_ratio", "fraction such as 1/4"]),
        ("split_ratio=half", ["supernet.split_ratio", "half"]),
        ("identity=everywhere", ["supernet.identity", "everywhere", "cell"]),
        ("search.epochs=-1", ["search.epochs", "-1"]),
        ("search.epochs=many", ["search.epochs", "many"]),
        ("identty=cell", ["identty", "identity"]),
        ("channels=3", ["channels", "supernet.channels or evaluation.channels"]),
        ("no-equals-sign", ["key=value"]),
        ("order=3", ["search.order", "3"]),
        ("xi=-1.0", ["xi"]),
        ("profile=fast", ["profile", "darts, pcdarts"]),
        ("alpha_warmup=50", ["alpha_warmup=50", "lower it"]),
        ("search.accumulate=7", ["accumulate=7", "batch_size=64"]),
        ("ops=none", ["ops"]),
        ("ops=skip_connect,swish", ["ops"]),
        ("identity_decay=linear", ["identity_decay", "identity_phases=search"]),
        ("lr_min=5", ["search.lr_min or evaluation.lr_min"]),
        ("search.lr_min=5", ["lr_min"]),
        ("seed=nan", ["seed"]),
    ],
)
def test_bad_input_gets_a_sentence(assignment: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        with_values(RunConfig(), parse_assignments([assignment]))
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_random_pick_cannot_be_kept_in_evaluation() -> None:
    values = {"supernet.split_pick": "random", "evaluation.split_eval": True}
    with pytest.raises(UserError, match="set split_pick=first or last"):
        with_values(RunConfig(), values)
    with_values(RunConfig(), {**values, "supernet.split_ratio": "1"})


def test_a_ratio_that_leaves_fewer_than_two_channels_is_refused() -> None:
    with pytest.raises(UserError, match="fewer than 2 channels"):
        with_values(RunConfig(), {"supernet.channels": 4, "supernet.split_ratio": "1/4"})
    with_values(RunConfig(), {"supernet.channels": 8, "supernet.split_ratio": "1/4"})


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("scale", ["smoke", "reduced", "paper"])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_fits_every_protocol(name: str, scale: str, preset: str) -> None:
    config = apply_preset(protocol(name, scale), preset)
    assert (config.labels.method, config.labels.scale) == (preset, scale)


def test_paper_protocols_hold_the_published_values() -> None:
    c = protocol("cifar10", "paper")
    assert (c.search.batch_size, c.search.epochs, c.search.lr, c.search.lr_min) == (64, 50, 0.025, 0.001)
    assert (c.search.alpha_lr, c.search.alpha_betas, c.search.alpha_weight_decay) == (3e-4, (0.5, 0.999), 1e-3)
    assert (c.evaluation.epochs, c.evaluation.batch_size, c.evaluation.channels, c.evaluation.cells) == (
        600,
        96,
        36,
        20,
    )
    assert (c.evaluation.auxiliary, c.evaluation.cutout, c.evaluation.drop_path) == (0.4, 16, 0.2)
    i = protocol("imagenet-transfer", "paper")
    assert (i.evaluation.epochs, i.evaluation.channels, i.evaluation.cells) == (250, 48, 14)
    assert (i.evaluation.label_smoothing, i.evaluation.fit_macs_m, i.data.search_dataset) == (0.1, 600.0, "cifar10")
    d = protocol("imagenet-direct", "paper")
    assert (d.search.batch_size, d.search.lr, d.search.alpha_lr, d.search.alpha_warmup) == (1024, 0.5, 6e-3, 35)
    assert apply_preset(d, "pcdarts").search.alpha_warmup == 35
    n = protocol("nasbench201", "paper")
    assert (n.supernet.channels, n.supernet.cells, n.search.weight_decay, n.search.nesterov) == (16, 5, 5e-4, True)


def test_twenty_switches_with_defaults_from_the_model() -> None:
    rows = switches()
    assert [row.number for row in rows] == list(range(1, 21))
    for row in rows:
        assert row.level in ("known", "inferred", "unknown")
        assert row.evidence
        assert row.allowed
        if row.key not in ("profile", "seeds"):
            assert resolve_key(row.key) == row.key
    by_key = {row.key: row.default for row in rows}
    assert by_key["supernet.split_ratio"] == "1/2"
    assert by_key["search.order"] == "2"
    assert by_key["supernet.identity"] == "cell"


def test_no_field_is_left_without_a_section() -> None:
    for name, field in RunConfig.model_fields.items():
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        assert is_section or name in ("schema_version", "seed")
