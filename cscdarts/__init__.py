"""CSC-DARTS engine: channel-split supernets, bilevel search, derivation, retraining and cost accounting.

The names below are the public interface. They are imported on first use, so that reading a configuration, a genotype or
a metric imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cscdarts.errors import NumericalError, Stopped, UserError
    from cscdarts.export.reading import load
    from cscdarts.models.cost import Cost, network_cost, supernet_cost
    from cscdarts.models.network import Network
    from cscdarts.models.reference import ReferenceSupernet
    from cscdarts.models.reference_network import ReferenceNetwork
    from cscdarts.models.supernet import Supernet
    from cscdarts.records.genotype_source import read_genotype
    from cscdarts.records.run_folder import RunFolder
    from cscdarts.settings.config import RunConfig
    from cscdarts.settings.methods import apply_cell, apply_preset
    from cscdarts.settings.overrides import with_values
    from cscdarts.settings.protocols import protocol
    from cscdarts.spaces.genotype import parse_genotype
    from cscdarts.spaces.operations import Operation, register_operation
    from cscdarts.spaces.space import Genotype, Space, register_space
    from cscdarts.training.cell_choice.derive import derive
    from cscdarts.training.retrain import retrain
    from cscdarts.training.search import search

__version__ = "0.2.0"  # the only place; CITATION.cff repeats it for those who cite

_HOMES = {
    "Cost": "cscdarts.models.cost",
    "Genotype": "cscdarts.spaces.space",
    "Network": "cscdarts.models.network",
    "NumericalError": "cscdarts.errors",
    "Operation": "cscdarts.spaces.operations",
    "ReferenceNetwork": "cscdarts.models.reference_network",
    "ReferenceSupernet": "cscdarts.models.reference",
    "RunConfig": "cscdarts.settings.config",
    "RunFolder": "cscdarts.records.run_folder",
    "Space": "cscdarts.spaces.space",
    "Stopped": "cscdarts.errors",
    "Supernet": "cscdarts.models.supernet",
    "UserError": "cscdarts.errors",
    "apply_cell": "cscdarts.settings.methods",
    "apply_preset": "cscdarts.settings.methods",
    "derive": "cscdarts.training.cell_choice.derive",
    "load": "cscdarts.export.reading",
    "network_cost": "cscdarts.models.cost",
    "parse_genotype": "cscdarts.spaces.genotype",
    "protocol": "cscdarts.settings.protocols",
    "read_genotype": "cscdarts.records.genotype_source",
    "register_operation": "cscdarts.spaces.operations",
    "register_space": "cscdarts.spaces.space",
    "retrain": "cscdarts.training.retrain",
    "search": "cscdarts.training.search",
    "supernet_cost": "cscdarts.models.cost",
    "with_values": "cscdarts.settings.overrides",
}

__all__ = [
    "Cost",
    "Genotype",
    "Network",
    "NumericalError",
    "Operation",
    "ReferenceNetwork",
    "ReferenceSupernet",
    "RunConfig",
    "RunFolder",
    "Space",
    "Stopped",
    "Supernet",
    "UserError",
    "__version__",
    "apply_cell",
    "apply_preset",
    "derive",
    "load",
    "network_cost",
    "parse_genotype",
    "protocol",
    "read_genotype",
    "register_operation",
    "register_space",
    "retrain",
    "search",
    "supernet_cost",
    "with_values",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cscdarts' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
