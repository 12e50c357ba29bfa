"""The stage that derives a cell: from the records of the search, or by further measurements of its supernet."""

from collections.abc import Callable

from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.config import RunConfig
from cscdarts.spaces import Genotype
from cscdarts.training import derivation


def derive(
    config: RunConfig,
    folder: RunFolder,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[str], None] = lambda line: None,
) -> Genotype:
    """Write `genotype.json` by the rule `search.derive`, or read it where it is.

    Args:
        stop: asked while a rule measures or trains; report: told how far that is.

    Errors:
        UserError: a search has not finished here, or its records lack what the rule reads.
        Stopped: asked to stop; what is decided is kept.
    """
    if config.search.derive != "perturbation":
        return derivation.derive(config, folder, report)
    from cscdarts.training.cell_choice.tuning import derive_by_perturbation

    return derive_by_perturbation(config, folder, stop, report)
