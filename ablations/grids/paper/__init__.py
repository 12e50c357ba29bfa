"""Grids behind the tables of the paper."""
