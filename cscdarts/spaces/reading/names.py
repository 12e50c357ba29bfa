"""What other repositories call the operations of our spaces."""

import re
import reprlib
from difflib import get_close_matches

from cscdarts.errors import UserError
from cscdarts.spaces.darts import DARTS
from cscdarts.spaces.nasbench201 import NASBENCH201
from cscdarts.spaces.operations import OPERATIONS
from cscdarts.spaces.space import Space

#: Names without case and punctuation -> ours, for each space. Sources: NASLib (SepConv3x3, Zero, ReLUConvBN3x3,
#: AvgPool1x1), AutoDL-Projects (dua_sepc_3x3, dil_sepc_3x3), nni (sepconv3x3, maxpool, conv_1x1). Names that mean
#: another operation elsewhere are left out on purpose: dil_sep_conv_3x3 of unnas is two dilated convolutions, noise of
#: R-DARTS is no operation of the whole space.
ALIASES: dict[str, dict[str, str]] = {
    "darts": {
        **dict.fromkeys(("zero", "zeroize"), "none"),
        **dict.fromkeys(("skip", "skipconnection", "identity", "id", "factorizedreduce"), "skip_connect"),
        **dict.fromkeys(("maxpool", "max3x3", "maxpooling3x3", "poolmax3x3"), "max_pool_3x3"),
        **dict.fromkeys(("avgpool", "avg3x3", "avgpooling3x3", "averagepool3x3"), "avg_pool_3x3"),
        **{f"{word}{k}x{k}": f"sep_conv_{k}x{k}" for k in (3, 5) for word in ("sep", "duasepc", "separableconv")},
        **{f"{word}{k}x{k}": f"dil_conv_{k}x{k}" for k in (3, 5) for word in ("dil", "dilsepc", "dilatedconv")},
    },
    "nasbench201": {
        **dict.fromkeys(("zero", "zeroize"), "none"),
        **dict.fromkeys(("skip", "skipconnection", "identity", "id"), "skip_connect"),
        **{f"{word}{k}x{k}": f"nor_conv_{k}x{k}" for k in (1, 3) for word in ("conv", "reluconvbn")},
        **dict.fromkeys(("avgpool", "avg3x3", "avgpool1x1", "avgpooling3x3", "averagepool3x3"), "avg_pool_3x3"),
    },
}


def squeezed(name: str) -> str:
    """A name without case, spaces and punctuation, by which spellings are compared."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def our_name(space: Space, name: str) -> str | None:
    """The operation of the space that a name of another repository means, or None; users' operations go by their name
    alone."""
    if name in space.ops or OPERATIONS.added(name):
        return name
    spellings = {squeezed(op): op for op in space.ops} | ALIASES.get(space.name, {})
    return spellings.get(squeezed(name))


def is_operation(name: str) -> bool:
    """Whether a word names an operation of any space, so that it is data even without quotes around it."""
    return any(our_name(space, name) for space in (DARTS, NASBENCH201))


class Notes(list[str]):
    """What a person should know of how a text was read; each said once."""

    def say(self, line: str) -> None:
        """Add a line unless it stands already."""
        if line not in self:
            self.append(line)


def operation(space: Space, name: object, field: str, notes: Notes) -> str:
    """The operation that a text names.

    Errors:
        UserError: no operation of the space.
    """
    ours = our_name(space, name) if isinstance(name, str) else None
    if ours is None:
        near = get_close_matches(str(name), space.ops, 1, 0.8)
        fix = f"Did you mean {near[0]}?" if near else f"The {space.name} space has no other operation."
        raise UserError(field, shortened(name), ", ".join(space.ops), fix)
    if ours != name:
        notes.say(f"{name} is read as {ours}")
    return ours


def shortened(value: object) -> object:
    """A value as it may stand in a sentence: numbers and short strings as they are, long or deep ones cut."""
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 10**18):
        return value
    if isinstance(value, int):
        return "a number of more than 18 digits"
    text = value if isinstance(value, str) else reprlib.repr(value)  # YAML's anchors make values that never end in full
    if len(text) <= 60 and (isinstance(value, str) or text == repr(value)):
        return value
    return text[:57] + "..."
