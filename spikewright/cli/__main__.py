"""Entry point: each command is an ordinary function whose signature and docstring are its help.

Help, the version, `list` and errors in the arguments are answered without torch, which the commands import themselves.
"""

import argparse
import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from spikewright import __version__, cli
from spikewright._util.allocator import reuse_freed_memory
from spikewright.cli._training import discard_output, say
from spikewright.cli.catalogue import check_names
from spikewright.errors import ConfigError, SpikewrightError, nearest

COMMANDS = {
    "train": "train",
    "evaluate": "evaluate",
    "compare": "compare",
    "continual": "continual",
    "reason": "reason",
    "explain": "explain",
    "certify": "certify",
    "plan": "plan",
    "plot": "plot",
    "bench": "bench",
    "list": "list_components",
}
"""The function of each command, by its name in `spikewright.cli`."""
POSITIONAL = ("recipe", "run", "kind")
SUMMED = {"overrides": ("--set", "SECTION.KEY=VALUE")}
"""Parameters that are given by repeating a flag of another name."""
SHARED = ("train", "compare", "continual", "reason")
"""Commands that share their work among the processes of torchrun."""
OF_GRAPHS = ("reason", "explain")
"""Commands whose models and data sets are other ones."""


class Parser(argparse.ArgumentParser):
    """Answers an unknown flag or command with the nearest known one."""

    def error(self, message: str) -> NoReturn:
        choices = next((a.choices for a in self._actions if a.choices and not a.option_strings), None)
        if choices and "are required" in message:
            message = f"{message} (choose from {', '.join(choices)})"
        self.exit(2, f"{self.prog}: error: {message}\nTry: {self.prog} --help\n")

    def unknown(self, flag: str) -> NoReturn:
        """Refuse a flag."""
        known = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        advice = f" {nearest(flag.partition('=')[0], known, similar=0.65)}" if flag.startswith("-") else ""
        self.error(f"unknown argument {flag}.{advice}")


class Overview(Parser):
    """Its help lists the commands, which are imported for it alone."""

    def format_help(self) -> str:
        width = max(map(len, COMMANDS))
        listed = "\n".join(f"  {name:{width}}  {_summary(_function(name))}" for name in COMMANDS)
        self.description = (
            f"Train spiking networks with interchangeable learning rules.\n\ncommands:\n{listed}\n\n"
            "`spikewright COMMAND --help` explains one."
        )
        return super().format_help()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status.

    Errors of use are one message and status 2; a claim that `certify` finds broken is status 1.
    """
    _prepare_output()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name, options = "", dict[str, Any]()
    try:
        if not arguments or arguments[0].startswith("-"):
            _overview().parse_args(arguments or ["--help"])
        name, *rest = arguments
        if name not in COMMANDS:
            _overview().error(f"there is no command '{name}'. {nearest(name, COMMANDS)}")
        command = _function(name)
        parser = _parser(name, command)
        given, unknown = parser.parse_known_args(rest)
        if unknown:
            parser.unknown(unknown[0])
        options = vars(given)
        if name not in OF_GRAPHS:
            check_names(options)
        _check_processes(name)
        reuse_freed_memory()
        answer = command(**options)
        sys.stdout.flush()
    except SpikewrightError as error:
        say(f"spikewright {name}: {type(error).__name__}: {' '.join(str(error).split())}\n")
        return 2
    except ImportError as error:
        say(f"spikewright {name}: {error}. It is part of an extra: pip install 'spikewright[cli]'\n")
        return 2
    except BrokenPipeError:  # whoever reads the output has seen enough of it
        discard_output()
        return 1
    except OSError as error:
        where = "the output" if error.filename is None else error.filename
        say(f"spikewright {name}: {where}: {error.strerror or error}\n")
        discard_output()
        return 2
    except KeyboardInterrupt as error:
        say(f"\ninterrupted{_how_to_continue(name, options, str(error))}\n")
        return 130
    return 1 if isinstance(answer, dict) and answer.get("ok") is False else 0


def _prepare_output() -> None:
    """Let text be printed on any terminal: what it cannot show becomes a question mark, and a closed one takes all."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # a damaged image is reported in one line of our own
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _check_processes(name: str) -> None:
    """Raise `ConfigError` if torchrun started several processes of a command that does not share its work."""
    world = os.environ.get("WORLD_SIZE", "1")
    if world not in ("", "1") and name not in SHARED:
        raise ConfigError(
            f"{world} processes were started (WORLD_SIZE = {world}), but `spikewright {name}` does not share its work "
            f"among processes. Start it once, without torchrun. These commands share theirs: {', '.join(SHARED)}."
        )


def _function(name: str) -> Callable[..., Any]:
    return getattr(cli, COMMANDS[name])


def _how_to_continue(name: str, options: Mapping[str, Any], folder: str) -> str:
    if name == "compare":
        return "; the same command continues it"
    if "resume" not in options:
        return ""
    run = folder or options["resume"] or options["out"]
    if run is None or not (Path(run) / "config.json").exists():
        return " before training began"
    return f"; continue with: spikewright {name} --resume {run}"


def _overview() -> Overview:
    parser = Overview(
        prog="spikewright", usage="spikewright COMMAND ...", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser


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
    """Return what converts a flag's text, and the values it may have."""
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
