"""What a terminal can show: signs that it has no character for are written otherwise, and nothing that is printed can
fail for its characters or steer the terminal."""

import codecs
import contextlib
import io
import os
import sys
import unicodedata
from collections.abc import Iterator

#: Sign -> ASCII, of what stands in our own tables and sentences; letters lose their accents, the rest is escaped.
_ASCII = {
    "–": "-", "—": "-", "−": "-", "±": "+-", "×": "x", "·": "|", "…": "...", "≤": "<=", "≥": ">=", "→": "->", "²": "^2",
    "α": "alpha", "β": "beta", "λ": "lambda", "ξ": "xi", "τ": "tau", "Δ": "Delta", "‘": "'", "’": "'", "“": '"',
    "”": '"', "•": "*", "\u00a0": " ",
}  # fmt: skip
#: Characters of one sentence.
_LONGEST = 1800
_ERRORS = "cscdarts.readable"
_CODEC = codecs.lookup("ascii")


def _otherwise(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(sign: str) -> str:
    if sign in _ASCII:
        return _ASCII[sign]
    bare = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return bare or sign.encode("ascii", "backslashreplace").decode()


codecs.register_error(_ERRORS, _otherwise)
# ASCII under a name of its own: what is called ASCII click takes for a mistake and writes UTF-8 in its place.
_PLAIN = codecs.CodecInfo(
    name="cscdarts_plain", encode=_CODEC.encode, decode=_CODEC.decode,
    incrementalencoder=_CODEC.incrementalencoder, incrementaldecoder=_CODEC.incrementaldecoder,
)  # fmt: skip
codecs.register(lambda name: _PLAIN if name == _PLAIN.name else None)


def wants_ascii(variables: "os._Environ[str] | dict[str, str]") -> bool:
    """Whether the user's terminal or locale is one of ASCII: a dumb terminal, or the C locale by name."""
    if variables.get("TERM") == "dumb":
        return True
    locale = next((found for name in ("LC_ALL", "LC_CTYPE", "LANG") if (found := variables.get(name))), "")
    return locale in ("C", "POSIX")


@contextlib.contextmanager
def readable_output() -> Iterator[None]:
    """Let nothing that is printed fail for its characters, and keep to ASCII where the terminal does."""
    plain = wants_ascii(os.environ)
    before = []
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            before.append((stream, stream.encoding, stream.errors))
            ascii_only = plain or codecs.lookup(stream.encoding).name == _CODEC.name
            stream.reconfigure(encoding=_PLAIN.name if ascii_only else None, errors=_ERRORS)
    try:
        yield
    finally:
        for stream, encoding, errors in before:
            if not stream.closed:
                stream.reconfigure(encoding=encoding, errors=errors)


def one_line(text: str) -> str:
    """A sentence on one line, without signs that steer a terminal, and of a length that can be read."""
    line = " ".join(text.split())
    line = "".join(sign if unicodedata.category(sign) != "Cc" else repr(sign)[1:-1] for sign in line)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
