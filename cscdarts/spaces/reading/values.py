"""Python and JSON literals as plain values, by the syntax tree: nothing is evaluated, length and depth are bounded.

Beside literals it knows what stands for one in print: `range(2, 6)`, `np.int64(0)`, `tensor(0, device='cuda:0')`,
`array([2, 3])`, `OrderedDict([...])`, and operations' names that lost their quotes.
"""

import ast
import re
import warnings
from typing import Any

from cscdarts.spaces.reading.names import is_operation

#: A cell takes some 2,000 characters; what is far longer is no cell.
LONGEST, DEEPEST = 100_000, 24
_TOKENS = re.compile(r"""["'()\[\]{}#]""")
_STRING = {quote: re.compile(rf"{quote}(?:\\.|[^{quote}\\]){{0,300}}{quote}", re.DOTALL) for quote in "'\""}
_CLOSES = {"(": ")", "[": "]", "{": "}"}
#: A call of one of these stands for its argument.
_NUMBERS = re.compile(r"u?int(8|16|32|64|c|p|_)?|float(16|32|64|_)?|long|longlong|str_?|string_|bool_?")
_HOLDERS = {
    "array",
    "asarray",
    "tensor",
    "Tensor",
    "LongTensor",
    "IntTensor",
    "as_tensor",
    "list",
    "tuple",
    "frozenset",
    "set",
}
_WORDS = {"null": None, "true": True, "false": False, "nan": float("nan"), "inf": float("inf")}


class NotPlain(Exception):
    """The text is a program that computes the value, not the value; its argument is the part that shows it."""


class Damaged(Exception):
    """The text is no whole literal; its argument says where it breaks."""


def closing(text: str, start: int, limit: int = LONGEST) -> int | None:
    """The position after the bracket that closes the one at `start`, or None: cut off, crossed, too long or too
    deep."""
    line = text[text.rfind("\n", 0, start) + 1 : start]
    commented = line.lstrip().startswith("#")  # then each further line begins with the sign, and the rest of it counts
    open_brackets: list[str] = []
    position, end = start, min(len(text), start + limit)
    while (token := _TOKENS.search(text, position, end)) is not None:
        sign, position = token.group(), token.end()
        if sign in _CLOSES:
            open_brackets.append(_CLOSES[sign])
            if len(open_brackets) > DEEPEST:
                return None
        elif sign == "#" and commented and not text[text.rfind("\n", 0, token.start()) + 1 : token.start()].strip():
            pass
        elif sign == "#":
            newline = text.find("\n", position, end)
            position = end if newline < 0 else newline
        elif sign in _STRING:
            whole = _STRING[sign].match(text, token.start(), end)
            position = whole.end() if whole else position
        elif open_brackets.pop() != sign:
            return None
        elif not open_brackets:
            return position
    return None


def plain(text: str) -> Any:
    """The value of a literal: lists for tuples, sets and arrays, dictionaries, strings, numbers, None.

    Errors:
        NotPlain: it holds variables or computations.
        Damaged: it is no whole literal.
    """
    try:
        return _value(_tree(text))
    except RecursionError as error:
        raise Damaged("is too deep") from error


def fields_of_call(text: str) -> tuple[list[Any], dict[str, Any]]:
    """The positional and the named arguments of a printed call such as `Genotype(normal=[...], ...)`."""
    try:
        return _fields(_tree(text))
    except RecursionError as error:
        raise Damaged("is too deep") from error


def _fields(call: ast.expr) -> tuple[list[Any], dict[str, Any]]:
    if not isinstance(call, ast.Call):
        raise Damaged("no call")
    named: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            inner = _value(keyword.value)
            named |= inner if isinstance(inner, dict) else {}
        elif keyword.arg in named:
            raise Damaged(f"{keyword.arg} stands there twice")
        else:
            named[keyword.arg] = _value(keyword.value)
    return [_value(argument) for argument in call.args], named


def _tree(text: str) -> ast.expr:
    text = re.sub(r",?\s*grad_fn=<[^<>]{0,80}>", "", text.strip())
    text = re.sub(r"\b(\d+)[lL]\b", r"\1", text)  # Python 2 printed long integers so
    lines = text.split("\n")
    # As it stands; without the signs that quoting or commenting put before its lines; broken in the middle of words by
    # a terminal or a page; with line breaks that a string within a string wrote as \n.
    ways = (text, "\n".join(re.sub(r"^\s*(?:[>#%]+|//)", "", line) for line in lines), "".join(map(str.strip, lines)))
    problem = ""
    for way in (*ways, ways[0].replace("\\n", " ")):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a stray backslash is the text's affair, not the user's terminal's
                return ast.parse(way, mode="eval").body
        except SyntaxError as error:
            at = (error.text or "")[max((error.offset or 1) - 1, 0) :][:20].strip()
            problem = problem or (f"near {at!r}" if at else str(error.msg))
        except (ValueError, RecursionError, MemoryError) as error:
            problem = problem or str(error)
    raise Damaged(problem)


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            if value is Ellipsis:
                raise Damaged("a part was printed as '...'")
            return value.decode("latin-1") if isinstance(value, bytes) else value
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            return [_value(part) for part in parts]
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {_key(key): _value(value) for key, value in pairs if key is not None}
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=int() | float() as number)):
            return -number if isinstance(sign, ast.USub) else number
        case ast.Name(id=name) if name in _WORDS:
            return _WORDS[name]
        case ast.Name(id=name) if is_operation(name):
            return name
        case ast.Call():
            return _call(node)
    raise NotPlain(_source(node))


def _source(node: ast.expr) -> str:
    try:
        return ast.unparse(node)[:40]
    except RecursionError:
        return type(node).__name__


def _key(node: ast.expr) -> Any:
    key = _value(node)
    return key if isinstance(key, str | int) else str(key)


def _call(node: ast.Call) -> Any:
    if isinstance(node.func, ast.Attribute) and node.func.attr in ("item", "tolist", "cpu", "numpy", "detach"):
        return _value(node.func.value)
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in ("range", "xrange") and 1 <= len(node.args) <= 3 and not node.keywords:
        bounds = [_value(argument) for argument in node.args]
        if all(type(bound) is int and abs(bound) <= 64 for bound in bounds) and bounds[2:] != [0]:
            return list(range(*bounds))
        raise Damaged(f"{_source(node)} is no range of a cell's nodes")
    if (_NUMBERS.fullmatch(name) or name in _HOLDERS) and len(node.args) == 1:
        return _value(node.args[0])  # keywords say where a tensor lies and of what type it is
    if name in ("dict", "OrderedDict", "defaultdict", "SimpleNamespace", "Namespace"):
        found: dict[Any, Any] = {}
        for argument in node.args:
            inner = _value(argument)
            found |= inner if isinstance(inner, dict) else {str(pair[0]): pair[1] for pair in inner if len(pair) == 2}
        return found | {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
    raise NotPlain(_source(node))
