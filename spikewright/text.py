"""Numbers and tables for people."""

from collections.abc import Sequence


def readable(size: float) -> str:
    """Return a number of bytes with its unit.

    >>> readable(2048)
    '2 KiB'
    """
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as left-aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows)
