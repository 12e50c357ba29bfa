"""`cscdarts completion SHELL`: the script that lets a shell complete command lines, and how to install it."""

import click

from ablations.commands.completion.shells import PROGRAM, SHELLS, script

#: Shell -> how to let it read the script each time it starts.
_INSTALLED = {
    "bash": (
        "For this shell:   eval \"$(cscdarts completion bash)\"",
        "For all of them:  mkdir -p ~/.local/share/bash-completion/completions",
        "                  cscdarts completion bash > ~/.local/share/bash-completion/completions/cscdarts",
        "Without the package bash-completion: save it elsewhere and `source` it in ~/.bashrc.",
    ),
    "zsh": (
        "For this shell:   eval \"$(cscdarts completion zsh)\"   (after `autoload -Uz compinit && compinit`)",
        "For all of them:  mkdir -p ~/.zfunc && cscdarts completion zsh > ~/.zfunc/_cscdarts",
        "                  and in ~/.zshrc: fpath+=~/.zfunc; autoload -Uz compinit && compinit",
    ),
    "fish": (
        "For this shell:   cscdarts completion fish | source",
        "For all of them:  cscdarts completion fish > ~/.config/fish/completions/cscdarts.fish",
    ),
}  # fmt: skip


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), metavar="|".join(SHELLS))
def completion(shell: str) -> None:
    """Print a shell's completion script; its first lines say how to install it.

    It completes commands, options, grids, runs, presets, protocols, settings and their values, profiles, benchmarks and
    published cells.
    """
    head, _, rest = script(shell).partition("\n")
    told = "\n".join(f"# {line}" for line in (f"Completion of {PROGRAM} for {shell}.", *_INSTALLED[shell]))
    # What zsh loads by itself begins with the word #compdef.
    click.echo(f"{head}\n{told}\n{rest}" if head.startswith("#compdef") else f"{told}\n{head}\n{rest}", nl=False)
