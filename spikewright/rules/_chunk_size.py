"""How many steps run together: a number, a memory budget, or a function of the length."""

import math
from typing import TYPE_CHECKING

from spikewright._util.ranges import check_count
from spikewright._util.text import size_in_bytes
from spikewright.errors import ConfigError
from spikewright.network.wiring import Wiring

if TYPE_CHECKING:
    from spikewright.rules._base import Rule

Chunk = int | str | None
"""Steps that run together; `None` is the whole sequence, "root" the square root of its length, "auto" as many as fit a
memory budget, and a size such as "256MiB" names the budget."""


def check_chunk(caller: str, chunk: Chunk) -> None:
    """Raise `ConfigError` if `chunk` is neither a size of at least 1, `None`, nor a known text."""
    if chunk is None or chunk in ("auto", "root"):
        return
    if not isinstance(chunk, str):
        check_count(caller, "chunk", chunk, "a chunk has at least one step")
    elif not size_in_bytes(chunk):
        raise ConfigError(
            f"{caller}(chunk={chunk!r}): give a number of steps, None for all of them, 'auto', 'root', or a "
            "memory budget above 0 such as '256MiB'."
        )


def is_budget(chunk: Chunk) -> bool:
    """Return True if a chunk is as long as fits a memory budget."""
    return isinstance(chunk, str) and chunk != "root"


def steps_at_once(rule: "Rule", wiring: Wiring, steps: int) -> int | None:
    """Return the number of steps that a rule runs together, from its `chunk`; `None` if a memory budget decides.

    It is 1 if the rule treats layers differently and one of the layers gets its rows in an order that only a single
    step shows.

    Args:
        rule: The rule.
        wiring: Wiring of the network.
        steps: Length of the sequence.  At least 1.
    """
    if wiring.disordered and rule.traits.by_layer:
        return 1
    if rule.traits.whole_sequence or rule.chunk is None:
        return steps
    if rule.chunk == "root":
        return math.isqrt(steps - 1) + 1
    return min(steps, rule.chunk) if not isinstance(rule.chunk, str) else None
