"""Grids, runs, the mirror into MLflow and the command line: the harness that drives the engine."""
