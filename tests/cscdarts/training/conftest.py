"""What several of these tests retrain on."""

from pathlib import Path

import pytest

from tests.support.training.retraining import random_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `random_tree`."""
    return random_tree(tmp_path_factory.mktemp("tree"))
