"""The public interface: every name is there, comes from one place, and reading settings imports no torch."""

import subprocess
import sys

import pytest

import cscdarts


@pytest.mark.parametrize("name", cscdarts.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(cscdarts, name) is not None
    assert name in dir(cscdarts)


def test_homes_and_names_agree() -> None:
    assert set(cscdarts._HOMES) == set(cscdarts.__all__) - {"__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = cscdarts.nothing


def test_settings_and_genotypes_import_no_torch() -> None:
    code = (
        "import sys, cscdarts; cscdarts.apply_preset(cscdarts.protocol('quickstart', 'smoke'), 'csc');"
        "cscdarts.read_genotype('DARTS_V2'); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
