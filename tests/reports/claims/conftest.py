"""Settings in memory, as a store gives them."""

from collections.abc import Callable, Mapping, Sequence

import pytest

from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import dotted_texts, with_values
from reports.read.settings import Setting

Make = Callable[..., Setting]


@pytest.fixture
def setting() -> Make:
    """Makes a setting from dotted values and one run per seed: seed -> metrics."""

    def make(
        runs: Mapping[int, Mapping[str, float]],
        scale: str = "reduced",
        data: str = "digits",
        methods: Sequence[str] = ("csc",),
        machine: str = "one",
        /,
        **values: object,
    ) -> Setting:
        config = with_values(RunConfig(), {"supernet.space": "nasbench201", **values})
        params = dotted_texts(config.model_dump(mode="json", exclude={"runtime", "labels"}))
        params = {name: value for name, value in params.items() if name not in ("seed", "evaluation.seed")}
        rows = tuple(
            {
                "status": "done",
                "seed": seed,
                "hash": f"{config.hash[:8]}{seed:08d}",
                "commit": "0" * 40,
                "dirty": "false",
                "torch": "2",
                "hardware": machine,
                "search_hardware": machine,
                **metrics,
            }
            for seed, metrics in runs.items()
        )
        return Setting(config.hash, tuple(methods), scale, data, params["data.dataset"], "nasbench201", params, rows)

    return make
