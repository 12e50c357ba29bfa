"""How far the finite difference of the second order can be trusted: its distance eps, against the exact product.

The family's value is eps = 0.01 / ||v||. In float32, with kinks of ReLU and max pooling, its product can point
elsewhere than the exact one; each run records the cosine between the two at every fifth of its epochs (`hvp_cosine`).
"""

from collections.abc import Iterator

from cscdarts import RunConfig, apply_preset, protocol, with_values

SEEDS = (0, 1, 2)


def grid(scale: str) -> Iterator[RunConfig]:
    """eps in {0.001, 0.01, 0.1, 1}, the exact product and the first order, each with 3 seeds."""
    base = apply_preset(protocol("quickstart" if scale == "smoke" else "nasbench201", scale), "csc")
    for seed in SEEDS:
        for eps in (0.001, 0.01, 0.1, 1.0):
            yield with_values(
                base, {"seed": seed, "search.eps": eps, "search.cosine_every": max(1, base.search.epochs // 5)}
            )
        for order in ("second-exact", 1):
            yield with_values(base, {"seed": seed, "search.order": order})
