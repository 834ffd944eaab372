"""The proof of whole networks in float64."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from spikewright.errors import ConversionError
from spikewright.interop.building import build, frames, tried
from spikewright.interop.copies import clone
from spikewright.interop.frames import Step
from spikewright.interop.free_run import compare_runs, run_here
from spikewright.interop.reading import Found, find_neurons
from spikewright.interop.reference import Reference, Trace, with_recurrence


def double_run(
    model: nn.Module, found: list[Found], x: Tensor, step: Step | None, trace: Trace, double: bool | None
) -> list[str]:
    """Compare the free runs of the model and of the converted one in float64, and return a remark about it.

    Args:
        model: The model.
        found: Its neurons.
        x: Input `[time, batch, *feature]`.
        step: The user's function for one step, if there is one.
        trace: Its run in the dtype of `x`.
        double: True raises where the library cannot run in float64; False does nothing.

    Raises:
        ConversionError: They differ, and not for rounding; or the library cannot, and it has to.
    """
    if double is False or x.dtype == torch.float64:
        return []
    library = found[0].library
    if not library.double:
        if double:
            raise ConversionError(
                f"convert(double=True) asks for a run in float64, but networks of {library.name} cannot be run in it: "
                "their neurons send float32 whatever they are given. Leave double out; neurons are compared in float64 "
                "one by one."
            )
        return [f"whole network not proven in float64: neurons of {library.name} send float32 (neuron by neuron it is)"]
    twin = deepcopy(model_at_rest(model, found)).double()
    twins = find_neurons(twin, x.double())
    wide = Reference(twin, twins, step).run(x.double())
    mappings = {each.name: each.read(clone(each.module), torch.float64) for each in twins}
    wide = with_recurrence(wide, mappings)
    last: Exception | None = None
    for axis in frames(found, trace, step):
        try:
            module = build(twin, twins, mappings, wide, step, axis).double().eval()
            names = {id(mapping.neuron): name for name, mapping in mappings.items()}
            seen, output = run_here(tried(module, x.double(), names), names, x.double())
        except Exception as error:  # the next form
            last = error
            continue
        differing = compare_runs(wide, seen, output, mappings, "float64")
        return [f"whole network in float64: {sum(differing.values())} spikes differ"]
    raise ConversionError(f"convert could not run the converted model in float64: {last}. Leave double out.")


def model_at_rest(model: nn.Module, found: list[Found]) -> nn.Module:
    """Return a copy of a model, attribute by attribute, with states of its neurons at rest."""
    from spikewright.interop.copies import copied

    twins: dict[int, nn.Module] = {}
    for each in found:
        twins[id(each.module)] = clone(each.module, share=True)
        each.library.rest(twins[id(each.module)])
    return copied(model, twins, buffers=False)
