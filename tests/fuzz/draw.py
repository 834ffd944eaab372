"""Draw values for an argument from its signature and docstring: fitting, at an edge, and wrong in many ways."""

import inspect
import random
import re
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin

from spikewright.train.arguments import hints

KINDS = ("edge", "outside", "type", "nonfinite", "huge", "text")
"""Kinds of values that need not fit."""
TEXTS = [
    "",
    " ",
    "none",
    "auto",
    "ä€😀",
    "a'b",
    'a"b',
    "x" * 5000,
    "../..",
    "1",
    "nan",
    "name",
    "a\nb",
    "[1",
    "\t",
    "%s{}",
]
OTHERS: list[Any] = [True, 1, 0.5, "word", [], [1], [[1]], {}, {"name": "none"}, {"a": 1}, ["a"], [True], [0.5, "P"]]


def words_of(builder: Callable[..., Any], key: str) -> list[str]:
    """The strings in quotes of what a docstring says of an argument."""
    about = inspect.getdoc(inspect.unwrap(builder)) or ""
    match = re.search(rf"^ +{key}: (.+?)(?=\n +\w+: |\n\n|\Z)", about, re.MULTILINE | re.DOTALL)
    return re.findall(r'"([\w-]+)"', match[1]) if match else []


def fitting(draw: random.Random, hint: Any, default: Any, words: list[str]) -> Any:
    """A value of a type, near the default."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        rest = [a for a in arguments if a is not type(None)]
        if len(rest) < len(arguments) and draw.random() < 0.2:
            return None
        return fitting(draw, draw.choice(rest), default, words)
    if origin is Literal:
        return draw.choice(arguments)
    if hint is bool or isinstance(default, bool):
        return draw.random() < 0.5
    if hint is int or (hint is None and isinstance(default, int)):
        near = default if isinstance(default, int) and 0 < abs(default) < 8 else 2
        return max(1, near + draw.randint(-1, 1))
    if hint is float or isinstance(default, float):
        near = default if isinstance(default, int | float) and default else 0.5
        return near * draw.choice([0.5, 0.9, 1.0] if 0.4 < near <= 1 else [0.5, 0.9, 1.0, 1.1, 2.0])
    if origin is tuple or isinstance(default, tuple):
        if isinstance(default, tuple) and default and draw.random() < 0.5:
            return list(default)
        parts = [a for a in arguments if a is not Ellipsis] or [int]
        number = draw.randint(1, 3) if Ellipsis in arguments else len(parts)
        return [fitting(draw, parts[i % len(parts)], None, words) for i in range(number)]
    if words:
        return draw.choice(words)
    if hint is str:
        return default if isinstance(default, str) else "word"
    return draw.choice([2, 0.5, [1, 2], "word"])


def unfitting(draw: random.Random, kind: str, value: Any) -> Any:
    """A value of a kind in `KINDS` in place of one that fits."""
    number: Any = {
        "edge": [0, 1, 0.0, 1.0, 1e-30, 1e-8, 0.999999, -0.0],
        "outside": [-1, -2, -0.5, 1.5, -1e-9, 100, 1000, -(2**31)],
        "type": OTHERS,
        "nonfinite": [float("nan"), float("inf"), -float("inf")],
        "huge": [1e30, 1e300, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 10**400, 10**5],
        "text": TEXTS,
    }[kind]
    drawn = draw.choice(number)
    if isinstance(value, list) and kind not in ("type", "text"):
        if kind == "edge" and draw.random() < 0.3:
            return []
        changed: list[Any] = list(typing.cast("list[Any]", value)) or [1]
        changed[draw.randrange(len(changed))] = drawn
        return changed
    if isinstance(value, int) and not isinstance(value, bool) and isinstance(drawn, float) and draw.random() < 0.5:
        with_sign = drawn == drawn and abs(drawn) < 1e20
        return int(drawn) if with_sign else drawn
    return drawn


def value(
    draw: random.Random, builder: Callable[..., Any], key: str, default: Any, kind: str, words: list[str] | None = None
) -> Any:
    """A value of a kind for an argument of a constructor; kind "fits" is one of its type."""
    hint = hints(builder).get(key)
    base = fitting(draw, hint, None if default is inspect.Parameter.empty else default, words or words_of(builder, key))
    return base if kind == "fits" else unfitting(draw, kind, base)


def toml(value: Any) -> str:
    """A plain value as `--set` reads it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, typing.cast("list[Any]", value))) + "]"
    if isinstance(value, dict):
        table = typing.cast("dict[str, Any]", value)
        return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in table.items()) + "}"
    if isinstance(value, str):
        plain = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
        return f'"{plain}"'
    return repr(value)
