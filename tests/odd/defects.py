"""Families of odd networks, each of which shows one defect, and how soon the generator finds it."""

from dataclasses import dataclass

from spikewright.rules import EWC, LwF, Replay
from tests.odd import learning_plants, plants
from tests.odd.check import Verdict, check
from tests.odd.draw import build, recipe

BACK = ("OTTT+FA", "SLTT+FA", "OTTT+SignSymmetric")
FAILURES = ("broken", "crashed", "marks", "traced")


@dataclass(frozen=True)
class Defect:
    """A defect, and where to look for it.

    Attributes:
        family: The constructs of the networks.
        plant: Puts it back into today's code.
        rules: The rules to check there.
        shows: The kind of failure by which it is found.
        steps: Length of the sequences; `None` draws it.
        networks: How many networks it is found within.
    """

    family: tuple[str, ...]
    plant: plants.Plant
    rules: tuple[str, ...] = ("OTTT",)
    shows: str = "broken"
    steps: int | None = None
    networks: int = 20


DEFECTS = {
    "a padding mask by data": Defect(("padding_mask",), plants.product_with_data),
    "a padding mask behind an embedding": Defect(("embedding", "padding_mask"), plants.product_with_data),
    "a gate by data": Defect(("data_gate",), plants.product_with_data),
    "division by a mean of the data": Defect(("mean_division",), plants.quotient_by_data),
    "a gate by spikes": Defect(("spike_gate",), plants.product_with_spikes),
    "an index by data": Defect(("data_index",), plants.index_by_data, networks=40),
    "F.dropout": Defect(
        ("functional_dropout",), plants.together(plants.product_with_random_numbers, plants.nobody_draws)
    ),
    "an if on data that a probe does not see": Defect(("item_branch",), plants.values_that_leave, networks=40),
    "a neuron with a scan of its own": Defect(("own_scan",), plants.any_scan),
    "two routes, one outside the layer": Defect(("two_routes",), plants.weights_stay_inside),
    "a shared weight in the other order, second task": Defect(
        ("shared_weight_in_other_order",),
        plants.first_name_of_a_weight,
        ("HLOP of BPTT, task 2", "HLOP of OTTT, task 2", "GPM of OTTT, task 2"),
    ),
    "layer norm at the readout": Defect(("layer_norm_at_readout",), plants.nothing_behind_other_weights, BACK),
    "layer norm at the readout, one step": Defect(
        ("layer_norm_at_readout",), plants.nothing_behind_other_weights, BACK, steps=1
    ),
    "gain at the readout": Defect(("gain_at_readout",), plants.nothing_behind_other_weights, BACK),
    "bias at the readout": Defect(("bias_at_readout",), plants.nothing_behind_other_weights, BACK),
    "two-layer readout": Defect(("two_layer_readout",), plants.nothing_behind_layers, BACK),
    "two-layer readout, one step": Defect(("two_layer_readout",), plants.nothing_behind_layers, BACK, steps=1),
    "trace_input=False, scaled integers": Defect(
        ("trained_scale_of_integers",), plants.integers_have_no_graph, ("OTTT(trace_input=False)",), "traced"
    ),
    "trace_input=False, embedding": Defect(
        ("embedding",), plants.integers_have_no_graph, ("OTTT(trace_input=False)",), "traced"
    ),
    "reference=True, scaled integers": Defect(
        ("trained_scale_of_integers",), plants.integers_have_no_graph, ("OTTT(reference)",), "traced"
    ),
    "reference=True, embedding": Defect(("embedding",), plants.integers_have_no_graph, ("OTTT(reference)",), "traced"),
    "a readout that also feeds back": Defect(("feedback_of_readout",), plants.feedback_feeds, ("OTTT",), "traced"),
    "a current past its neurons": Defect(
        ("skip_to_output",), learning_plants.backward_one_by_one, ("OTTT+DFA", "OPZO"), "crashed"
    ),
    "a threshold below its floor": Defect(
        ("dsr_neuron",), learning_plants.weights_not_put_back, ("DSR", "IDE"), "marks", networks=40
    ),
    "power iteration in every chunk": Defect(
        ("restricted_weight",), learning_plants.power_iteration_at_every_use, ("BPTT(chunk=2)", "OTTT")
    ),
    "backward passes of others": Defect(("own_backward",), plants.every_backward_is_known, ("OTTT", "BPTT")),
    "hooks on gradients": Defect(("gradient_hook",), plants.no_hooks_on_gradients, ("OTTT",)),
    "drawn weights": Defect(("drawn_weight",), plants.together(plants.weights_are_given, plants.nobody_draws)),
    "counted rows": Defect(("counted_rows",), plants.as_many_rows_in_their_places, ("BPTT", "OTTT")),
    "conjugates of complex layers": Defect(("complex_layer",), learning_plants.without_conjugates),
    "conjugates of complex readouts": Defect(("complex_readout",), learning_plants.without_conjugates, BACK),
    "distillation in the second task": Defect((), plants.as_inside(LwF), ("LwF of OTTT, task 2",)),
    "penalties in the second task": Defect((), plants.as_inside(EWC), ("EWC of OTTT, task 2",)),
    "old samples in the second task": Defect((), plants.as_inside(Replay), ("Replay of OTTT, task 2",)),
}
"""Every defect that concerns what is claimed, by what it is about."""


def search(
    defect: Defect, seed: int = 0, networks: int | None = None, anything: bool = False
) -> tuple[int, Verdict] | None:
    """Return after how many networks a defect was found, and where; `None` if it was not.

    Args:
        defect: The defect.
        seed: The first seed of the networks that are drawn.
        networks: How many to look at; `None` is as many as the defect says.
        anything: Draw the constructs too, instead of those of its family.
    """
    for number in range(networks or defect.networks):
        sample = build(recipe(seed * 100_003 + number, None if anything else defect.family, defect.steps))
        for rule in defect.rules:
            verdict = check(sample, rule)
            if getattr(verdict, defect.shows):
                return number + 1, verdict
    return None
