"""The store of the mirror's tests."""

from tests.ablations.conftest import uri

__all__ = ["uri"]
