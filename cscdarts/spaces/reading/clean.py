"""From the bytes that an editor, a shell or a notebook writes to one plain text, line by line where it was."""

import codecs
import html
import json
import re
from dataclasses import dataclass, field

from cscdarts.errors import UserError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins with the mark of UTF-16, so it is asked for first
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[@-Z\\-_])")
#: A quote that a string inside another string escapes: (\'sep_conv_3x3\', 0) or [\"sep_conv_3x3\", 0].
_ESCAPED = re.compile(r"[\[({]\s*\\+[\"']")
_TEX_QUOTES = re.compile(r"`{1,2}([\w \\-]{1,40})'{1,2}")
_ENTITY = re.compile(r"&(?:#\d+|#x[0-9a-fA-F]+|quot|apos|lt|gt|amp);")
#: What word processors, web pages and PDF viewers put in the place of plain characters.
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′´", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–—−", "-"),
        **dict.fromkeys("\u00a0\u2002\u2003\u2009\u202f\u3000", " "),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\u00ad\ufeff\0", None),
        "×": "x",
        **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full-width letters, digits and brackets
    }
)


@dataclass(frozen=True)
class Page:
    """A text to look for a cell in.

    Attributes:
        text: the cleaned text.
        name: the file or source it came from, for sentences; empty for text given directly.
        sheets: (offset, label) of the parts that it was joined from, in order; empty where lines say enough.
    """

    text: str
    name: str = ""
    sheets: tuple[tuple[int, str], ...] = field(default=())

    def place(self, position: int) -> str:
        """Where a position is, as a person would look it up: `line 12`, or the cell of a notebook."""
        labels = [label for offset, label in self.sheets if offset <= position]
        return labels[-1] if labels else f"line {self.line(position)}"

    def line(self, position: int) -> int:
        """The line of a position, counted from 1."""
        return self.text.count("\n", 0, position) + 1


def decode(data: bytes, name: str) -> str:
    """Text from bytes: by their mark (UTF-8, UTF-16, UTF-32), UTF-16 without one, UTF-8, else Latin-1.

    Errors:
        UserError: the bytes are no text, as a pickle, an archive or an image.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace")
    zeros = data[:4096].count(0)
    if zeros:
        # Western text in UTF-16 has a zero in every second byte; PowerShell 5 and some pipes write it without a mark.
        sample = data[: min(len(data), 4096) & ~1]
        odd, even = sample[1::2].count(0), sample[0::2].count(0)
        if max(odd, even) >= 0.8 * (len(sample) // 2) and min(odd, even) == 0:
            return data.decode("utf-16-le" if odd else "utf-16-be", errors="replace")
        raise UserError(
            name, "a binary file", "text: a genotype, a log, a notebook, JSON or YAML",
            "Print the genotype of the checkpoint or archive into a text file.",
        )  # fmt: skip
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def clean(text: str) -> str:
    """Plain text: no terminal colours, one kind of quote, no escapes around quotes or underscores; lines stay where
    they are."""
    text = text.replace("\r\n", "\n").replace("\r", " ")
    if "\x1b" in text:
        text = _TERMINAL.sub("", text)
    if "&" in text:
        text = _ENTITY.sub(lambda entity: html.unescape(entity.group()), text)
    if not text.isascii() or "\0" in text:
        text = text.translate(_PLAIN)
    if "\\_" in text:
        text = text.replace("\\_", "_")
    if "`" in text:
        text = _TEX_QUOTES.sub(r"'\1'", text)
    if _ESCAPED.search(text):
        text = re.sub(r"\\+([\"'])", r"\1", text).replace("\\n", "  ")
    return text


def page(text: str, name: str = "") -> Page:
    """The page of a text; of a Jupyter notebook what its cells hold and print, in order."""
    if text.lstrip("\ufeff \r\n\t").startswith("{") and '"nbformat"' in text and '"cells"' in text:
        try:
            cells = json.loads(text)["cells"]
            sheets = [
                (number, part)
                for number, cell in enumerate(cells, 1)
                for part in (*_strings(cell, "source"), *_printed(cell))
            ]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return Page(clean(text), name)
        joined, labels = "", []
        for number, part in sheets:
            labels.append((len(joined), f"cell {number} of the notebook"))
            joined += clean(part) + "\n"
        return Page(joined, name, tuple(labels))
    return Page(clean(text), name)


def _strings(holder: dict[str, object], key: str) -> list[str]:
    value = holder.get(key, "")
    parts = value if isinstance(value, list) else [value]
    return ["".join(part for part in parts if isinstance(part, str))]


def _printed(cell: dict[str, object]) -> list[str]:
    parts: list[str] = []
    outputs = cell.get("outputs", [])
    for output in outputs if isinstance(outputs, list) else []:
        parts += _strings(output, "text")
        data = output.get("data", {})
        parts += _strings(data, "text/plain") if isinstance(data, dict) else []
    return parts
