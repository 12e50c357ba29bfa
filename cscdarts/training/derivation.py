"""From the records of a search to its cell, by one of several rules, and the monitors of collapse that read alpha.

| `search.derive` | the cell |
|---|---|
| `last` | of the last epoch (Liu et al. 2019) |
| `best` | of the epoch with the lowest supernet validation error, the earliest of equals |
| `skip-stop` | of the first epoch with `derive_skips` or more skip connections in the normal cell (DARTS+) |
| `eigenvalue-stop` | of the epoch before the largest eigenvalue of the validation Hessian grows (R-DARTS) |
| `skip-cap` | of the last epoch, with at most `derive_skips` skip connections in the normal cell (P-DARTS) |
| `perturbation` | whose operations the supernet of the last epoch misses most (DARTS-PT), see `perturbation/` |

Nothing is trained but for the last one, which is a stage of its own: a stopped search is one that ran on and whose
record is read up to there. In a space without a normal cell its first kind of cell stands for it. Where a criterion is
never met the last epoch is taken, and said. Of a search in stages all rules read the last stage alone.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cscdarts.errors import BrokenFile, MissingFile, UserError
from cscdarts.records.run_folder import RunFolder, read_record, write_json
from cscdarts.settings.config import RunConfig, SupernetConfig
from cscdarts.settings.connected import connection_notes
from cscdarts.settings.keys import search_key, searches
from cscdarts.spaces import SPACES, Genotype, parse_genotype, random_genotype, softmax
from cscdarts.spaces.rules import derive_capped, derive_weighted, open_columns

Alpha = Mapping[str, npt.NDArray[np.float64]]
#: Epoch -> its line of `alphas.jsonl`, and epoch -> the values that the search recorded.
Lines = Mapping[int, Mapping[str, Any]]
Curves = Mapping[int, Mapping[str, float]]


class DerivedCell(NamedTuple):
    """A cell and where it comes from.

    Attributes:
        epoch: of the search, counted from 0.
        error_pct: its one-shot error on the validation half under the weights of that epoch, as the search measured it;
            None where it did not.
        why: what the rule found, in words.
        candidates: of a search in stages kind -> for each edge the operations that were left in the last stage.
    """

    epoch: int
    genotype: Genotype
    error_pct: float | None
    why: str
    candidates: Mapping[str, Sequence[Sequence[str]]] | None = None


def genotype_of(
    config: SupernetConfig, alpha: Alpha, beta: Alpha | None = None, weighting: str = "softmax"
) -> Genotype:
    """Derive the genotype.

    Args:
        alpha: kind -> (edges, operations), raw architecture parameters.
        beta: kind -> (edges,), raw edge parameters (PC-DARTS: strengths are softmax(alpha) * softmax(beta)).
        weighting: how alpha weighs operations, see `cscdarts.spaces.rules.strengths`.
    """
    assert config.ops is not None
    space = SPACES[config.space]
    return space.genotype.from_edges(space.name, derive_weighted(space, config.ops, alpha, beta, weighting))


def alpha_entropy(alpha: Alpha) -> float:
    """Mean entropy of softmax(alpha) over all edges, in nats: log(k) at the start, 0 when every edge has decided."""
    weights = softmax(np.concatenate(list(alpha.values())))
    return float(-(weights * np.log(np.clip(weights, 1e-300, None))).sum(1).mean())


def skip_share_pct(genotype: Genotype) -> float:
    """Share of skip connections among the operations of the first kind of cell, in percent."""
    return 100.0 * genotype.skips / len(genotype.main_edges)


def derive(config: RunConfig, folder: RunFolder, report: Callable[[str], None] = lambda line: None) -> Genotype:
    """Write `genotype.json` from the search's records, or read it where it is; see `write_cell`.

    Of `search.best_of` searches the cell with the lowest one-shot error is taken, the first of equals (Xu et al. 2020,
    PC-DARTS, choose among several searches likewise, but by training each cell for a while).

    Errors:
        UserError: a search has not finished here, or see `derived_cell`.
    """
    present = derived_before(config, folder)
    if present is not None:
        return present
    runs = searches(config)
    if len(runs) > 1 and folder.keys() is None:
        raise UserError(
            "search.best_of", len(runs), "1 in a folder that holds one search", "Run it with `cscdarts search`."
        )
    cells, named = [], False
    for one in runs:
        folder.bind("search", search_key(one))
        search = search_record(folder)
        alphas = folder.alphas()
        if config.search.derive == "last" and alphas and alphas[-1]["epoch"] != one.search.all_epochs - 1:
            raise BrokenFile(
                folder.file("alphas.jsonl"), f"its last line is of epoch {alphas[-1]['epoch'] + 1}",
                f"whole, with {one.search.all_epochs} epochs",
                "Move the folder of this search away; it is searched again.",
            )  # fmt: skip
        cells.append(derived_cell(one, alphas, folder.curves(), search))
        named = "genotype" in search
    errors = [math.inf if cell.error_pct is None else cell.error_pct for cell in cells]
    best = min(range(len(cells)), key=lambda number: (errors[number], number))
    folder.bind("search", search_key(runs[best]))
    rule = config.search.strategy if named else config.search.derive
    chosen = cells[best]._replace(why=cells[best].why + _chosen(errors, best))
    return write_cell(folder, runs[best], chosen, rule, report)


def derived_before(config: RunConfig, folder: RunFolder) -> Genotype | None:
    """The cell of `genotype.json`, or None where there is none yet."""
    present = read_record(folder.file("genotype.json"))
    return None if present is None else parse_genotype(str(present["text"]), config.supernet.space)


def search_record(folder: RunFolder) -> Mapping[str, Any]:
    """The content of `search.json`.

    Errors:
        UserError: the search has not finished here.
    """
    search = read_record(folder.file("search.json"))
    if search is None:
        raise MissingFile(str(folder.path), "Run the search first.", "search.json")
    return dict(search)


def write_cell(
    folder: RunFolder, searched: RunConfig, cell: DerivedCell, rule: str, report: Callable[[str], None]
) -> Genotype:
    """Write a derived cell as `genotype.json`: its text, the key and seed of its search, its epoch, the rule and what
    it found (`why`); of a search in stages the `candidates` that its edges had left; where it was measured
    `derived_valid_error_pct`, its one-shot error on the validation half; and `notes` on a cell whose operations lead
    nowhere, which are also reported."""
    record: dict[str, Any] = {
        "space": cell.genotype.space,
        "text": str(cell.genotype),
        "search": search_key(searched).id,
        "seed": searched.seed,
        "epoch": cell.epoch,
        "rule": rule,
        "why": cell.why,
    }
    if cell.error_pct is not None:
        record["values"] = {"derived_valid_error_pct": cell.error_pct}
    if cell.candidates is not None:
        record["candidates"] = cell.candidates
    notes = connection_notes(searched, cell.genotype)
    if notes:
        record["notes"] = notes
    for note in notes:
        report(f"derive: {note}")
    write_json(folder.file("genotype.json"), record)
    return cell.genotype


def _chosen(errors: Sequence[float], best: int) -> str:
    """Why a cell was taken among those of several searches."""
    if len(errors) == 1:
        return ""
    if math.isinf(errors[best]):
        return f"; the first of {len(errors)} searches, none of which recorded the error of its cell"
    return f"; the lowest validation error of {len(errors)} searches, {errors[best]:.2f} %, of number {best + 1}"


def derived_cell(
    config: RunConfig,
    alpha_lines: Sequence[Mapping[str, Any]],
    curves: Sequence[Mapping[str, Any]],
    search_record: Mapping[str, Any],
) -> DerivedCell:
    """The cell that `search.derive` finds in the stored records of a search.

    A search that names its cell (`random`, `random-ws`, `given`) is believed, whatever the rule.

    Args:
        alpha_lines: the lines of `alphas.jsonl`, as `RunFolder.alphas` has them.
        curves: metric lines of any stage, as `RunFolder.curves` has them.
        search_record: the content of `search.json`.

    Errors:
        UserError: the records lack what the rule reads, or see `derive_capped`.
    """
    search, space = config.search, config.supernet.space
    if "genotype" in search_record:
        epoch = 0 if search.strategy == "given" else search.all_epochs - 1
        cell = parse_genotype(str(search_record["genotype"]), space)
        return DerivedCell(epoch, cell, search_record.get("candidate_error_pct"), _NAMED.get(search.strategy, ""))
    lines = {int(line["epoch"]): line for line in alpha_lines if int(line["epoch"]) >= search.first_of_last_stage}
    if not lines:
        raise UserError("alphas.jsonl", "no epoch", "a line for each epoch of the search", "Search again.")
    values = {int(line["epoch"]): line["values"] for line in curves if line["stage"] == "search"}
    epoch, why = _RULES[search.derive](config, lines, values)
    cell = genotype_of_line(config.supernet, lines[epoch], config.search.weighting)
    error = _one_shot_error_pct(values.get(epoch, {}))
    if search.derive == "skip-cap":
        whole, (cell, why) = cell, _capped(config, lines[epoch])
        # The search measured the cell with all its skip connections.
        error = error if cell == whole else None
    return DerivedCell(epoch, cell, error, why, candidates_of(config, lines[epoch]))


def name_cell(config: RunConfig, folder: RunFolder, report: Callable[[str], None]) -> None:
    """Without a search: strategy `random` draws one architecture uniformly, `given` takes the configured one."""
    # Here and not above, because cells are looked up in records without torch.
    from cscdarts.data.randomness import numpy_generator

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


#: Why a search names its cell itself.
_NAMED = {
    "random": "drawn uniformly, without a search",
    "random-ws": "the sampled cell with the lowest validation error under shared weights",
    "given": "the cell was given",
}


def _last(config: RunConfig, lines: Lines, curves: Curves) -> tuple[int, str]:
    return max(lines), "the last epoch"


def _best(config: RunConfig, lines: Lines, curves: Curves) -> tuple[int, str]:
    errors = {
        epoch: curves[epoch]["search_valid_error_pct"]
        for epoch in lines
        if "search_valid_error_pct" in curves.get(epoch, {})
    }
    if not errors:
        return max(lines), "no validation error was recorded, so the last epoch"
    epoch = min(errors, key=lambda number: (errors[number], number))
    return epoch, f"the lowest supernet validation error, {errors[epoch]:.2f} %"


def _skip_stop(config: RunConfig, lines: Lines, curves: Curves) -> tuple[int, str]:
    """The first epoch with k or more skip connections in the normal cell.

    Liang et al. 2019 (DARTS+, arXiv 1909.06035), criterion 1: the search stops when one normal cell has two or more
    skip connections, and the cell is derived from the alpha it stops with, so these stay in it. Departure: alpha is
    looked at after each epoch, and only from the first epoch on in which it was trained.
    """
    most, cell = config.search.derive_skips, _cell_word(config)
    for epoch in sorted(lines):
        if epoch >= _first_trained(config):
            skips = genotype_of_line(config.supernet, lines[epoch], config.search.weighting).skips
            if skips >= most:
                return epoch, f"the first epoch whose {cell} has {most} or more skip connections: it has {skips}"
    return max(lines), f"no epoch's {cell} has {most} or more skip connections, so the last epoch"


def _eigenvalue_stop(config: RunConfig, lines: Lines, curves: Curves) -> tuple[int, str]:
    """The epoch i - k of the first i with m(i) > g m(i - k), m(i) the mean |eigenvalue| over k epochs around i.

    Zela et al. 2020 (R-DARTS, arXiv 1909.09656), section 4.3: k = 5, and m(i - k) / m(i) < 0.75, that is g = 4/3; the
    released automl/RobustDARTS has 1.3, measures every other epoch, looks back four measurements and not before epoch
    10. For even k the window has one epoch more before i than after it. Departures: the eigenvalue is the one of
    largest magnitude, by power iteration on a batch of the validation half; only epochs in which alpha is trained take
    part, and only whole windows. With `hessian_every` above 1 a mean is over the measured epochs of its window.
    """
    search = config.search
    name = "alpha_hessian_eigenvalue"
    found = {epoch: abs(values[name]) for epoch, values in curves.items() if not math.isnan(values.get(name, math.nan))}
    if not found:
        raise UserError(
            "search.derive", "eigenvalue-stop", "a search that recorded the largest eigenvalue of the Hessian",
            "Search with search.hessian_every=1, or derive by another rule.",
        )  # fmt: skip
    k, growth = search.derive_window, search.derive_growth
    first, last = max(min(lines), _first_trained(config)), max(lines)

    def smoothed(epoch: int) -> float:
        start = epoch - k // 2
        inside = [found[at] for at in range(start, start + k) if at in found]
        return sum(inside) / len(inside) if inside else math.nan

    grown = 0.0
    for epoch in range(first + k // 2 + k, last + k // 2 - k + 2):
        before, now = smoothed(epoch - k), smoothed(epoch)
        ratio = now / before if before else math.inf if now else 1.0
        if now > growth * before and epoch - k in lines:
            return epoch - k, (
                f"the {k}-epoch mean of the largest eigenvalue is {ratio:.2f} times as large around epoch {epoch} as "
                f"around epoch {epoch - k}, above {growth:.4g}"
            )
        grown = max(grown, ratio)  # a window without a measurement is NaN and never larger
    if grown == 0:
        return last, f"the search has no two windows of {k} epochs to compare, so the last epoch"
    return last, (
        f"the {k}-epoch mean of the largest eigenvalue never grew above {growth:.4g} times, at most {grown:.2f}, so "
        "the last epoch"
    )


_RULES: Mapping[str, Callable[[RunConfig, Lines, Curves], tuple[int, str]]] = {
    "last": _last,
    "best": _best,
    "skip-stop": _skip_stop,
    "eigenvalue-stop": _eigenvalue_stop,
    "skip-cap": _last,
}


def _capped(config: RunConfig, line: Mapping[str, Any]) -> tuple[Genotype, str]:
    """The cell of a line with at most `derive_skips` skip connections, and what was taken out; see `derive_capped`."""
    supernet, most, cell = config.supernet, config.search.derive_skips, _cell_word(config)
    assert supernet.ops is not None
    space = SPACES[supernet.space]
    cells, removed = derive_capped(space, supernet.ops, *_parameters(line), most)
    genotype = space.genotype.from_edges(space.name, cells)
    if not removed:
        return genotype, f"the last epoch, whose {cell} has {genotype.skips} skip connections, at most {most}"
    taken = ", ".join(f"{edge.source} to {edge.target}" for edge in removed)
    return genotype, f"the last epoch with at most {most} skip connections in its {cell}; taken out: {taken}"


def _first_trained(config: RunConfig) -> int:
    """The first epoch of the last stage in which alpha is trained."""
    return config.search.first_of_last_stage + (config.search.alpha_warmup or 0)


def candidates_of(config: RunConfig, line: Mapping[str, Any]) -> dict[str, list[list[str]]] | None:
    """Of a search in stages kind -> for each edge, in the order of `Space.edges`, the operations that it chose among in
    the epoch of a line of `alphas.jsonl`; None of any other."""
    if config.search.stages == 1:
        return None
    ops = config.supernet.ops or ()
    return {
        kind: [[ops[column] for column in edge] for edge in edges]
        for kind, edges in open_columns(_parameters(line)[0]).items()
    }


def _cell_word(config: RunConfig) -> str:
    kinds = SPACES[config.supernet.space].cell_kinds
    return f"{kinds[0]} cell" if len(kinds) > 1 else "cell"


def _one_shot_error_pct(values: Mapping[str, float]) -> float | None:
    """An epoch's derived cell under shared weights: error of the supernet plus the discretisation gap.

    Rounded to 1e-9, so that cells with equally many wrong answers have equal errors.
    """
    supernet, gap = (values.get(name) for name in ("search_valid_error_pct", "discretisation_gap_pct"))
    return None if supernet is None or gap is None else round(supernet + gap, 9)


def genotype_of_line(config: SupernetConfig, line: Mapping[str, Any], weighting: str = "softmax") -> Genotype:
    """The genotype of one line of `alphas.jsonl`, by argmax or edge strength."""
    return genotype_of(config, *_parameters(line), weighting)


def _parameters(line: Mapping[str, Any]) -> tuple[Alpha, Alpha | None]:
    """Raw architecture and edge parameters of a line: kind -> (edges, operations), kind -> (edges,)."""
    alpha = {kind: np.asarray(rows, dtype=np.float64) for kind, rows in line["alpha"].items()}
    beta = {kind: np.asarray(rows, dtype=np.float64) for kind, rows in line.get("beta", {}).items()}
    for name, values in (*alpha.items(), *beta.items()):
        # The largest of numbers that are none would be the first of them, and a cell all the same.
        if not np.isfinite(values).all():
            raise UserError(
                "alphas.jsonl", f"epoch {line.get('epoch')}, {name}", "finite architecture parameters", "Search again."
            )
    return alpha, beta or None
