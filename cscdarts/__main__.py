"""The console command `cscdarts`, and `python -m cscdarts`."""

from typing import NoReturn

from cscdarts._harness import open_harness

open_harness()


def main() -> NoReturn:
    """Run the command line; see `ablations.cli`."""
    from ablations.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
