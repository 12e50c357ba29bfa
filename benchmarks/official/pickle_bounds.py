"""What a pickle would make, reckoned from its instructions before they are carried out: bytes, depth, and hashing.

A few bytes of pickle can ask for gigabytes (each `]` is a list of 56 bytes, a length may promise what is not there),
for containers nested beyond any stack, and for ages of hashing (a tuple of two references to the tuple before it, sixty
times, as a key). So the instructions are read along by a machine that keeps, for each value, only its weight (values in
it when written out as a tree) and its depth; what exceeds the budget is refused before the unpickler sees it.
"""

from typing import Any

#: Bytes that a value takes in memory, beyond its text: an upper estimate.
_VALUE, _ENTRY, _ITEM = 64, 100, 16
#: Containers in containers; the official records have five.
DEPTH = 32
#: Characters of a line of a textual instruction.
_LINE = 1024
#: Keys that are tuples can be made to collide, so their number is bounded too: so many, and more by the file's size.
TUPLE_KEYS, BYTES_PER_TUPLE_KEY = 5_000, 100

_ATOMS = {ord("N"): 0, 0x88: 0, 0x89: 0, ord("K"): 1, ord("M"): 2, ord("J"): 4, ord("G"): 8}
_COUNTED = {0x8C: 1, ord("X"): 4, 0x8D: 8, ord("U"): 1, ord("T"): 4, ord("C"): 1, ord("B"): 4, 0x8E: 8, 0x96: 8}
_LONGS = {0x8A: 1, 0x8B: 4}
_LINES = {ord(c): 1 for c in "ILFSVpgP"} | {ord("c"): 2}
_FIXED = {0x80: 1, 0x95: 8, ord("q"): 1, ord("r"): 4, ord("h"): 1, ord("j"): 4}
_PLAIN = frozenset([*map(ord, "]}()ldtaesu012.RbQ"), 0x85, 0x86, 0x87, 0x81, 0x8F, 0x90, 0x91, 0x93, 0x94])
#: Instruction -> bytes of its argument's fixed part.
_ARGUMENT = dict.fromkeys(_PLAIN, 0) | _ATOMS | _COUNTED | _LONGS | _FIXED
#: Instruction -> its whole length where it makes a plain value of fixed size, 0 for all others.
_SIZE = [1 + _ATOMS[code] if code in _ATOMS else 0 for code in range(256)]
_BINGET, _MEMOIZE, _SHORT = ord("h"), 0x94, (0x8C, ord("C"))


class TooMuch(Exception):
    """A pickle asks for more than its budget, or for something that no record has.

    No `UnpicklingError`: the unpickler would take one of those for the end of the file.
    """


class PickleBounds:
    """Reads a pickle's instructions along, piece by piece.

    Args:
        made: bytes that may be made.
        size: bytes of the file, for the number of keys that are tuples.
        persistent: whether instructions for persistent objects (tensors of a `.pth`) are let through.
        number: bytes that a whole number may have; longer ones can be made to collide as keys.

    Attributes:
        ended: whether the last instruction has been read.
        left: bytes that may still be made.
    """

    def __init__(self, made: int, size: int, persistent: bool = False, number: int = 9) -> None:
        self.left, self._keys = made, TUPLE_KEYS + size // BYTES_PER_TUPLE_KEY
        self._persistent, self._number = persistent, number
        self._rest, self._skip = b"", 0
        # A value is None (plain), (weight, depth, hashed) of a tuple, or [weight, depth, placed] of a container.
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self.ended = False

    def feed(self, piece: bytes) -> int:
        """Read on; returns how many bytes of `piece` belong to this pickle.

        Errors:
            TooMuch: an instruction exceeds the budget or is none of plain data.
        """
        before = len(self._rest)
        data = self._rest + piece if before else piece
        end, at = len(data), min(self._skip, len(data))
        self._skip -= at
        stack, memo, left, sizes = self._stack, self._memo, self.left, _SIZE
        push = stack.append
        try:
            while at < end and not self.ended:
                code = data[at]
                size = sizes[code]
                if size:  # a plain value of fixed size
                    if at + size > end:
                        break
                    left -= _VALUE
                    push(None)
                    at += size
                elif code == _MEMOIZE:
                    left -= _ITEM
                    memo[len(memo)] = stack[-1]
                    at += 1
                elif code in _SHORT and at + 1 < end:
                    left -= _VALUE + data[at + 1]
                    push(None)
                    at += 2 + data[at + 1]
                elif code == _BINGET and at + 1 < end:
                    left -= _ITEM
                    push(memo[data[at + 1]])
                    at += 2
                else:
                    self.left = left
                    size = self._one(data, at)
                    left = self.left
                    if size == 0:
                        break
                    at += size
        except (IndexError, KeyError, TypeError) as error:
            raise TooMuch("values that are not there") from error
        self.left = left
        if left < 0:  # nothing of this piece has been made yet
            raise _too_much()
        if at > end:
            self._skip, at = at - end, end
        self._rest = b"" if self.ended else data[at:]
        return at - before if self.ended else len(piece)

    def _one(self, data: bytes, at: int) -> int:
        """One instruction's length with its argument; 0 where it is not whole yet."""
        code = data[at]
        if code in _LINES:
            return self._line(code, data, at)
        if code not in _ARGUMENT:
            raise TooMuch(f"the instruction {code:#04x}, which plain data has no use for")
        start = at + 1 + _ARGUMENT[code]
        if start > len(data):
            return 0
        number = int.from_bytes(data[at + 1 : start], "little")
        if code in _COUNTED or code in _LONGS:
            if code in _LONGS and number > self._number:
                raise TooMuch("a number of more than 64 bits")
            self._spend(_VALUE + (number if number < 1024 else 4 * number))
            self._stack.append(None)
            return start - at + number
        self.left -= _ITEM
        if code in _FIXED:
            self._fixed(code, number)
        else:
            self._plain(code)
        return start - at

    def _line(self, code: int, data: bytes, at: int) -> int:
        end = at
        for _ in range(_LINES[code]):
            end = data.find(b"\n", end + 1, at + 2 * _LINE)
            if end < 0:
                if len(data) - at >= 2 * _LINE:
                    raise TooMuch("a line without an end")
                return 0
        text = data[at + 1 : end]
        self._spend(_VALUE + 4 * len(text))
        if chr(code) in "ILpg" and len(text) > 24:
            raise TooMuch("a number of more than 64 bits")
        if chr(code) == "p":
            self._put(int(text) if text.isdigit() else -1)
        elif chr(code) == "g":
            self._stack.append(self._memo[int(text) if text.isdigit() else -1])
        elif chr(code) == "P" and not self._persistent:
            raise TooMuch("a persistent object")
        else:
            self._stack.append(None)
        return end + 1 - at

    def _fixed(self, code: int, number: int) -> None:
        if code in (ord("q"), ord("r")):
            self._put(number)
        elif code in (ord("h"), ord("j")):
            self._stack.append(self._memo[number])
        elif code == 0x95 and number > self.left:
            raise _too_much()

    def _put(self, number: int) -> None:
        # The unpickler makes room up to the number: a large one would be gigabytes.
        if not 0 <= number <= len(self._memo) + 1024:
            raise TooMuch("a reference far beyond its values")
        self._memo[number] = self._stack[-1]

    def _plain(self, code: int) -> None:
        stack, name = self._stack, chr(code)
        if name == "R" or code == 0x81:
            # What is called may copy its arguments: an OrderedDict of a dictionary is another one as large.
            items = self._last(2)
            made = [1, 1, False]
            self._spend(_VALUE)
            self._grow(made, items[1:], _ENTRY, whole=True)
            stack.append(made)
        elif 0x85 <= code <= 0x87:
            self._tuple(self._last(code - 0x84))
        elif name in "]}" or code == 0x8F:
            self._spend(_VALUE)
            stack.append([1, 1, False])
        elif name == "(":
            self._spend(_VALUE)
            self._marks.append(len(stack))
        elif name == "u":
            items = self._since_mark()
            self._set(stack[-1], items)
        elif name == "e":
            items = self._since_mark()
            self._grow(stack[-1], items, _ITEM)
        elif name == "s":
            items = self._last(2)
            self._set(stack[-1], items)
        elif name == "a":
            items = self._last(1)
            self._grow(stack[-1], items, _ITEM)
        elif code == 0x90:  # members of a set are hashed as keys are
            members = self._since_mark()
            self._set(stack[-1], [part for member in members for part in (member, None)])
        elif name == "t" or code == 0x91:
            self._tuple(self._since_mark())
        elif name == ")":
            self._tuple([])
        elif name in "ld":
            items = self._since_mark()
            made = [1, 1, False]
            self._spend(_VALUE)
            stack.append(made)
            if name == "d":
                self._set(made, items)
            else:
                self._grow(made, items, _ITEM)
        elif name == "b":
            state = self._last(1)
            self._grow(stack[-1], state, _ENTRY, whole=True)
        elif code == 0x93:
            self._last(2)
            stack.append(None)
        elif name == "Q":
            if not self._persistent:
                raise TooMuch("a persistent object")
            self._last(1)
            stack.append(None)
        elif name == "0":
            if self._marks and self._marks[-1] == len(stack):
                self._marks.pop()
            else:
                self._last(1)
        elif name == "1":
            self._since_mark()
        elif name == "2":
            stack.append(stack[-1])
        else:
            self.ended = True

    def _spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise _too_much()

    def _since_mark(self) -> list[Any]:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _last(self, count: int) -> list[Any]:
        if len(self._stack) - (self._marks[-1] if self._marks else 0) < count:
            raise TooMuch("values that are not there")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _tuple(self, items: list[Any]) -> None:
        weight, depth = self._measure(items)
        self._spend(_VALUE + 8 * len(items))
        # To hash it is to go through the tuples in it, those that it holds twice also twice.
        hashed = 1 + len(items) + sum(item[2] for item in items if isinstance(item, tuple))
        if hashed > MOST_HASHED:
            raise TooMuch("tuples within tuples without end")
        self._stack.append((weight + 1, depth + 1, hashed))

    def _set(self, target: Any, items: list[Any]) -> None:
        keys = [key for key in items[::2] if key is not None]
        if keys:
            self._keys -= len(keys)
            if self._keys < 0:
                raise TooMuch("more keys of several values than such a file has")
            # Each is hashed by going through all that it holds.
            self._spend(sum(key[2] for key in keys))
        self._grow(target, items, _ENTRY // 2)

    def _grow(self, target: Any, items: list[Any], each: int, whole: bool = False) -> None:
        weight, depth = self._measure(items)
        self._spend(each * (weight if whole else len(items)))
        if target is None:
            return  # the state of an object of ours
        if target[2]:
            # What holds it already was measured without this.
            raise TooMuch("a container that grows inside another")
        # What is called keeps little of a few values: a number's type, its sign and size.
        target[0] += max(0, weight - 16) if whole else weight
        target[1] = max(target[1], depth + 1)
        if target[0] > MOST_VALUES or target[1] > DEPTH:
            raise TooMuch("values within values without end")

    def _measure(self, items: list[Any]) -> tuple[int, int]:
        """Weight and depth of some values, which are placed in another by this."""
        plain = items.count(None)
        weight, depth = plain, 0
        if plain < len(items):
            for item in items:
                if item is not None:
                    weight += item[0]
                    depth = max(depth, item[1])
                    if isinstance(item, list):
                        item[2] = True
            if weight > MOST_VALUES or depth >= DEPTH:
                raise TooMuch("values within values without end")
        return weight, depth


#: Values that are gone through when a tuple is hashed.
MOST_HASHED = 10_000
#: Values of a whole file, shared ones counted wherever they stand: the official archive has a thousand million.
MOST_VALUES = 4 * 10**9


def _too_much() -> TooMuch:
    return TooMuch("more data than such a file can hold")
