"""The proof of the whole network at parameters that hide nothing: spikes, and the gradients of input and weights.

A weight that starts at 0, a gate that starts at 1, or a state that is detached every few steps changes no spike of the
user's model.  So a copy of it, with every weight moved a little, runs in its own library and here, and errors go back
through both.
"""

import math
from collections.abc import Callable
from collections.abc import Mapping as ByName
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikewright.errors import ConversionError
from spikewright.interop.building import build, frames, in_first_form, tried
from spikewright.interop.copies import clone
from spikewright.interop.doubles import model_at_rest
from spikewright.interop.frames import Step
from spikewright.interop.free_run import Seen, compare_runs, outputs_of, tensors_of
from spikewright.interop.mapping import Mapping
from spikewright.interop.reading import Found, alike, find_neurons
from spikewright.interop.reference import Reference, Trace, with_recurrence

SAMPLES = 8
"""Largest number of samples that errors go back for."""
MOVED = 0.1
"""How far parameters are moved, relative to their root mean square, or absolutely where that is 0."""
ALLOWED = {torch.float32: 1e-3, torch.float64: 1e-7}
"""Largest difference of a gradient that is rounding, relative to the largest entry."""
COARSE = 0.02
"""Largest difference that may be rounding in half precision, such as autocast within the forward: it is told."""
FAINT = 0.01
"""Share of the largest gradient of all below which one becomes rounding, such as that of a bias before a norm."""
VANISHED = 1e-3
"""Largest gradient below which all of them are rounding: slopes far from the threshold, where some formulas give 0."""
TRIES = 2
"""Number of draws in which a gradient has to differ: slopes with edges differ where rounding falls beside them."""


@dataclass(frozen=True)
class _Difference:
    name: str
    share: float


def whole_gradients(model: nn.Module, found: list[Found], x: Tensor, step: Step | None, trace: Trace) -> list[str]:
    """Compare spikes and gradients of a copy of a model with moved parameters, and return a remark about it.

    Args:
        model: The model.
        found: Its neurons.
        x: Input `[time, batch, *feature]`.
        step: The user's function for one step, if there is one.
        trace: Its run on `x`.

    Raises:
        ConversionError: They differ, and not for rounding.
    """
    few = x[:, : SAMPLES - (len(x) == SAMPLES)]
    apart: list[_Difference] = []
    for seed in range(TRIES):
        worst = _worst(_moved(model, found, seed), found, few, step, trace)
        if worst is None:
            return ["gradients of the whole network are not compared: rounding changes a spike of every sample"]
        if worst.share <= ALLOWED[x.dtype]:
            return ["spikes and gradients of the whole network agree with its weights moved, too"]
        apart.append(worst)
    worst = min(apart, key=lambda one: one.share)
    if worst.share <= COARSE:
        return [
            f"with its weights moved, spikes of the whole network agree, and the gradient of {worst.name} up to "
            f"{worst.share:.2g} of its largest entry: the forward computes in a lower precision, or a part is other"
        ]
    raise ConversionError(
        f"convert: with weights moved by a tenth, spikes agree, but the gradient of {worst.name} differs by "
        f"{worst.share:.2g} of its largest entry. So the forward of the model uses gradients in a way that a run here "
        "does not: it detaches something between steps, or computes some steps without them. Give step=lambda model, "
        "x: ..., a function of the model and the input of one step that does not."
    )


def _moved(model: nn.Module, found: list[Found], seed: int) -> nn.Module:
    """Return a copy with other weights; constants of neurons stay, which may have a range."""
    twin = model_at_rest(model, found)
    own = {id(p) for each in found for p in twin.get_submodule(each.name).parameters()}
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in twin.parameters():
            if id(parameter) not in own and parameter.is_floating_point():
                size = float(parameter.double().square().mean().sqrt()) if parameter.numel() else 0.0
                noise = torch.randn(parameter.shape, generator=source, dtype=torch.float64)
                parameter.add_((MOVED * (size or 1.0) * noise).to(parameter))
    return twin


def _worst(twin: nn.Module, found: list[Found], x: Tensor, step: Step | None, trace: Trace) -> _Difference | None:
    """Return the gradient that differs most; `None` if rounding changes spikes of every sample."""
    twins = alike(find_neurons(twin, x), found)
    mappings = {each.name: each.read(clone(each.module, share=True), x.dtype) for each in twins}
    given, here = x.clone().requires_grad_(), x.clone().requires_grad_()
    reference = Reference(twin, twins, step, mappings)
    for name, recorder in reference.recorders.items():
        complete = mappings[name].complete
        if complete is not None:
            complete(recorder.inner)
    theirs = with_recurrence(reference.run(given, graph=True), mappings)
    seen, output = _run_here(twin, twins, mappings, theirs, here, step, trace)
    compare_runs(theirs, seen, output, mappings, "moved-weights")
    same = torch.stack([_alike(seen.spikes[n], theirs.spikes[n]) for n in theirs.spikes]).all(0)
    if not bool(same.any()):
        return None
    own = {id(p) for each in twins for p in each.module.parameters(recurse=False)}
    shared = {n: p for n, p in twin.named_parameters() if p.requires_grad and id(p) not in own}
    names = ["the input", *(f"'{name}'" for name in shared)]
    sent = outputs_of(theirs)
    expected = _gradients(_weighted(sent, same), [given, *shared.values()])
    least = max(FAINT * max(_size(each) for each in expected), VANISHED)
    forms = _forms(sent, tensors_of(output))
    found_worst: list[_Difference] = []
    for form in forms:  # of silent outputs, only gradients show which it is
        computed = _gradients(_weighted(form, same), [here, *shared.values()])
        apart = [_Difference(n, _share(a, b, least)) for n, a, b in zip(names, expected, computed)]
        found_worst.append(max(apart, key=lambda each: each.share))
    return min(found_worst, key=lambda each: each.share)


def _run_here(
    twin: nn.Module,
    twins: list[Found],
    mappings: ByName[str, Mapping],
    theirs: Trace,
    x: Tensor,
    step: Step | None,
    trace: Trace,
) -> tuple[Seen, object]:
    names = {id(mapping.neuron): name for name, mapping in mappings.items()}

    def run(axis: int | None) -> tuple[Seen, object]:
        net = tried(build(twin, twins, mappings, theirs, step, axis).eval(), x.detach(), names)
        seen = Seen(names, net, len(x))
        with torch.enable_grad():
            output, _ = net.run(x.clone(), observers=[seen])  # which the forward may change in place
        return seen.whole(), output

    return in_first_form(frames(twins, trace, step), run)


def _alike(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return of which samples all spikes are the same, bool `[batch]`; potentials alone may differ by rounding."""
    close = torch.isclose(ours.to(theirs.dtype), theirs, rtol=1e-4, atol=1e-5)
    return close.transpose(0, 1).flatten(1).all(1)


def _forms(theirs: list[Tensor], ours: list[Tensor]) -> list[list[Tensor]]:
    """Return outputs of a run in the forms that theirs may have: of every step, or their mean, sum or last."""
    if all(one.shape == each.shape for one, each in zip(theirs, ours)):
        return [ours]
    found: list[list[Tensor]] = []
    for form in FORMS:
        made = [each if each.shape == one.shape else form(each) for one, each in zip(theirs, ours)]
        if all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(theirs, made)):
            found.append(made)
    return found or [ours]


FORMS: tuple[Callable[[Tensor], Tensor], ...] = (lambda y: y.mean(0), lambda y: y.sum(0), lambda y: y[-1])
"""What a model may return for a sequence of outputs."""


def _weighted(outputs: list[Tensor], same: Tensor) -> Tensor:
    """Return the sum of outputs with random weights, of the samples in which all spikes are the same."""
    total = torch.zeros(())
    for y in outputs:
        weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(y)
        axis = next((i for i in (1, 0) if y.dim() > i and y.shape[i] == len(same)), None)
        if axis is not None:
            weights = weights * same.view(*[1] * axis, -1, *[1] * (y.dim() - axis - 1))
        total = total.to(y) + (weights * y).sum()
    return total


def _gradients(value: Tensor, of: list[Tensor]) -> list[Tensor]:
    """Return gradients, zeros where nothing depends on a tensor."""
    if not value.requires_grad:
        return [torch.zeros_like(one) for one in of]
    found = torch.autograd.grad(value, of, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(one) if grad is None else grad for one, grad in zip(of, found)]


def _share(theirs: Tensor, ours: Tensor, least: float) -> float:
    """Return the largest difference relative to the largest entry; where theirs is no number, nothing is said."""
    real = theirs.isfinite()
    apart = (theirs - ours)[real].abs()
    if not apart.numel() or not float(apart.max()):
        return 0.0
    return float(apart.max()) / max(_size(theirs), least) if bool(ours[real].isfinite().all()) else math.inf


def _size(gradient: Tensor) -> float:
    real = gradient[gradient.isfinite()]
    return float(real.abs().max()) if real.numel() else 0.0
