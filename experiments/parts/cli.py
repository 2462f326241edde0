"""What the command-line programs share: config overrides and one-line errors."""

import dataclasses
import inspect
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import tyro

from experiments import configs
from experiments.parts.experiment import Experiment, PoseExperiment
from g_rmi.config import MOVED, from_dict
from g_rmi.inference import settings
from g_rmi.pose.heads import Head


class Arguments(Protocol):
    """A program's options: a frozen dataclass with an experiment and an option that names it."""

    @property
    def experiment(self) -> Experiment:
        """Its values."""
        ...


def _flag(name: str) -> str:
    return name.rpartition(".")[2].replace("_", "-")


# What options were called before; understood for one release.
_MOVED = [pair for moved in MOVED.values() for pair in moved.items()]
RENAMED = {
    **{_flag(name): _flag(new) for name, new in settings.RENAMED.items() if name != "people"},
    **{_flag(name): _flag(new) for name, new in _MOVED if new and _flag(name) != _flag(new)},
    "min-joint-score": "min-keypoint-score",
}

A = TypeVar("A")
T = TypeVar("T", bound=Arguments)


def arguments(
    kind: type[A],
    argv: Sequence[str],
    *,
    name: str,
    default: A | None = None,
    config: Any = (),
    flat: bool = True,
) -> A:
    """Parses a program's options.

    Args:
      kind: A frozen dataclass; the first part of its docstring is the program's help text.
      argv: The command line without the program's name.
      name: Of the program, for the help text.
      default: The options if none is given.
      config: Further markers of tyro's.
      flat: Options of what is nested are called by their own name alone.
    """
    return tyro.cli(
        kind,
        default=default,
        args=renamed(argv),
        prog=program(name),
        description=summary(kind),
        config=(*((tyro.conf.OmitArgPrefixes,) if flat else ()), *config),
    )


def summary(kind: type) -> str:
    """A docstring without the list of attributes, which are the options."""
    return inspect.cleandoc(str(kind.__doc__)).partition("Attributes:")[0].strip()


def renamed(argv: Sequence[str]) -> list[str]:
    """The command line with options under their names of now; says so on standard error."""
    words = []
    for word in argv:
        match = re.fullmatch(r"--(no-)?([a-z-]+)(=.*)?", word.replace("_", "-"), re.DOTALL)
        if match and match[2] in RENAMED:
            new = f"--{match[1] or ''}{RENAMED[match[2]]}"
            print(f"note: --{match[2]} is called {new} now", file=sys.stderr)
            word = new + (word[word.index("=") :] if match[3] else "")
        words.append(word)
    return words


def peek(argv: Sequence[str], option: str) -> str | None:
    """The value of an option before all options are known; None if it is not given."""
    value = None
    for word, after in itertools.zip_longest(argv, argv[1:]):
        if word == f"--{option}":
            value = after
        elif word.startswith(f"--{option}="):
            value = word.partition("=")[2]
    return value


def parse(
    default: T,
    argv: Sequence[str],
    *,
    prog: str,
    option: str = "config",
    get: Callable[[str], Experiment] = configs.get,
) -> T:
    """Parses `--config NAME`, the program's own options, and any field of that config.

    Fields are given by their last name, `--learning-rate 0.01`; the full path,
    `--optim.learning-rate 0.01`, means the same. `--head NAME` puts another head on a pose network,
    whose fields are options then.

    Args:
      default: The options if none is given; `experiment` is replaced by what `option` names.
      argv: The command line without the program's name.
      prog: Program name for the help text.
      option: The option that names the experiment.
      get: The experiment of that name.
    """
    argv = [re.sub(r"^--(?:[a-z_-]+\.)+", "--", word) for word in argv]
    name = peek(argv, option) or getattr(default, option)
    experiment = get(name)
    if kind := peek(argv, "head"):
        experiment = with_head(experiment, kind)
        argv = [*_without(argv, "--head")]
    default = dataclasses.replace(default, experiment=experiment)  # type: ignore[bad-specialization]
    return tyro.cli(
        type(default),
        default=default,
        args=renamed(argv),
        prog=prog,
        config=(
            tyro.conf.OmitArgPrefixes,
            tyro.conf.FlagConversionOff,
            tyro.conf.AvoidSubcommands,  # the config says which stage it is
        ),
        description=summary(type(default)),
    )


def _without(argv: Sequence[str], flag: str) -> Iterator[str]:
    """The command line without a flag and its value."""
    words = iter(argv)
    for word in words:
        if word == flag:
            next(words, None)
        elif not word.startswith(f"{flag}="):
            yield word


def with_head(experiment: Experiment, kind: str) -> Experiment:
    """A pose experiment with that head at its defaults, or as it is if it has one of the kind.

    Raises:
      ValueError: There is no such head, or the experiment is a detector's.
    """
    if not isinstance(experiment, PoseExperiment):
        raise ValueError(f"--head {kind}: for pose networks; the config is a detector's")
    if experiment.model.head.kind == kind:
        return experiment
    head = from_dict(Head, {"kind": kind}, "head.")
    model = dataclasses.replace(experiment.model, head=head)
    return dataclasses.replace(experiment, model=model)


def program(name: str) -> str:
    """What a user types to start a program, for its help text."""
    installed = os.path.basename(sys.argv[0]) == "g-rmi"
    return f"g-rmi {name}" if installed else f"python -m experiments.{name}"


def run(main: Callable[[Sequence[str]], Any]) -> None:
    """Runs a program: a user's mistake is one line on standard error and exit status 2."""
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, KeyError, OSError, FloatingPointError) as error:
        if os.environ.get("G_RMI_TRACEBACK"):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"error: {message}", file=sys.stderr)
        print("(G_RMI_TRACEBACK=1 shows where)", file=sys.stderr)
        sys.exit(2)
