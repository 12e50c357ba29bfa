"""CSC-DARTS engine: channel-split supernets, bilevel search, derivation, retraining and cost accounting.

Importing this package imports no torch, so that configuration, genotypes and metrics are cheap to read.
"""

__version__ = "0.1.0"
