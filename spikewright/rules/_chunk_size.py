"""How many steps run together: a number, a memory budget, or a function of the length."""

import math
from typing import TYPE_CHECKING

from torch import Tensor

from spikewright._util.ranges import check_count
from spikewright._util.share import current_share
from spikewright._util.text import size_in_bytes
from spikewright.errors import ConfigError
from spikewright.network.wiring import Wiring

if TYPE_CHECKING:
    from spikewright.rules._base import Rule

Chunk = int | str | None
"""Steps that run together; `None` is the whole sequence, "root" the square root of its length, "auto" as many as fit a
memory budget, and a size such as "256MiB" names the budget."""
AUTO = 1 << 30
"""Budget of "auto" in bytes: more steps at once are faster, and most machines have this much to spare."""


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


def steps_at_once(rule: "Rule", wiring: Wiring, x: Tensor) -> int:
    """Return the number of steps that a rule runs together, from its `chunk`.

    It is 1 if the rule treats layers differently and one of the layers gets its rows in an order that only a single
    step shows.

    Args:
        rule: The rule.
        wiring: Wiring of the network.
        x: Input, `[time, batch, *feature]`.
    """
    if wiring.disordered and rule.traits.by_layer:
        return 1
    chunk = None if rule.traits.whole_sequence else rule.chunk
    if chunk == "root":
        return math.isqrt(len(x) - 1) + 1
    if isinstance(chunk, str):
        share = current_share()  # all processes run the same chunks, of which each costs operations over all of them
        samples = x.shape[1] if share is None else share.largest
        step = wiring.activations * samples * max(x.element_size(), 4)
        fitting = max(1, (size_in_bytes(chunk) or AUTO) // step)
        return -(-len(x) // -(-len(x) // fitting))  # chunks of about one size
    return min(len(x), chunk or len(x))
