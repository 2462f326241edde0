"""The former name of `export weights`; stays for one release."""

import sys
from collections.abc import Sequence

from experiments import export
from experiments.parts import cli


def main(argv: Sequence[str]) -> None:
    """The program; `--change NAME=VALUE` is the option `--NAME VALUE` now."""
    print("note: `publish` is called `export weights` now", file=sys.stderr)
    words: list[str] = []
    changing = False
    for word in argv:
        if word.startswith("--"):
            changing = word == "--change"
            words += [] if changing else [word]
        elif changing:
            name, _, value = word.partition("=")
            words += [f"--{name.replace('_', '-')}", *value.strip("[]").split(",")]
        else:
            words.append(word)
    export.export_weights(words)


if __name__ == "__main__":
    cli.run(main)
