"""The proof of whole networks in float64."""

import torch
from torch import Tensor, nn

from spikewright.errors import ConversionError
from spikewright.interop.building import build, frames, in_first_form, tried
from spikewright.interop.copies import clone, copied
from spikewright.interop.frames import Step
from spikewright.interop.free_run import Seen, compare_runs, run_here
from spikewright.interop.reading import Found, alike, find_neurons
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
    try:
        wide = _Wide(model, found, x.double(), step, trace)
    except Exception as error:  # whatever a forward raises that was never run in float64
        why = _first_line(error)
        if double:
            raise ConversionError(
                f"convert(double=True) asks for a run in float64, but {type(model).__name__} cannot be run in it, "
                f"while it runs in {str(x.dtype).removeprefix('torch.')}: {why}. {_ADVICE}, or leave double out."
            ) from error
        return [f"whole network not proven in float64, in which the model cannot be run: {why} ({_ADVICE})"]
    differing = compare_runs(wide.trace, wide.seen, wide.output, wide.mappings, "float64")
    return [f"whole network in float64: {sum(differing.values())} spikes differ"]


_ADVICE = "Make tensors in the dtype of x, such as x.new_zeros(...) for torch.zeros(...)"


class _Wide:
    """The runs of both models in float64.

    Raises:
        Exception: One of them cannot be run, or does not compute in float64.
    """

    def __init__(self, model: nn.Module, found: list[Found], x: Tensor, step: Step | None, trace: Trace) -> None:
        twin = model_at_rest(model, found).double()
        twins = alike(find_neurons(twin, x), found)
        self.mappings = {each.name: each.read(clone(each.module), torch.float64) for each in twins}
        self.trace = with_recurrence(Reference(twin, twins, step, self.mappings).run(x), self.mappings)
        for name, current in self.trace.inputs.items():
            if current.dtype != torch.float64:
                raise ConversionError(f"its forward gives '{name}' {str(current.dtype).removeprefix('torch.')} there")
        names = {id(mapping.neuron): name for name, mapping in self.mappings.items()}

        def run(axis: int | None) -> tuple[Seen, Tensor | None]:
            module = build(twin, twins, self.mappings, self.trace, step, axis).double().eval()
            return run_here(tried(module, x, names), names, x)

        try:
            self.seen, self.output = in_first_form(frames(found, trace, step), run)
        except Exception as error:
            raise ConversionError(f"the converted model: {error}") from error


def _first_line(error: Exception) -> str:
    """Return what went wrong, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line.removeprefix("as one step: ") for line in lines[1:2]), lines[0] if lines else "")
    return (told if isinstance(error, ConversionError) else f"{type(error).__name__}: {told}")[:200].rstrip(".")


def model_at_rest(model: nn.Module, found: list[Found]) -> nn.Module:
    """Return a copy of a model with parameters of its own, and states of its neurons at rest."""
    twins: dict[int, nn.Module] = {}
    for each in found:
        twins[id(each.module)] = clone(each.module)
        each.library.rest(twins[id(each.module)])
    return copied(model, twins, buffers=False, parameters=False)
