"""Keys of stages: each changes with what its stage reads and with nothing else."""

import json

import pytest

from ablations.grid.load import load_grid
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import planned_retraining_key, retraining_key, search_key, searches
from cscdarts.settings.overrides import field_paths, with_values
from tests.cscdarts.settings.test_config import OTHER, changed

CELL = "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"

#: Of `data` and `supernet`, what only one of the stages reads; of `search` what neither does.
SEARCH_ONLY = {
    "data.search_fraction", "data.split_seed", "data.search_dataset", "supernet.ops", "supernet.channels",
    "supernet.cells", "supernet.split_ratio", "supernet.split_pick", "supernet.shuffle", "supernet.edge_norm",
    "supernet.bypass_reduce", "supernet.identity_decay",
}  # fmt: skip
NEITHER = {
    "search.derive", "search.derive_skips", "search.derive_window", "search.derive_growth", "search.derive_finetune",
    "search.best_of",
    "data.search_fingerprint",  # of no set while both stages read the same one
}  # fmt: skip
BOTH = {"schema_version", "seed"}  # a retraining without a seed of its own takes the run's


def _changes(path: str) -> tuple[bool, bool]:
    room = path.split(".")[0]
    if room in ("runtime", "labels") or path in NEITHER:
        return False, False
    if path in BOTH:
        return True, True
    if room == "evaluation":
        return False, True
    return True, room != "search" and path not in SEARCH_ONLY


@pytest.mark.parametrize("path", field_paths())
def test_a_key_changes_with_what_its_stage_reads(path: str) -> None:
    before, after = RunConfig(), changed(path)
    if path == "supernet.identity_decay":  # it needs an identity in the search alone
        before = with_values(before, {"supernet.identity_phases": "search"})
    if path == "supernet.identity_phases":  # to `search`: nothing changes for the search, all of it for the retraining
        assert search_key(before) == search_key(after)
        assert retraining_key(before, CELL) != retraining_key(after, CELL)
        return
    found = (
        search_key(before).id != search_key(after).id,
        retraining_key(before, CELL).id != retraining_key(after, CELL).id,
    )
    assert found == _changes(path)


def test_the_cell_is_in_the_retraining_and_the_rule_in_the_plan_only() -> None:
    config = RunConfig()
    assert retraining_key(config, CELL) != retraining_key(config, CELL.replace("3x3", "1x1"))
    for path in ("search.derive", "search.best_of", "search.epochs"):
        assert planned_retraining_key(config) != planned_retraining_key(changed(path))
    assert planned_retraining_key(config) == planned_retraining_key(changed("labels.note"))


@pytest.mark.parametrize("phase", ["search", "eval"])
def test_what_an_inactive_identity_would_be_is_read_by_nobody(phase: str) -> None:
    off = with_values(RunConfig(), {"supernet.identity_phases": {"search": "eval", "eval": "search"}[phase]})
    for path in ("supernet.identity_scale", "supernet.identity_proj", "supernet.identity"):
        other = with_values(off, {path: OTHER[path]})
        if phase == "search":
            assert search_key(off) == search_key(other)
        else:
            assert retraining_key(off, CELL) == retraining_key(other, CELL)


def test_a_split_kept_in_evaluation_is_read_there() -> None:
    kept = with_values(RunConfig(), {"evaluation.split_eval": True})
    for path in ("supernet.split_ratio", "supernet.split_pick", "supernet.shuffle", "supernet.bypass_reduce"):
        assert retraining_key(kept, CELL) != retraining_key(with_values(kept, {path: OTHER[path]}), CELL)


def test_each_stage_has_the_fingerprint_of_its_own_data() -> None:
    two = with_values(RunConfig(), {"data.dataset": "image-folder", "data.search_dataset": "cifar10"})
    own = with_values(two, {"data.fingerprint": "0123456789abcdef"})
    other = with_values(two, {"data.search_fingerprint": "0123456789abcdef"})
    assert (search_key(own) == search_key(two), retraining_key(own, CELL) == retraining_key(two, CELL)) == (True, False)
    assert (search_key(other) == search_key(two), retraining_key(other, CELL) == retraining_key(two, CELL)) == (
        False, True,
    )  # fmt: skip
    named = with_values(RunConfig(), {"data.dataset": "cifar10", "data.search_dataset": "cifar10"})
    assert search_key(named) == search_key(with_values(named, {"data.search_dataset": "same"}))


def test_a_sampled_cell_needs_no_data_and_a_given_one_no_seed() -> None:
    sampled = with_values(RunConfig(), {"search.strategy": "random"})
    assert search_key(sampled) == search_key(with_values(sampled, {"data.dataset": "cifar10", "search.epochs": 3}))
    assert search_key(sampled) != search_key(with_values(sampled, {"seed": 1}))
    given = with_values(RunConfig(), {"search.strategy": "given", "search.genotype": "PDARTS"})
    assert search_key(given) == search_key(with_values(given, {"seed": 1}))
    assert planned_retraining_key(given) == retraining_key(given, given.search.genotype)


def test_the_best_of_several_searches_has_each_of_their_keys() -> None:
    one, many = RunConfig(seed=4), with_values(RunConfig(seed=4), {"search.best_of": 3})
    assert searches(one) == (one,)
    assert [search_key(part).id for part in searches(many)] == [
        search_key(with_values(RunConfig(), {"seed": seed})).id for seed in (4, 5, 6)
    ]


def test_a_key_is_the_hash_of_a_text_that_says_what_it_stands_for() -> None:
    key = search_key(RunConfig(seed=3))
    content = json.loads(key.text)
    assert (content["stage"], content["seed"], content["supernet"]["split_ratio"]) == ("search", 3, "1/2")
    assert (len(key.id), key.id) == (16, search_key(RunConfig(seed=3)).id)


def test_the_paper_costs_126_searches_and_162_retrainings() -> None:
    names = ("cifar10", "cifar100", "imagenet", "nasbench201", "split_ratio", "identity", "order", "factorial")
    configs = [point.config for name in names for point in load_grid(name, "paper").points]
    assert len(configs) == 204
    assert len({config.hash for config in configs}) == 162
    assert len({search_key(one).id for config in configs for one in searches(config)}) == 126
    assert len({planned_retraining_key(config).id for config in configs}) == 162
