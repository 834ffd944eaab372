"""Families of odd networks, each of which shows one defect, and how soon the generator finds it."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.odd.check import Verdict, check
from tests.odd.draw import build, recipe

BACK = ("OTTT+FA", "SLTT+FA", "OTTT+SignSymmetric")
FAILURES = ("broken", "crashed", "marks", "traced")


@dataclass(frozen=True)
class Defect:
    """A defect, and where to look for it.

    Attributes:
        family: The constructs of the networks.
        rules: The rules to check there.
        shows: The kind of failure by which it is found.
        steps: Length of the sequences; `None` draws it.
        networks: How many networks it is found within.
        plant: Puts it back; `None` where it has not been written.
    """

    family: tuple[str, ...]
    rules: tuple[str, ...] = ("OTTT",)
    shows: str = "broken"
    steps: int | None = None
    networks: int = 20
    plant: Callable[[pytest.MonkeyPatch], None] | None = None


DEFECTS = {
    "a padding mask by data": Defect(("padding_mask",)),
    "a padding mask behind an embedding": Defect(("embedding", "padding_mask")),
    "a gate by data": Defect(("data_gate",)),
    "division by a mean of the data": Defect(("mean_division",)),
    "a gate by spikes": Defect(("spike_gate",)),
    "an index by data": Defect(("data_index",), networks=40),
    "F.dropout": Defect(("functional_dropout",)),
    "an if on data that a probe does not see": Defect(("item_branch",), networks=40),
    "a neuron with a scan of its own": Defect(("own_scan",)),
    "two routes, one outside the layer": Defect(("two_routes",)),
    "a shared weight in the other order, second task": Defect(
        ("shared_weight_in_other_order",), ("HLOP of BPTT, task 2", "HLOP of OTTT, task 2", "GPM of OTTT, task 2")
    ),
    "layer norm at the readout": Defect(("layer_norm_at_readout",), BACK),
    "layer norm at the readout, one step": Defect(("layer_norm_at_readout",), BACK, steps=1),
    "gain at the readout": Defect(("gain_at_readout",), BACK),
    "bias at the readout": Defect(("bias_at_readout",), BACK),
    "two-layer readout": Defect(("two_layer_readout",), BACK),
    "two-layer readout, one step": Defect(("two_layer_readout",), BACK, steps=1),
    "trace_input=False, scaled integers": Defect(
        ("trained_scale_of_integers",), ("OTTT(trace_input=False)",), "traced"
    ),
    "trace_input=False, embedding": Defect(("embedding",), ("OTTT(trace_input=False)",), "traced"),
    "reference=True, scaled integers": Defect(("trained_scale_of_integers",), ("OTTT(reference)",), "traced"),
    "reference=True, embedding": Defect(("embedding",), ("OTTT(reference)",), "traced"),
    "a readout that also feeds back": Defect(("feedback_of_readout",), ("OTTT",), "traced"),
    "a current past its neurons": Defect(("skip_to_output",), ("OTTT+DFA", "OPZO"), "crashed"),
    "one time constant in a list": Defect(("tau_in_a_list",), ("OTTT",), "crashed"),
    "other random numbers with readouts of its own": Defect(("dropout",), ("SLTT+Local", "OTTT+Local")),
    "a threshold below its floor": Defect(("dsr_neuron",), ("DSR", "IDE"), "marks", networks=40),
    "readouts of its own for whole numbers": Defect(("embedding",), ("SLTT+Local",), "crashed"),
    "distillation in the second task": Defect((), ("LwF of OTTT, task 2",)),
    "penalties in the second task": Defect((), ("EWC of OTTT, task 2",)),
    "old samples in the second task": Defect((), ("Replay of OTTT, task 2",)),
}
"""Every defect that concerns what is claimed, by what it is about."""


def search(defect: Defect, seed: int = 0, networks: int | None = None) -> tuple[int, Verdict] | None:
    """Return after how many networks a defect was found, and where; `None` if it was not."""
    for number in range(networks or defect.networks):
        sample = build(recipe(seed * 100_003 + number, defect.family, defect.steps))
        for rule in defect.rules:
            verdict = check(sample, rule)
            if getattr(verdict, defect.shows):
                return number + 1, verdict
    return None
