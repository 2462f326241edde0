"""Trains a network: `python -m experiments.train --config NAME --workdir DIR [--data DIR]`."""

from collections.abc import Sequence

from experiments.parts import cli
from experiments.parts.training import Arguments, run
from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.training.hosts import alone, join_hosts


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = cli.parse(Arguments(), argv, prog=cli.program("train"))
    join_hosts(arguments.hosts)
    enable_compilation_cache()  # before hosts ask each other
    with alone(arguments.directory):
        run(arguments)


if __name__ == "__main__":
    cli.run(main)
