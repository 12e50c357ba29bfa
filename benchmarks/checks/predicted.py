"""What a NAS-Bench-301 surrogate predicts of a cell or a run of the DARTS space: predicted, not measured. No torch."""

from typing import Any

from benchmarks.official.nasbench301 import Surrogate
from cscdarts.errors import MissingFile, UserError
from cscdarts.records.run_folder import RunFolder, read_json
from cscdarts.spaces import Genotype, parse_genotype
from cscdarts.training.derivation import genotype_of_line

WORDS = "predicted, not measured"
LIMITS = (
    "A surrogate's prediction is no training. It is of networks of 8 cells and 32 channels trained for 100 epochs on "
    "CIFAR-10, without identity connection and channel split, so it speaks of the search side alone."
)


def predict_cell(surrogate: Surrogate, genotype: Genotype) -> dict[str, Any]:
    """`arch`, `space`, `benchmark` (provenance), `predicted` (data set -> `valid_acc`, and `sd` over an ensemble's
    members), and no measured `datasets`.

    Errors:
        UserError: see `Surrogate.predict`.
    """
    mean, sd = surrogate.predict([genotype])
    return {
        "arch": str(genotype),
        "space": genotype.space,
        "words": WORDS,
        "benchmark": surrogate.provenance,
        "datasets": {},
        "predicted": {"cifar10": {"valid_acc": float(mean[0]), "sd": None if sd is None else float(sd[0])}},
        "limits": LIMITS,
    }


def predict_run(folder: RunFolder, surrogate: Surrogate) -> dict[str, Any]:
    """As `predict_cell` of a run's derived cell, with `trajectory`: the cell that each epoch's alpha would give.

    Errors:
        UserError: its search is not done, or see `Surrogate.predict`.
    """
    config = folder.config()
    genotype = read_json(folder.file("genotype.json"))
    if genotype is None:
        raise MissingFile(str(folder.path), "Finish its search first.", "genotype.json")
    found = predict_cell(surrogate, parse_genotype(str(genotype["text"]), config.supernet.space))
    weighting = config.search.weighting
    cells = {int(line["epoch"]): genotype_of_line(config.supernet, line, weighting) for line in folder.alphas()}
    different = list({str(cell): cell for cell in cells.values()}.values())
    means = surrogate.predict(different)[0].tolist() if different else list[float]()
    by_cell = {str(cell): float(mean) for cell, mean in zip(different, means, strict=True)}
    found["trajectory"] = [
        {"epoch": epoch, "arch": str(cell), "predicted_valid_acc": by_cell[str(cell)]}
        for epoch, cell in sorted(cells.items())
    ]
    return found


def require_predictable(genotype: Genotype, benchmark: str) -> None:
    """Refuse a cell that is none of the DARTS space.

    Errors:
        UserError: see above.
    """
    if genotype.space == "nasbench201":
        raise UserError(
            "--benchmark", benchmark, "a table of the nasbench201 space, such as embedded",
            "NAS-Bench-301 predicts cells of the DARTS space; this is one of the nasbench201 space.",
        )  # fmt: skip
