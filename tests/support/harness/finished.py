"""Finished stages written into run folders as the engine writes them, with made-up numbers, for tests of what reads
them."""

from pathlib import Path

from cscdarts.records.run_folder import RunFolder, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import search_key, searches

#: In the order in which stages leave them.
OUTPUTS = ("search", "genotype", "check", "result")
CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|avg_pool_3x3~1|skip_connect~2|"


def finish(
    runs: Path, grid: str, config: RunConfig, upto: str = "result", *, cell: str = CELL, search_s: float = 10.0,
    retrain_s: float = 20.0, whole: bool = False,
) -> RunFolder:  # fmt: skip
    """Write the outputs of a run's stages up to one of `OUTPUTS`, what another run left under its keys included.

    Args:
        whole: as version 0.1.0 did: all files in the run folder.
    """
    folder = RunFolder(runs / grid / config.hash)
    folder.create(config, None if whole else "../..")
    for name in OUTPUTS[: OUTPUTS.index(upto) + 1]:
        if name == "search":
            for one in reversed(searches(config)):  # so that the first is the one at hand
                folder.bind("search", search_key(one))
                values = {"search_time_s": search_s, "peak_memory_mib": 10.0}
                write_json(folder.file("search.json"), {"key": search_key(one).id, "values": values})
        elif name == "genotype":
            write_json(folder.file("genotype.json"), {"space": config.supernet.space, "text": cell, "epoch": 1})
        elif name == "check":
            write_json(folder.file("check.json"), {"benchmark": {}, "datasets": {}})
        else:
            key = folder.retraining_key(config)
            assert key is not None
            folder.bind("retrain", key)
            values = {"test_error_pct": 5.0, "retrain_time_s": retrain_s}
            write_json(folder.file("result.json"), {"key": key.id, "genotype": cell, "values": values})
    return folder
