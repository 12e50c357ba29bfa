"""Cells that a search names itself: drawn without a search, given, or the best of many drawn ones."""

import time
from collections.abc import Callable
from typing import Any

from cscdarts.data.randomness import numpy_generator
from cscdarts.data.source import Source
from cscdarts.models.supernet import Supernet
from cscdarts.records.run_folder import RunFolder, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import search_key
from cscdarts.spaces import parse_genotype, random_genotype
from cscdarts.training.one_shot import discrete_mixing, error_pct


def name_cell(config: RunConfig, folder: RunFolder, report: Callable[[str], None]) -> None:
    """Without a search: strategy `random` draws one architecture uniformly, `given` takes the configured one."""
    space = config.supernet.space
    if config.search.strategy == "given":
        genotype = parse_genotype(config.search.genotype, space)
        report(f"given {genotype}")
    else:
        genotype = random_genotype(space, numpy_generator(config.seed, "architecture"))
        report(f"sampled {genotype}")
    write_json(
        folder.file("search.json"),
        {
            "key": search_key(config).id,
            "values": {"search_time_s": 0.0},
            "genotype": str(genotype),
            "finished_at": time.time(),
        },
    )


def best_sample(config: RunConfig, supernet: Supernet, valid: Source) -> dict[str, Any]:
    """Of `search.random_candidates` drawn cells the one with the lowest validation error under shared weights, the
    first of equals: `genotype`, `candidates`, `candidate_error_pct`."""
    draw = numpy_generator(config.seed, "candidates")
    candidates = [random_genotype(config.supernet.space, draw) for _ in range(config.search.random_candidates)]
    errors = [error_pct(supernet, valid, discrete_mixing(supernet, g), None) for g in candidates]
    best = min(range(len(errors)), key=lambda position: (errors[position], position))
    return {"genotype": str(candidates[best]), "candidates": len(candidates), "candidate_error_pct": errors[best]}
