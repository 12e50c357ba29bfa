"""Replaces who and where in text: host names, the user, folders, addresses, each by the same word wherever it stands.

`/home/alice/x` becomes `HOME/x`, `node17` becomes `HOST-1`, `alice` becomes `USER`. Words that stand for something are
never replaced again, and a text is gone over until nothing in it changes: what comes out goes in and out unchanged.
"""

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ablations.doctor.privacy.secrets import MARK, Secrets

#: From this length on a name is replaced inside words too.
_ANYWHERE = 5
#: Names that tell nobody apart.
_ORDINARY = frozenset({"root", "localhost", "localdomain", "nobody", "127.0.0.1", "::1", "0.0.0.0"})
#: Hosts that anybody may know that we know.
_PUBLIC = frozenset({"github.com", "gitlab.com", "pypi.org", "pytorch.org", "download.pytorch.org", "mlflow.org",
                     "doi.org", "arxiv.org", "localhost", "127.0.0.1", "0.0.0.0", "[::1]"})  # fmt: skip
#: Top folders whose content is every machine's.
_SYSTEM = frozenset({"usr", "bin", "sbin", "lib", "lib64", "dev", "proc", "sys"})
_WORDS = ("HOME", "CWD", "RUNS", "DATA", "CODE", "PYTHON", "USER", MARK)
_NUMBERED = ("HOST", "PATH", "EMAIL", "IP", "ACCOUNT", "GROUP", "UUID")
_PATH_SIGNS = r"[^\s\"'<>|,;:()\[\]{}\\`*?]"
_ROUNDS = 20
#: A word that stands for something.
PLACEHOLDER = re.compile(
    rf"(?<![A-Za-z0-9])(?:{'|'.join(_WORDS)}|(?:{'|'.join(_NUMBERED)})-[0-9]+)(?![A-Za-z0-9])"
)  # fmt: skip


_NONE = Secrets()


@dataclass(frozen=True)
class Known:
    """What is known to be replaced.

    Attributes:
        users, hosts, accounts, groups: names.
        roots: folder -> the word for it.
    """

    users: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    roots: Mapping[str, str] = field(default_factory=dict)


class Redactor:
    """Takes secrets, names and places out of texts, consistently over all of them.

    Args:
        known: names and folders.
        secrets: what must not be seen at all.
    """

    def __init__(self, known: Known, secrets: Secrets = _NONE) -> None:
        self.secrets = secrets
        self._numbers: dict[str, dict[str, int]] = {}
        roots = {path.rstrip("/"): word for path, word in known.roots.items() if len(path.rstrip("/")) > 1}
        self._roots = {form: word for path, word in roots.items() for form in (path, quote(path))}
        self._kinds: dict[str, str] = {}
        for kind, given in (("GROUP", known.groups), ("ACCOUNT", known.accounts), ("HOST", known.hosts),
                            ("USER", known.users)):  # fmt: skip
            self._kinds.update((name.casefold(), kind) for name in given if _tells(name))
        # Known hosts get their numbers now, so that these do not hang on what is read first.
        for name in known.hosts:
            if _tells(name):
                self._number("HOST", name.casefold())
        names = self._name_patterns(known.hosts)
        common = [rf"(?P<mark>{PLACEHOLDER.pattern})", rf"(?P<email>{_EMAIL})", rf"(?P<domain>{_DOMAIN})",
                  rf"(?P<ip>{_IP4}|{_IP6})", rf"(?P<uuid>{_UUID})"]  # fmt: skip
        self._inner = re.compile("|".join([*common, *names]))
        rooted = [f"(?P<root>{self._root_pattern()})(?P<below>(?:/{_PATH_SIGNS}*)?)"] if self._roots else []
        self._outer = re.compile(
            "|".join([
                rf"(?P<word>{PLACEHOLDER.pattern})(?P<tail>/{_PATH_SIGNS}*)", rf"(?P<url>{_URL})", *rooted,
                rf"(?P<path>(?<![\w.~<-])(?:~[A-Za-z_][\w.-]*)?/(?![/\s]){_PATH_SIGNS}+)", *common, *names,
            ])
        )  # fmt: skip

    def __call__(self, text: str) -> str:
        """The text with all of it replaced."""
        for _ in range(_ROUNDS):
            changed = self._outer.sub(self._replaced, self.secrets.clean(text))
            if changed == text:
                break
            text = changed
        return text

    def data(self, data: Any) -> Any:
        """Plain data likewise, keys included."""
        if isinstance(data, str):
            return self(data)
        if isinstance(data, Mapping):
            return {self(str(key)): self.data(value) for key, value in data.items()}
        return [self.data(one) for one in data] if isinstance(data, list | tuple) else data

    def _number(self, kind: str, what: str) -> str:
        own = self._numbers.setdefault(kind, {})
        return f"{kind}-{own.setdefault(what, len(own) + 1)}"

    def _name_patterns(self, hosts: Iterable[str]) -> list[str]:
        long = sorted((name for name in self._kinds if len(name) >= _ANYWHERE), key=_longest)
        short = sorted((name for name in self._kinds if len(name) < _ANYWHERE), key=_longest)
        stems = sorted({match.group(1) for name in hosts if (match := re.fullmatch(r"(.*[A-Za-z-])\d+", name))})
        found = []
        if stems:
            either = "|".join(map(re.escape, stems))
            found.append(rf"(?P<node>(?<![A-Za-z0-9])(?i:{either})(?:[0-9]+(?![A-Za-z0-9])|\[[0-9,-]+\]))")
        if long:
            found.append(rf"(?P<long>(?i:{'|'.join(map(re.escape, long))}))")
        if short:
            found.append(rf"(?P<short>(?<![A-Za-z0-9])(?i:{'|'.join(map(re.escape, short))})(?![A-Za-z0-9]))")
        return found

    def _root_pattern(self) -> str:
        deep = sorted((path for path in self._roots if path.count("/") > 1), key=_longest)
        flat = sorted((path for path in self._roots if path.count("/") <= 1), key=_longest)
        either = [rf"(?:{'|'.join(map(re.escape, deep))})"] if deep else []
        either += [rf"(?<![\w.~-])(?:{'|'.join(map(re.escape, flat))})"] if flat else []
        return rf"(?:{'|'.join(either)})(?=/|[^\w.-]|\.(?:\s|$)|$)"

    def _replaced(self, match: re.Match[str]) -> str:
        found = match.groupdict()
        if found.get("word"):
            return found["word"] + self._within(found["tail"])
        if found.get("url"):
            return self._url(found["url"])
        if found.get("root"):
            return self._roots[found["root"]] + self._within(found["below"])
        if found.get("path"):
            return self._path(found["path"])
        return self._name(match)

    def _within(self, text: str) -> str:
        return self._inner.sub(self._name, text)

    def _name(self, match: re.Match[str]) -> str:
        kind, text = str(match.lastgroup), match.group()
        if kind == "mark":
            return text
        if kind in ("email", "uuid"):
            return self._number(kind.upper(), text.casefold())
        if kind == "ip":
            return self._address(text)
        if kind == "domain":
            return text if text.casefold() in _PUBLIC else self._number("HOST", text.casefold())
        name = text.casefold()
        kind = "HOST" if kind == "node" and name not in self._kinds else self._kinds.get(name, "USER")
        return kind if kind == "USER" else self._number(kind, name)

    def _address(self, text: str) -> str:
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return text
        return text if address.is_loopback or address.is_unspecified else self._number("IP", str(address))

    def _path(self, text: str) -> str:
        parts = text.split("/")
        if parts[0] == "" and parts[1] in _SYSTEM:
            return self._within(text)
        for folder in ("site-packages", "dist-packages"):
            if folder in parts:
                at = parts.index(folder)
                return f"{self._number('PATH', '/'.join(parts[:at]))}/{self._within('/'.join(parts[at:]))}"
        bare = text.rstrip(".")
        return self._number("PATH", bare) + text[len(bare) :]

    def _url(self, text: str) -> str:
        scheme, _, rest = text.partition("://")
        scheme, bare = self._within(scheme), rest.lstrip("/")
        lead = rest[: len(rest) - len(bare)]
        if lead:  # a file's: sqlite:////home/alice/mlflow.db
            if PLACEHOLDER.match(bare) or (
                scheme.startswith("sqlite") and lead == "/"
            ):  # one slash: beside the process
                return f"{scheme}://{lead}{self._within(bare)}"
            return f"{scheme}://{lead[:-1]}{self._outer.sub(self._replaced, '/' + bare)}"
        place, slash, path = rest.partition("/")
        host, colon, port = place.rpartition(":") if re.search(r":[0-9]*$", place) else (place, "", "")
        if host and PLACEHOLDER.fullmatch(host) is None and host.casefold() not in _PUBLIC:
            host = self._number("HOST", host.casefold())
        return f"{scheme}://{host}{colon}{port}{slash}{self._within(path)}"


_EMAIL = r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
#: A host with its domain: those of institutes, and of networks of their own. Two letters end many names of modules too.
_DOMAIN = (
    r"(?<![\w.-])(?i:(?:[a-z0-9-]+\.)+(?:org|edu|com|gov|mil|local|internal|lan|cluster|intranet|localdomain)"
    r"|(?:[a-z0-9-]+\.){2,}(?:net|uk|de|fr|ch|at|nl|be|it|es|pt|eu|jp|cn|kr|tw|sg|ca|au|br|se|fi|dk|pl|cz|ru|il))"
    r"(?![\w-]|\.\w)"
)
_IP4 = r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?!\w|\.[0-9])"
_IP6 = r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?:%\w+)?(?![\w:])"
_UUID = r"(?<![0-9A-Za-z])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9A-Za-z])"
_URL = r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>\\]*"


def _longest(name: str) -> tuple[int, str]:
    return (-len(name), name)


def _tells(name: str) -> bool:
    return len(name) > 1 and name.casefold() not in _ORDINARY


def real_and_given(path: str) -> Iterable[str]:
    """A folder as it is written, made absolute, and where it leads."""
    if path:
        yield str(Path(path).absolute())
        yield os.path.realpath(path)
