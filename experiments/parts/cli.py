"""What the command-line programs share: config overrides and one-line errors."""

import dataclasses
import inspect
import itertools
import os
import re
import sys
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from experiments import configs
from experiments.parts.experiment import Experiment, override
from g_rmi.config import KINDS, MOVED, flatten, to_dict
from g_rmi.detector import DetectorConfig
from g_rmi.files import print_anything
from g_rmi.inference import settings
from g_rmi.nn.network import Backbone
from g_rmi.pose.heads import Head
from g_rmi.pose.heads.parts import Parts


def _flag(name: str) -> str:
    return name.rpartition(".")[2].replace("_", "-")


# What options were called before; understood for one release.
_MOVED = [pair for moved in MOVED.values() for pair in moved.items()]
RENAMED = {
    **{_flag(name): _flag(new) for name, new in settings.RENAMED.items() if name != "people"},
    **{_flag(name): _flag(new) for name, new in _MOVED if new and _flag(name) != _flag(new)},
    "min-joint-score": "min-keypoint-score",
}

# What each stage is called, and what it has a choice of: the options, which stand for the fields in
# `KINDS`, and the classes of settings.
_BACKBONES = {"backbone": typing.get_args(Backbone)}
CHOICES = {
    "pose": ("pose network", {"head": typing.get_args(Head), **_BACKBONES}),
    "detector": ("detector", {"detector-kind": typing.get_args(DetectorConfig), **_BACKBONES}),
    "parts": ("bottom-up network", {"head": (Parts,), **_BACKBONES}),
}
for kind in {
    kind for _, choices in CHOICES.values() for kinds in choices.values() for kind in kinds
}:
    # The field is no option beside that one; g_rmi does not import tyro.
    hint: Any = typing.get_type_hints(kind)["kind"]
    kind.__annotations__["kind"] = Annotated[hint, tyro.conf.Suppress]

_PACKAGES = "g_rmi", "data_pipeline", "experiments"

T = TypeVar("T")


def arguments(
    kind: type[T],
    argv: Sequence[str],
    *,
    name: str,
    config: Any = (),
    flat: bool = True,
    streams: bool = False,
    **defaults: Any,
) -> T:
    """Parses a program's options, of which `kind` is a frozen dataclass.

    `config` are further markers of tyro's. If `flat`, options of what is nested are called by their
    own name alone. `streams` says whether an input can be an address. Further keywords are defaults
    that are known at run time alone.
    """
    fields: Any = dataclasses.fields(kind)  # type: ignore[bad-argument-type]
    needed = [field.name for field in fields if field.default is field.default_factory]
    return tyro.cli(
        kind,
        default=kind(**dict.fromkeys(needed, tyro.MISSING) | defaults),
        args=renamed(argv, streams=streams),
        prog=program(name),
        config=(*((tyro.conf.OmitArgPrefixes,) if flat else ()), *config),
    )


def renamed(
    argv: Sequence[str], names: Mapping[str, str] = RENAMED, *, streams: bool = False
) -> list[str]:
    """The command line with options under their names of now; says so on standard error."""
    words = []
    for word in argv:
        address = re.search(r"(^|=)(gs|s3|hdfs|abfss?|az|https?)://", word)
        if address and not (streams and re.match("https?:", word)):
            how = "download it" if "http" in word else "mount or copy the bucket"
            raise ValueError(f"{word}: must be a path of this machine; {how}")
        match = re.fullmatch(r"--(no-)?([a-z-]+)(=.*)?", word.replace("_", "-"), re.DOTALL)
        if match and match[2] in names:
            new = f"--{match[1] or ''}{names[match[2]]}"
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

    `default` is a frozen dataclass with an `experiment` and an `option` that names it; `get` gives
    the experiment of a name. `--config list` prints the configs and ends the program.

    Fields are given by their last name, `--learning-rate 0.01`; the full path,
    `--optim.learning-rate 0.01`, means the same. `--head NAME` puts another head on a pose network,
    `--backbone NAME` puts either stage on another backbone. A ValueError if there is no such
    experiment or name, or the head is for the other stage.
    """
    argv = [re.sub(r"^--(?:[a-z_-]+\.)+", "--", word) for word in argv]
    if peek(argv, option) == "list":
        print(configs.listing())
        sys.exit()
    experiment = get(peek(argv, option) or getattr(default, option))
    noun, choices = CHOICES[experiment.stage]
    argv = renamed(argv, {**RENAMED, "kind": next(iter(choices))})
    for its_noun, others in CHOICES.values():
        for other in others.keys() - choices.keys():
            if value := peek(argv, other):
                raise ValueError(f"--{other} {value}: for {its_noun}s; the config is a {noun}'s")
    fields = dict(zip(choices, KINDS[experiment.stage], strict=True))
    given = {field: value for name, field in fields.items() if (value := peek(argv, name))}
    experiment = override(experiment, given)
    values, options = dict(flatten(to_dict(experiment))), []
    for name, classes in choices.items():
        text = f"Which {name.replace('-', ' ')}; its settings are options below."
        names = Literal[tuple(choice.kind for choice in classes)]  # type: ignore
        options.append(Annotated[names, tyro.conf.arg(name=name, help=text)])
    kind = type(default)
    default = dataclasses.replace(default, experiment=experiment)  # type: ignore[bad-specialization]
    parsed, *_ = tyro.cli(
        tuple[(Annotated[kind, tyro.conf.arg(name="")], *options)],  # type: ignore
        default=(default, *map(values.__getitem__, fields.values())),
        args=argv,
        prog=prog,
        config=(
            tyro.conf.OmitArgPrefixes,
            tyro.conf.FlagCreatePairsOff,
            tyro.conf.AvoidSubcommands,  # the config says which stage it is
        ),
        description=f"{inspect.getdoc(kind)}\n\nConfigs:\n{configs.listing()}",
    )
    return parsed


def program(name: str) -> str:
    """What a user types to start a program, for its help text."""
    installed = os.path.basename(sys.argv[0]) == "g-rmi"
    return f"g-rmi {name}" if installed else f"python -m experiments.{name}"


def machine_trouble(error: Exception) -> str | None:
    """What a machine without the device, or with too little memory, means; None of other errors."""
    reason = next(iter(str(error).splitlines()), "")
    lower = str(error).lower()
    if "resource_exhausted" in lower or "out of memory" in lower or isinstance(error, MemoryError):
        return (
            f"out of memory: {reason:.200}; a smaller --batch-size, --grad-accumulation or --remat "
            "when training, a smaller canvas, crop or --max-side help"
        )
    if "backend" in lower and ("initialize" in lower or "known backends" in lower):
        platforms = os.environ.get("JAX_PLATFORMS", "")
        return (
            f"no such device here: {reason:.200} (JAX_PLATFORMS={platforms}; unset it to use what "
            "there is, or set it to cpu)"
        )
    return None


def run(main: Callable[[Sequence[str]], Any]) -> None:
    """Runs a program: a user's mistake is one line on standard error and exit status 2."""
    print_anything()
    try:
        try:
            status = main(sys.argv[1:])
        finally:
            sys.stdout.flush()  # here a closed pipe is no error, at the interpreter's end it is
        sys.exit(status)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, KeyError, OSError, FloatingPointError, RuntimeError, MemoryError) as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        if isinstance(error, RuntimeError | MemoryError):
            message = machine_trouble(error)
        if os.environ.get("G_RMI_TRACEBACK") or message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        if not _expected(error):
            print("(G_RMI_TRACEBACK=1 shows where)", file=sys.stderr)
        sys.exit(2)


def _expected(error: Exception) -> bool:
    """Whether one of this project's checks has raised it, or the system for a file that it names.

    All others come out of a library or of an expression: mistakes of ours.
    """
    if isinstance(error, OSError) and error.filename is not None:
        return True
    where, root = traceback.extract_tb(error.__traceback__)[-1], Path(__file__).resolve().parents[2]
    ours = any(Path(where.filename).is_relative_to(root / package) for package in _PACKAGES)
    return ours and (where.line or "").startswith("raise ")
