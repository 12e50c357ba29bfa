"""The adaptors over the official packages: every answer is the official one, every trap is closed."""

import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.official.api import OfficialBenchmark
from benchmarks.official.nasbench201 import NasBench201
from benchmarks.official.nats import NatsBench
from benchmarks.official.safe_pickle import read_plain_pickle
from benchmarks.sources import open_official
from cscdarts.errors import UserError
from cscdarts.spaces.genotype import parse_genotype

HELD = (0, 11, 284)
OFFICIAL = ("cifar10-valid", "cifar10", "cifar100", "ImageNet16-120")
ARCH_11 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|"


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "data" / "fake_torch_dir" / "NATS-tss-v1_0-3ffb9-simple"


@pytest.fixture(scope="module")
def official(folder: Path) -> Any:
    """The unmodified package on the real records (its own loader runs the pickles; these come from the project)."""
    import nats_bench

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nats_bench.create(str(folder), "tss", fast_mode=True, verbose=False)


@pytest.fixture(scope="module")
def pth(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same records in NAS-Bench-201's form, NumPy scalars included."""
    records = {index: read_plain_pickle(folder / f"{index:06d}.pickle.pbz2") for index in HELD}
    path = tmp_path_factory.mktemp("pth") / "NAS-Bench-201-three.pth"
    torch.save(
        {
            "meta_archs": read_plain_pickle(folder / "meta.pickle.pbz2")["meta_archs"],
            "arch2infos": {index: {"less": record["12"], "full": record["200"]} for index, record in records.items()},
            "evaluated_indexes": list(HELD),
        },
        path,
    )
    return path


@pytest.fixture(scope="module")
def single_file(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same records in the single-file form."""
    from nats_bench import pickle_save

    path = tmp_path_factory.mktemp("single") / "three.pickle"
    content = {
        "meta_archs": read_plain_pickle(folder / "meta.pickle.pbz2")["meta_archs"],
        "arch2infos": {index: read_plain_pickle(folder / f"{index:06d}.pickle.pbz2") for index in HELD},
        "evaluated_indexes": list(HELD),
    }
    pickle_save(content, str(path))
    return path.with_name("three.pickle.pbz2")


@pytest.fixture(scope="module", params=["folder", "file", "pth"])
def ours(request: pytest.FixtureRequest, folder: Path, single_file: Path, pth: Path) -> Iterator[OfficialBenchmark]:
    if request.param == "pth":
        yield NasBench201(pth)
    else:
        yield NatsBench(folder if request.param == "folder" else single_file)


def test_every_answer_is_the_official_one(ours: OfficialBenchmark, official: Any, pth: Path) -> None:
    if isinstance(ours, NasBench201):
        from nas_201_api import NASBench201API

        # The package's own torch.load would be refused; a dictionary it takes as it is.
        official = NASBench201API(torch.load(pth, weights_only=False), verbose=False)
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


def test_index_11_has_the_published_trials(ours: OfficialBenchmark) -> None:
    found = {seed: ours.metrics(ARCH_11, "cifar10", "test", 200, seed)["accuracy"] for seed in (777, 888, 999)}
    assert found == {777: 91.79, 888: 91.76, 999: 91.20}
    assert ours.metrics(11, "cifar10", "test")["accuracy"] == pytest.approx((91.79 + 91.76 + 91.20) / 3)
    cost = ours.cost(11, "cifar10")
    assert cost["params"] == pytest.approx(0.802426)
    assert cost["flops"] == pytest.approx(113.95137)


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


def test_isomorphic_cells_are_those_of_the_package(folder: Path, official: Any) -> None:
    ours = NatsBench(folder)
    assert official.get_unique_str(11) == ours.api.get_unique_str(11)
    assert ours.isomorphic(11) == (11,)


def test_the_folder_above_is_found_its_way(folder: Path, tmp_path: Path) -> None:
    assert NatsBench(folder.parent).path == folder
    with pytest.raises(UserError, match=r"meta\.pickle\.pbz2"):
        NatsBench(tmp_path)


def test_size_space_answers_costs(shared: Path) -> None:
    ours = NatsBench(shared / "data" / "fake_torch_dir" / "NATS-sss-v1_0-50262-simple")
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


def test_checksums_are_verified_when_known_and_stated_when_not(folder: Path, tmp_path: Path) -> None:
    import hashlib

    from benchmarks.tabular.files import checksum

    assert "none published" in NatsBench(folder).provenance["checksum"]
    content = b"some archive"
    digits = hashlib.md5(content, usedforsecurity=False).hexdigest()
    for name, verdict in (
        (f"NAS-Bench-201-v1_1-{digits[-6:]}.pth", "agrees"),
        ("NAS-Bench-201-v1_1-096897.pth", "does not agree"),
    ):
        (tmp_path / name).write_bytes(content)
        assert verdict in checksum(tmp_path / name)["checksum"]
        assert checksum(tmp_path / name)["sha256"] == hashlib.sha256(content).hexdigest()
