"""All programs as one command: `g-rmi train`, `g-rmi evaluate`, ...; `python -m experiments`."""

import importlib
import sys
from collections.abc import Sequence

import tyro

import g_rmi
from experiments.parts import cli
from g_rmi.config import nearest

COMMANDS = {
    "train": "train the detector or the pose network",
    "evaluate": "measure a training on labelled images",
    "predict": "find people in images and videos",
    "explain": "draw how one joint is found",
    "demo": "try the packaged weights on photographs",
    "label": "pseudo-label missing joints for a later training",
    "export": "write weights as one file, the whole pipeline, or ONNX",
    "sweep": "run one of the paper's ablations: a table of trainings and evaluations",
    "bench": "measure speed on this machine",
    "doctor": "check this machine and a data set",
    "check": "check a data set for mistakes",
    "prepare": "pack a data set into ArrayRecord files",
    "synthetic": "draw a data set of people",
}
_DATA = ("check", "prepare", "synthetic")  # The programs of data_pipeline.


def main(argv: Sequence[str]) -> int | None:
    """Runs one of the programs."""
    if argv and argv[0] == "--version":
        print(f"g-rmi {g_rmi.__version__}")
        return 0
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {name:<10}{what}" for name, what in COMMANDS.items()]
        text = ["usage: g-rmi COMMAND ... (g-rmi COMMAND --help lists its options)", "", *lines]
        print("\n".join(text), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    name, *rest = argv
    if name not in COMMANDS and name != "publish":  # its former name, which answers
        raise ValueError(f"g-rmi {name}: no such command{nearest(name, COMMANDS)}")
    if name in _DATA:
        where = f"data_pipeline.{name}" + ".__main__" * (name == "synthetic")
        options = {"args": rest, "prog": f"g-rmi {name}", "config": (tyro.conf.OmitArgPrefixes,)}
        return tyro.cli(importlib.import_module(where).main, **options)
    return importlib.import_module(f"experiments.{name}").main(rest)


def console() -> None:
    """The console command."""
    cli.run(main)


if __name__ == "__main__":
    console()
