"""Do skip connections take over in a long search, and do splitting and identity hold them back?

DARTS against channel splitting, the identity connection, both and neither, each searched for 150 epochs, where DARTS on
CIFAR-10 in the NAS-Bench-201 space is known to end with skip connections on all edges (NATS-Bench, "Final Discovered
Architectures": 54.30 % accuracy). Neither is DARTS but for the warm-up of alpha, which CSC-DARTS has and DARTS has not.
Figure F4 shows the count of skip connections in the cell that each epoch would have derived.
"""

from collections.abc import Iterator

from cscdarts import RunConfig, apply_preset, protocol, with_values

EPOCHS = {"smoke": 4, "reduced": 150, "paper": 150}
SEEDS = (100, 101, 102)
#: Split ratio and identity: neither, each alone, both.
PARTS = (("1", "none"), ("1/2", "none"), ("1", "cell"), ("1/2", "cell"))


def grid(scale: str) -> Iterator[RunConfig]:
    """First order with 3 seeds, then second order of DARTS and the whole method: 7 settings.

    On digits; at the paper's scale on CIFAR-10.
    """
    name = "nasbench201" if scale == "paper" else "quickstart"
    # A cell that `none` cuts off counts as what it gives.
    long = {"search.epochs": EPOCHS[scale], "runtime.cut_off": "train"}
    base = with_values(protocol(name, scale), long)
    for order in (1, 2):
        for seed in SEEDS:
            seeded = with_values(base, {"seed": seed})
            yield apply_preset(seeded, f"darts{order}")
            for ratio, identity in PARTS if order == 1 else PARTS[-1:]:
                values = {"supernet.split_ratio": ratio, "supernet.identity": identity, "search.order": order}
                yield with_values(apply_preset(seeded, "csc"), values)
