"""Takes secrets out of text: what variables of a telling name hold, credentials in URLs, and what looks like a token.

A secret of which nothing is known and that looks like any word cannot be told from one; so where secrets are to be
expected (a profile's variables and lines of shell) `ablations.doctor.privacy.scripts` lets through what it knows, and
nothing else.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

MARK = "SECRET"
#: Names of variables, settings and options that hold secrets.
_TELLING = (
    r"(?:token(?!i[sz])|secret|passw|passphrase|passwd|pwd|credential|api[_-]?key|apikey|access[_-]?key|private[_-]?key"
    r"|secret[_-]?key|account[_-]?key|session[_-]?key|auth(?!or|enticated)|cookie|jwt|bearer|signature)"
)
_NAME = re.compile(rf"(?i){_TELLING}")
#: Names that tell of no secret although they look so, and values that are none.
_HARMLESS_NAMES = frozenset({"PWD", "OLDPWD", "TOKENIZERS_PARALLELISM", "SSH_AUTH_SOCK", "XAUTHORITY", "GIT_ASKPASS",
                             "SSH_ASKPASS"})  # fmt: skip
_HARMLESS = frozenset({"true", "false", "yes", "no", "none", "null", "auto", "default", "on", "off", "disabled",
                       "enabled", MARK.lower(), ""})  # fmt: skip
#: From this length on a secret is taken out wherever it stands, a shorter one only as a word of its own.
_ANYWHERE = 6
_QUOTED = r'"(?:\\.|[^"\\\n])*"|' + r"'(?:\\.|[^'\\\n])*'"
_VALUE = rf"(?:{_QUOTED}|[^\s\"'&;<>|)\]}}]+)"
#: Between a name and its value, on one line or as a block of YAML.
_IS = r"[ \t]*+(?:=>|[:=])[ \t]*+(?:[|>][-+]?[ \t]*\n\s*+)?+"
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*KEY-----|\Z)", re.DOTALL), MARK),
    (re.compile(r"(?i)((?:proxy-)?authorization[\"']?\s*[:=]\s*)(?!\s)[^\n\"']+"), rf"\1{MARK}"),
    (re.compile(r"(?i)\b(bearer)[ \t]+[A-Za-z0-9+/=_.~-]{6,}"), rf"\1 {MARK}"),
    (re.compile(r"\b(Basic)[ \t]+(?=[A-Za-z+/]*[0-9=])[A-Za-z0-9+/]{8,}={0,2}"), rf"\1 {MARK}"),
    # With a password everything up to the last @ of the word: a password may hold a slash or an @ itself.
    (re.compile(r"(?<=://)[^\s/@:\"'<>]*:[^\s\"'<>]*@"), ""),
    (re.compile(r"(?<=://)[^/\s@\"'<>]*@"), ""),
    (re.compile(rf"(?i)(--?[a-z0-9_-]*{_TELLING}[a-z0-9_-]*(?:=|[ \t]+))(?!-){_VALUE}"), rf"\1{MARK}"),
    # A phrase may have several words.
    (re.compile(rf"(?i)([a-z0-9_.-]*pass(?:w|phrase)[a-z0-9_.-]*[\"']?{_IS})(?!{MARK}\b)(?:{_QUOTED}|[^\n\"']+)"),
     rf"\1{MARK}"),
    (re.compile(rf"(?i)([a-z0-9_.-]*{_TELLING}[a-z0-9_.-]*[\"']?{_IS})(?!{MARK}\b){_VALUE}"), rf"\1{MARK}"),
    (re.compile(
        r"\b(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{16,}|sk-[\w-]{16,}"
        r"|xox[abeoprs]-[\w-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{30,}|dapi[0-9a-f]{32}|npm_[A-Za-z0-9]{30,}"
        r"|pypi-[\w-]{16,}|eyJ[\w-]{5,}\.[\w-]{5,}(?:\.[\w-]*)?)"
    ), MARK),
)  # fmt: skip


def names_a_secret(name: str) -> bool:
    """Whether a variable or setting of this name holds a secret."""
    return name.upper() not in _HARMLESS_NAMES and (_NAME.search(name) is not None or name.endswith("_KEY"))


@dataclass(frozen=True)
class Secrets:
    """The secrets that are known by their values.

    Attributes:
        values: longest first.
    """

    values: tuple[str, ...] = ()

    @classmethod
    def of(cls, *environments: Mapping[str, str]) -> "Secrets":
        """Those in variables of telling names, and the credentials of URLs in any variable."""
        found: set[str] = set()
        for variables in environments:
            for name, value in variables.items():
                if names_a_secret(name):
                    found |= {value, *(line for line in value.splitlines() if len(line) >= _ANYWHERE)}
                for user, password in re.findall(r"://([^\s/@:]*):([^\s]*)@", value):
                    found |= {password, unquote(password)} | ({user} if len(user) >= 20 else set())
                # A token may stand in the user's place.
                found |= {user for user in re.findall(r"://([^/\s@:]*)@", value) if len(user) >= 12}
        kept = {value.strip() for value in found if _is_secret(value.strip())}
        return cls(tuple(sorted(kept, key=lambda value: (-len(value), value))))

    def and_these(self, values: Iterable[str]) -> "Secrets":
        """These and further ones, known by their values."""
        every = {*self.values, *(value.strip() for value in values if _is_secret(value.strip()))}
        return Secrets(tuple(sorted(every, key=lambda value: (-len(value), value))))

    def clean(self, text: str) -> str:
        """The text with every secret replaced by `SECRET`."""
        for pattern in self._patterns():
            text = pattern.sub(MARK, text)
        for rule, put in _RULES:
            text = rule.sub(put, text)
        return text

    def clean_data(self, data: Any) -> Any:
        """Plain data likewise; what stands under a telling name goes whole."""
        if isinstance(data, str):
            return self.clean(data)
        if isinstance(data, Mapping):
            return {self.clean(str(key)): MARK if names_a_secret(str(key)) and isinstance(value, str) and value
                    else self.clean_data(value) for key, value in data.items()}  # fmt: skip
        return [self.clean_data(one) for one in data] if isinstance(data, list | tuple) else data

    def _patterns(self) -> Iterable[re.Pattern[str]]:
        for value in self.values:
            # As it stands, in a URL, in JSON.
            forms = {value, quote(value, safe=""), json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
            either = "|".join(re.escape(form) for form in sorted(forms, key=lambda form: (-len(form), form)))
            bounded = len(value) < _ANYWHERE
            yield re.compile(rf"(?<![A-Za-z0-9])(?:{either})(?![A-Za-z0-9])" if bounded else either)


def _is_secret(value: str) -> bool:
    return len(value) >= 3 and value.lower() not in _HARMLESS and value not in MARK
