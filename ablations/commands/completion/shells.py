"""Answers a shell that asks how a command line goes on, through click's mechanism; nothing that fails there is ever
printed."""

import contextlib
import gc
import io
import os
import re
import sys
from collections.abc import Iterator

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from ablations.commands.completion.attach import attach
from ablations.commands.completion.remembered import known, stand_in

#: The variable by which a shell asks; click names it so.
VARIABLE = "_CSCDARTS_COMPLETE"
PROGRAM = "cscdarts"
SHELLS = ("bash", "zsh", "fish")
#: Kind of what can go on: no space is set behind it.
PART = "part"

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' response completion type value
    response=$(env COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_WORDBREAKS="$COMP_WORDBREAKS" \
%(complete_var)s=bash_complete $1 2>/dev/null)
    COMPREPLY=()
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        if [[ $type == 'dir' ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == 'part' ]]; then
            COMPREPLY+=("$value")
            compopt -o nospace
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("$value")
        fi
    done
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""
_ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a whole described part response
    local type key descr
    (( ! $+commands[%(prog_name)s] )) && return 1
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \
%(complete_var)s=zsh_complete %(prog_name)s 2>/dev/null)}")
    for type key descr in ${response}; do
        if [[ "$type" == "plain" && "$descr" == "_" ]]; then
            whole+=("$key")
        elif [[ "$type" == "plain" ]]; then
            described+=("$key":"$descr")
        elif [[ "$type" == "part" ]]; then
            part+=("$key")
        elif [[ "$type" == "dir" ]]; then
            _path_files -/
        elif [[ "$type" == "file" ]]; then
            _path_files -f
        fi
    done
    [ -n "$described" ] && _describe -V unsorted described -U
    [ -n "$whole" ] && compadd -U -V unsorted -a whole
    [ -n "$part" ] && compadd -U -S '' -V parts -a part
    return 0
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""


class _Bash(BashComplete):
    """Bash cuts words at `=` and `:`; so the line itself is read, and of an answer the part after the last cut is
    given."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the cursor, and the one at it."""
        line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
        # A letter more shows whether the cursor stands in a word or after it.
        words = split_arg_string(f"{line}x")
        self._incomplete = words[-1][:-1]
        return words[1:-1], self._incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """As the script above reads it."""
        typed = self._incomplete
        if typed.startswith("-") and "=" in typed:
            typed = typed.partition("=")[2]
        breaks = "".join(sign for sign in "=:" if sign in os.environ.get("COMP_WORDBREAKS", "=:"))
        cut = max((typed.rfind(sign) for sign in breaks), default=-1) + 1
        value = item.value[cut:] if item.value.startswith(typed[:cut]) else item.value
        return f"{item.type},{value}"


class _Zsh(ZshComplete):
    """Zsh sets a space behind all but parts."""

    source_template = _ZSH

    def format_completion(self, item: CompletionItem) -> str:
        """As the script above reads it."""
        return f"{item.type}\n{item.value}\n_" if item.type == PART else super().format_completion(item)


class _Fish(FishComplete):
    """Fish itself sets no space behind `=`, `:` and `/`."""

    def format_completion(self, item: CompletionItem) -> str:
        """As click's script reads it."""
        return re.sub(f"^{PART},", "plain,", super().format_completion(item))


def script(shell: str) -> str:
    """What a shell is to read so that it asks this program.

    Args:
        shell: one of `SHELLS`.
    """
    _register()
    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(click.Group(), {}, PROGRAM, VARIABLE)
    return made.source_template % made.source_vars()


def answer(cli: click.Group) -> int:
    """Answer a shell as the variables say; returns the exit code."""
    _register()
    gc.disable()  # the process ends in a moment
    shell, _, wanted = os.environ[VARIABLE].partition("_")
    kind = get_completion_class(shell)
    if kind is None or wanted not in ("complete", "source"):
        return 1
    text = ""
    # What a module prints is no answer.
    with contextlib.suppress(Exception), contextlib.redirect_stderr(io.StringIO()), _no_output():
        found = known(cli)
        tree = stand_in(cli, found["commands"])
        attach(tree)
        asked = kind(tree, {"obj": found}, PROGRAM, VARIABLE)
        text = asked.complete() if wanted == "complete" else asked.source()
    sys.stdout.buffer.write(f"{text}\n".encode())
    sys.stdout.flush()
    return 0


@contextlib.contextmanager
def _no_output() -> Iterator[None]:
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
        yield


def _register() -> None:
    for kind in (_Bash, _Zsh, _Fish):
        add_completion_class(kind)
