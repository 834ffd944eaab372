"""Entry point: a dictionary of commands, each an ordinary function whose signature and docstring are its help."""

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from spikewright import __version__
from spikewright.errors import SpikewrightError, nearest
from spikewright.train.allocator import reuse_freed_memory

try:
    from spikewright import cli
except ImportError as error:
    sys.exit(f"The command line needs the extra [cli] ({error}). Install it with: pip install 'spikewright[cli]'")

COMMANDS: dict[str, Callable[..., Any]] = {
    "train": cli.train,
    "evaluate": cli.evaluate,
    "compare": cli.compare,
    "continual": cli.continual,
    "reason": cli.reason,
    "explain": cli.explain,
    "certify": cli.certify,
    "plan": cli.plan,
    "plot": cli.plot,
    "bench": cli.bench,
    "list": cli.list_components,
}
POSITIONAL = ("recipe", "run", "kind")
SUMMED = {"overrides": ("--set", "SECTION.KEY=VALUE")}
"""Parameters that are given by repeating a flag of another name."""


class Parser(argparse.ArgumentParser):
    """Answers an unknown flag or command with the nearest known one."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\nTry: {self.prog} --help\n")

    def unknown(self, flag: str) -> NoReturn:
        """Refuse a flag."""
        known = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        self.error(f"unknown argument {flag}. {nearest(flag, known) if flag.startswith('-') else ''}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors of use are one message and exit status 2, a broken promise of `certify` is status 1."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parsers = _parsers()
    if not arguments or arguments[0].startswith("-"):
        _overview().parse_args(arguments or ["--help"])
    name, *rest = arguments
    if name not in COMMANDS:
        _overview().error(f"there is no command '{name}'. {nearest(name, COMMANDS)}")
    options, unknown = parsers[name].parse_known_args(rest)
    if unknown:
        parsers[name].unknown(unknown[0])
    reuse_freed_memory()
    try:
        answer = COMMANDS[name](**vars(options))
    except SpikewrightError as error:
        sys.stderr.write(f"spikewright {name}: {type(error).__name__}: {error}\n")
        return 2
    except ImportError as error:
        sys.stderr.write(f"spikewright {name}: {error}. It is part of an extra: pip install 'spikewright[cli]'\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(
            "\ninterrupted; a run continues from its last checkpoint with: spikewright train --resume RUN\n"
        )
        return 130
    return 1 if isinstance(answer, dict) and answer.get("ok") is False else 0


def _overview() -> Parser:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {_summary(function)}" for name, function in COMMANDS.items())
    parser = Parser(
        prog="spikewright",
        usage="spikewright COMMAND ...",
        description=f"Train spiking networks with interchangeable learning rules.\n\ncommands:\n{listed}\n\n"
        "`spikewright COMMAND --help` explains one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def _parsers() -> dict[str, Parser]:
    return {name: _parser(name, function) for name, function in COMMANDS.items()}


def _parser(name: str, function: Callable[..., Any]) -> Parser:
    """Read a command's flags off its signature, and their help off its docstring."""
    described = inspect.getdoc(function) or ""
    parser = Parser(
        prog=f"spikewright {name}",
        description=described.partition("\nArgs:")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for key, parameter in inspect.signature(function).parameters.items():
        about = _about(described, key).replace("%", "%%")
        kind, choices = _kind(parameter.annotation)
        required = parameter.default is inspect.Parameter.empty
        if key in POSITIONAL:
            parser.add_argument(key, nargs=None if required else "?", type=kind, choices=choices, help=about)
        elif key in SUMMED:
            flag, shown = SUMMED[key]
            parser.add_argument(flag, dest=key, action="append", metavar=shown, help=about)
        elif kind is bool:
            parser.add_argument(_flag(key), action="store_true", help=about)
        else:
            default = parameter.default
            shown = "" if default is None else f" (default: {default})"
            meta = None if choices else key.upper()
            parser.add_argument(
                _flag(key), type=kind, choices=choices, default=default, metavar=meta, help=about + shown
            )
    return parser


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _kind(annotation: Any) -> tuple[Any, tuple[str, ...] | None]:
    """Return what converts a flag's text, and what it may be."""
    kinds = [a for a in get_args(annotation) if a is not type(None)] or [annotation]
    if get_origin(annotation) is Literal:
        return str, get_args(annotation)
    return next((kind for kind in (Path, int, float, bool) if kind in kinds), str), None


def _summary(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _about(described: str, key: str) -> str:
    """Read what a docstring says of a parameter, which may run over several lines."""
    match = re.search(rf"^ +{key}: (.+?)(?=\n +\w+: |\n\n|\Z)", described, re.MULTILINE | re.DOTALL)
    return " ".join(match[1].split()) if match else ""


if __name__ == "__main__":
    sys.exit(main())
