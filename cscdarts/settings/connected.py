"""Whether the network that a run would retrain sees its images at all; asked before anything is trained. No torch."""

from cscdarts.errors import UserError
from cscdarts.settings.config import RunConfig
from cscdarts.spaces import SPACES, Genotype, parse_genotype
from cscdarts.spaces.connected import idle_kinds, is_cut_off


def cut_off(config: RunConfig, genotype: Genotype) -> bool:
    """Whether the network that a config makes of a cell gives one answer to all images: see `is_cut_off`."""
    supernet, evaluation = config.supernet, config.evaluation
    splits = evaluation.split_eval and supernet.split_ratio < 1
    return is_cut_off(
        genotype,
        evaluation.cells,
        identity=config.identity_in("eval") if supernet.identity_scale else "none",
        projects=supernet.identity_proj != "skip-cell",
        bypass="none" if not splits else "stride 1" if supernet.bypass_reduce == "nosplit" else "all",
    )


def connection_notes(config: RunConfig, genotype: Genotype) -> list[str]:
    """What a record says of a cell whose operations do not lead from its input to its output: nothing mostly."""
    if cut_off(config, genotype):
        return [
            "the cell is cut off from the input: every way from it to the output ends in a none, so the network gives "
            "one answer to all images"
        ]
    idle = idle_kinds(genotype)
    if not idle:
        return []
    which = "the cell" if len(SPACES[genotype.space].cell_kinds) == 1 else f"the {' and the '.join(idle)} cell"
    return [f"no operation of {which} leads from its input to its output: what comes of an image comes past them"]


def require_connected(config: RunConfig, genotype: Genotype) -> None:
    """Refuse to train a network that gives one answer to all images, unless `runtime.cut_off=train`.

    Errors:
        UserError: as said; it names the ways out.
    """
    if config.evaluation.epochs == 0 or config.runtime.cut_off == "train" or not cut_off(config, genotype):
        return
    ways = ["keep the identity in evaluation (supernet.identity, supernet.identity_phases=both)"]
    if config.search.strategy == "given":
        ways.insert(0, "give another cell")
    else:
        if config.search.strategy == "gradient":
            ways.insert(0, "derive by another rule (search.derive=best)")
        ways.append("end the run with its look-up (runtime.retrain=false)")
    raise UserError(
        "search.genotype" if config.search.strategy == "given" else "genotype", str(genotype),
        "a cell whose operations lead from its input to its output",
        f"It is cut off from the input: {config.evaluation.epochs} epochs would train one answer to all images. "
        f"{'; '.join([ways[0][0].upper() + ways[0][1:], *ways[1:]])}; or train it all the same with "
        "runtime.cut_off=train.",
    )  # fmt: skip


def require_given_cell(config: RunConfig) -> None:
    """The same of a cell that is given, before a run begins.

    Errors:
        UserError: see `require_connected`.
    """
    if config.search.strategy == "given" and config.runtime.retrain:
        require_connected(config, parse_genotype(config.search.genotype, config.supernet.space))
