"""From architecture parameters to a genotype by the rule of its space, and the monitors of collapse that read them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cscdarts.errors import MissingFile
from cscdarts.records.run_folder import RunFolder, read_json, write_json
from cscdarts.settings.config import RunConfig, SupernetConfig
from cscdarts.spaces import SPACES, Genotype, parse_genotype, softmax

Alpha = Mapping[str, npt.NDArray[np.float64]]


def genotype_of(config: SupernetConfig, alpha: Alpha, beta: Alpha | None = None) -> Genotype:
    """Derive the genotype.

    Args:
        alpha: kind -> (edges, operations), raw architecture parameters.
        beta: kind -> (edges,), raw edge parameters (PC-DARTS: strengths are softmax(alpha) * softmax(beta)).
    """
    assert config.ops is not None
    space = SPACES[config.space]
    return space.genotype.from_edges(space.name, space.rule.derive(space, config.ops, alpha, beta))


def alpha_entropy(alpha: Alpha) -> float:
    """Mean entropy of softmax(alpha) over all edges, in nats: log(k) at the start, 0 when every edge has decided."""
    weights = softmax(np.concatenate(list(alpha.values())))
    return float(-(weights * np.log(np.clip(weights, 1e-300, None))).sum(1).mean())


def skip_share_pct(genotype: Genotype) -> float:
    """Share of skip connections among the operations of the first kind of cell, in percent."""
    return 100.0 * genotype.skips / len(genotype.main_edges)


def derive(config: RunConfig, folder: RunFolder) -> Genotype:
    """Write `genotype.json` from the search's output, or read it where it is.

    `derive=last` takes the last epoch, `best` the epoch with the lowest supernet validation error (the earliest of
    equals). Beside the cell stands `derived_valid_error_pct`, its one-shot error on the validation half under the
    weights of the epoch it comes from, as the search measured it; nothing where no supernet was trained.

    Errors:
        UserError: the search has not finished here.
    """
    present = read_json(folder.file("genotype.json"))
    if present is not None:
        return parse_genotype(str(present["text"]), config.supernet.space)
    search = read_json(folder.file("search.json"))
    if search is None:
        raise MissingFile(str(folder.path), "Run the search first.", "search.json")
    if "genotype" in search:
        epoch, genotype = config.search.epochs - 1, parse_genotype(str(search["genotype"]), config.supernet.space)
        error = search.get("candidate_error_pct")
    else:
        lines = {int(line["epoch"]): line for line in folder.alphas()}
        epoch = max(lines)
        curves = {int(line["epoch"]): line["values"] for line in folder.curves() if line["stage"] == "search"}
        if config.search.derive == "best":
            name = "search_valid_error_pct"
            errors = {at: values[name] for at, values in curves.items() if name in values}
            epoch = min(errors, key=lambda number: (errors[number], number)) if errors else epoch
        genotype = genotype_of_line(config.supernet, lines[epoch])
        error = _one_shot_error_pct(curves.get(epoch, {}))
    record: dict[str, Any] = {"space": genotype.space, "text": str(genotype), "epoch": epoch}
    if error is not None:
        record["values"] = {"derived_valid_error_pct": error}
    write_json(folder.file("genotype.json"), record)
    return genotype


def _one_shot_error_pct(values: Mapping[str, float]) -> float | None:
    """An epoch's derived cell under shared weights: error of the supernet plus the discretisation gap.

    Rounded to 1e-9, so that cells with equally many wrong answers have equal errors.
    """
    supernet, gap = (values.get(name) for name in ("search_valid_error_pct", "discretisation_gap_pct"))
    return None if supernet is None or gap is None else round(supernet + gap, 9)


def genotype_of_line(config: SupernetConfig, line: Mapping[str, Mapping[str, list[object]]]) -> Genotype:
    """The genotype of one line of `alphas.jsonl`."""
    alpha = {kind: np.asarray(rows, dtype=np.float64) for kind, rows in line["alpha"].items()}
    beta = {kind: np.asarray(rows, dtype=np.float64) for kind, rows in line.get("beta", {}).items()}
    return genotype_of(config, alpha, beta or None)
