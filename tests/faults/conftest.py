"""The store of the mirror's tests."""

from tests.ablations.conftest import empty_store, uri

__all__ = ["empty_store", "uri"]
