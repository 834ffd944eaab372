"""Format sizes, tables and names."""

import re
from collections.abc import Sequence


def readable(size: float) -> str:
    """Return a number of bytes with a unit.

    >>> readable(2048)
    '2 KiB'
    """
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"


def size_in_bytes(text: str) -> int | None:
    """Return the number of bytes of a text such as `readable` returns, or in powers of 1000; `None` if it is no size.

    >>> size_in_bytes("1.5 KiB"), size_in_bytes("64MiB"), size_in_bytes("8GB"), size_in_bytes("much")
    (1536, 67108864, 8000000000, None)
    """
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+) *([KMG]?)(I?)B", text.strip().upper(), re.ASCII)
    if match is None or (match[3] and not match[2]):
        return None
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " KMG".index(match[2] or " "))


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as left-aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "step"), counted(3, "step")
    ('1 step', '3 steps')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def kind_of(value: object) -> str:
    """Return the type of a value with an article, and with its module unless it is built in.

    >>> kind_of([1]), kind_of(1), kind_of(None)
    ('a list', 'an int', 'None')
    """
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return "None" if value is None else with_article(name)


def with_article(name: str) -> str:
    """Return a name with its article.

    >>> with_article("AvgPool2d"), with_article("BatchNorm2d")
    ('an AvgPool2d', 'a BatchNorm2d')
    """
    return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"


def as_key(name: str) -> str:
    """Return the name of a module in a form that is allowed for a buffer."""
    return name.replace(".", "/")


def as_entry(name: str) -> str:
    """Return the name of a module in a form for an `nn.ModuleDict`, which no attribute of it has."""
    return as_key(name) + "/"


def from_key(key: str) -> str:
    """Return the name of the module from a key of `as_key` or `as_entry`.

    >>> from_key(as_entry("features.0.values"))
    'features.0.values'
    """
    return key.removesuffix("/").replace("/", ".")


def is_reference(name: object) -> bool:
    """Return whether a name stands for something in a file, rather than for a registered component.

    >>> is_reference("nets/small.py:Small"), is_reference("mlp")
    (True, False)
    """
    return isinstance(name, str) and name.rpartition(":")[0].endswith(".py")
