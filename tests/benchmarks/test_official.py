"""The adaptors over the official packages: every answer is the official one, every trap is closed."""

import itertools
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.official.api import OFFICIAL_SETS, OfficialBenchmark
from benchmarks.official.nasbench201 import NasBench201
from benchmarks.official.nats import NatsBench
from benchmarks.sources import open_official
from benchmarks.tabular.space import official_archs
from cscdarts.errors import UserError
from cscdarts.spaces.genotype import parse_genotype
from tests.support.official_files import COSTS, HELD, PARTS, SEEDS, OfficialFiles, accuracy, mean_accuracy

OFFICIAL = tuple(PARTS)
ARCH_11 = official_archs()[11]


@pytest.fixture(scope="module")
def official(files: OfficialFiles) -> Any:
    """The unmodified package on the same records."""
    import nats_bench

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nats_bench.create(str(files.folder), "tss", fast_mode=True, verbose=False)


@pytest.fixture(scope="module", params=["folder", "file", "pth"])
def ours(request: pytest.FixtureRequest, files: OfficialFiles) -> OfficialBenchmark:
    if request.param == "pth":
        return NasBench201(files.pth)
    return NatsBench(files.folder if request.param == "folder" else files.file)


def test_every_answer_is_the_official_one(ours: OfficialBenchmark, official: Any, files: OfficialFiles) -> None:
    if isinstance(ours, NasBench201):
        from nas_201_api import NASBench201API

        # The package's own torch.load would be refused; a dictionary it takes as it is.
        official = NASBench201API(torch.load(files.pth, weights_only=False), verbose=False)
    assert ours.held == HELD
    compared = 0
    for index in HELD:
        assert ours.epochs(index) == (12, 200)
        for epochs in ours.epochs(index):
            for dataset in OFFICIAL:
                seeds = ours.seeds(index, dataset, epochs)
                for trial in (None, *seeds):
                    which = False if trial is None else trial
                    theirs = official.get_more_info(index, dataset, hp=f"{epochs}", is_random=which)
                    assert ours.info(index, dataset, epochs, trial) == theirs
                    compared += len(theirs)
                assert ours.cost(index, dataset, epochs) == official.get_cost_info(index, dataset, hp=f"{epochs}")
    assert compared > 900


def test_a_trial_and_the_mean_are_what_was_written(ours: OfficialBenchmark) -> None:
    for index, dataset, epochs in itertools.product(HELD, ("cifar10", "cifar100"), (12, 200)):
        official, part = OFFICIAL_SETS[dataset, "test"]
        for seed in SEEDS[epochs][official]:
            found = ours.metrics(index, dataset, "test", epochs, seed)["accuracy"]
            assert found == accuracy(index, official, part, epochs, seed)
        mean = ours.metrics(index, dataset, "test", epochs)["accuracy"]
        assert mean == pytest.approx(mean_accuracy(index, official, part, epochs))
    cost = ours.cost(11, "cifar10")
    # The official package averages over trials, which moves the last bit.
    assert (cost["params"], cost["flops"]) == pytest.approx(COSTS[11])


def test_the_answer_is_never_a_random_trial(ours: OfficialBenchmark) -> None:
    answers = set()
    for seed in range(20):
        random.seed(seed)
        answers.add(ours.info(11, "cifar10", 200)["test-accuracy"])
    assert len(answers) == 1


@pytest.mark.parametrize("arch", [11, np.int64(11), ARCH_11, parse_genotype(ARCH_11)])
def test_an_architecture_may_be_index_numpy_index_string_or_genotype(ours: OfficialBenchmark, arch: Any) -> None:
    assert ours.index(arch) == 11


@pytest.mark.parametrize("arch", [-1, 15_625, np.int64(-1), "", "|none~0|", "DARTS_V2", True])
def test_unknown_architectures_are_errors_not_index_minus_one(ours: OfficialBenchmark, arch: Any) -> None:
    with pytest.raises(UserError, match="architecture"):
        ours.index(arch)


def test_what_the_files_do_not_hold_is_said(ours: OfficialBenchmark) -> None:
    with pytest.raises(UserError, match="3 of 15625"):
        ours.info(1, "cifar10")
    with pytest.raises(UserError, match="12, 200"):
        ours.info(11, "cifar10", epochs=90)
    with pytest.raises(UserError, match="777, 888, 999"):
        ours.info(11, "cifar10", trial=1)
    with pytest.raises(UserError, match="cifar10-valid"):
        ours.info(11, "mnist")


def test_find_best_follows_the_limits(ours: OfficialBenchmark, official: Any) -> None:
    accuracies = {index: official.get_more_info(index, "cifar10", hp="200", is_random=False) for index in HELD}
    best = max(HELD, key=lambda index: accuracies[index]["test-accuracy"])
    assert ours.find_best("cifar10", "test") == (best, accuracies[best]["test-accuracy"])
    small = [index for index in HELD if official.get_cost_info(index, "cifar10", hp="200")["flops"] <= 50]
    assert ours.find_best("cifar10", "test", flops_max_m=50)[0] in small
    with pytest.raises(UserError, match="flops_max_m"):
        ours.find_best("cifar10", "test", flops_max_m=0.001)


def test_isomorphic_cells_are_those_of_the_package(files: OfficialFiles, official: Any) -> None:
    ours = NatsBench(files.folder)
    assert official.get_unique_str(11) == ours.api.get_unique_str(11)
    assert ours.isomorphic(11) == (11,)


def test_the_folder_above_is_found_its_way(files: OfficialFiles, tmp_path: Path) -> None:
    assert NatsBench(files.folder.parent).path == files.folder
    with pytest.raises(UserError, match=r"meta\.pickle\.pbz2"):
        NatsBench(tmp_path)


def test_size_space_answers_costs(files: OfficialFiles) -> None:
    ours = NatsBench(files.size_space)
    assert ours.space == "size"
    import nats_bench

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = nats_bench.create(str(ours.path), "sss", fast_mode=True, verbose=False)
    for index in HELD:
        assert ours.cost(index, "cifar10", 90) == theirs.get_cost_info(index, "cifar10", hp="90")
        assert ours.cost(index, "cifar10", 1) == theirs.get_cost_info(index, "cifar10", hp="01")
    assert ours.index(theirs.arch(11)) == 11


def test_missing_files_say_what_to_download_and_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(UserError) as nats:
        open_official(f"nats:{tmp_path / 'nothing'}")
    assert all(part in str(nats.value) for part in ("NATS-tss-v1_0-3ffb9-simple", "D-X-Y/NATS-Bench", str(tmp_path)))
    with pytest.raises(UserError) as nb201:
        open_official(f"nasbench201:{tmp_path / 'nothing.pth'}")
    assert all(part in str(nb201.value) for part in ("096897", "4.7 GB", "D-X-Y/NAS-Bench-201", str(tmp_path)))


def test_checksums_are_verified_when_known_and_stated_when_not(files: OfficialFiles, tmp_path: Path) -> None:
    import hashlib

    from benchmarks.tabular.files import checksum

    assert "none published" in NatsBench(files.folder).provenance["checksum"]
    content = b"some archive"
    digits = hashlib.md5(content, usedforsecurity=False).hexdigest()
    for name, verdict in (
        (f"NAS-Bench-201-v1_1-{digits[-6:]}.pth", "agrees"),
        ("NAS-Bench-201-v1_1-096897.pth", "does not agree"),
    ):
        (tmp_path / name).write_bytes(content)
        assert verdict in checksum(tmp_path / name)["checksum"]
        assert checksum(tmp_path / name)["sha256"] == hashlib.sha256(content).hexdigest()
