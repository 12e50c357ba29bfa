"""The best of several searches, retrained several times: PC-DARTS's rule, and DARTS's before it.

PC-DARTS's 2.57 ± 0.07 % is the best of four searched cells, trained four times, not a mean over four searches (its
authors in issue 47 of their repository); so what `n` and `±` mean beside such a number is another thing than beside
ours. Here a search is chosen by the one-shot validation error of its cell (`search.best_of`), where the papers train
each cell briefly; the test set chooses nothing. The same searches without a choice stand beside it.
"""

from collections.abc import Iterator

from cscdarts import RunConfig, apply_preset, protocol, with_values

#: Scale -> searches to choose from, and so how far the seeds of two choices lie apart: no search serves twice.
SEARCHES = {"smoke": 2, "reduced": 4, "paper": 4}
#: How often each cell is retrained.
RETRAININGS = {"smoke": 2, "reduced": 2, "paper": 4}


def grid(scale: str) -> Iterator[RunConfig]:
    """CSC-DARTS and PC-DARTS: three times the best of several searches, and one search without a choice from each."""
    many = SEARCHES[scale]
    for seed in (0, many, 2 * many):
        for method in ("csc", "pcdarts"):
            base = with_values(apply_preset(protocol("cifar10", scale), method), {"seed": seed})
            yield with_values(base, {"search.best_of": many, "labels.note": f"best of {many} searches"})
            yield base
