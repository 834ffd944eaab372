"""What a rule that learns from rates cannot work with, checked before the first step."""

from collections.abc import Iterable

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from spikewright.errors import IncompatibleRule
from spikewright.layers.batch_norm import JointBatchNorm1d, JointBatchNorm2d, PerStepBatchNorm1d, PerStepBatchNorm2d
from spikewright.layers.dropout import StepDropout
from spikewright.layers.feedback import Feedback
from spikewright.network.sites import Sites
from spikewright.network.wiring import NORM, Curve, Wiring
from spikewright.neurons import Neuron
from spikewright.rules.rates.norms import NormName
from spikewright.temporal import is_static


def check_neurons(rule: str, wiring: Wiring) -> None:
    """Raise `IncompatibleRule` if some neurons have no rate map."""
    for site, neuron in wiring.neurons.items():
        dynamics = neuron.dynamics
        if dynamics.rate_map is None and neuron.reset == "zero":
            raise IncompatibleRule(
                f"{rule} learns from rates, but '{site}' has a hard reset, which forgets what is left of the "
                "potential: its rate is no clipped linear function of its mean current. Use reset='subtract'."
            )
        if dynamics.rate_map is None:
            raise IncompatibleRule(
                f"{rule} learns from rates, but '{site}' is {type(neuron).__name__}, with dynamics of its own and no "
                "rate map for them. Declare dynamics with a rate_map, or use a rule that differentiates steps."
            )


def clips_rate(neuron: Neuron) -> bool:
    """Return True if the declared rate map is the inherited one, a linear function clipped at a spike per step."""
    return (
        neuron.most_spikes == 1
        and neuron.dynamics.rate_map == neuron.transfer
        and type(neuron).transfer is Neuron.transfer
    )


def check_curves(rule: str, curves: Iterable[Curve], sites: Sites) -> None:
    """Raise `IncompatibleRule` if an operation between neurons, or to the output, is not linear.

    Args:
        rule: Name of the rule.
        curves: Operations that are not linear; batch norm is treated by `batch_norm` of the rule.
        sites: Layers of the network.
    """
    for curve in curves:
        if curve.bend.op == NORM:
            continue
        name, kind = curve.bend.module, type(sites.module.get_submodule(curve.bend.module)).__name__
        where = f"in '{name}' ({kind})" if name else f"in the forward of {kind}"
        source = f"'{curve.source}'" if curve.source else "the input"
        target = f"'{curve.target}'" if curve.target else "the output"
        raise IncompatibleRule(
            f"{rule} learns from rates, but {where}, between {source} and {target}, there is {curve.bend.op}, which is "
            "not linear or has factors that depend on data, so that its value at a mean is not the mean of its values "
            "at the steps. Use average pooling or batch norm, or a rule that differentiates steps."
        )


def check_parts(rule: str, batch_norm: NormName, sites: Sites) -> None:
    """Raise `IncompatibleRule` if a layer has no meaning at rates."""
    for name, module in sites.temporal.items():
        if isinstance(module, _BatchNorm):
            _check_norm(rule, batch_norm, name, module, sites)
        elif isinstance(module, StepDropout):
            raise IncompatibleRule(
                f"{rule} learns from rates, but '{name}' draws a fresh mask at every step, so there is no single mask "
                "for the mean. Use nn.Dropout, whose mask is drawn once per sequence."
            )
        elif not isinstance(module, Neuron | Feedback | _DropoutNd):
            raise IncompatibleRule(
                f"{rule} learns from rates, but '{name}' is {type(module).__name__}, a layer with a memory of its own "
                "whose effect on rates is not known. Use a rule that differentiates steps, such as BPTT or OTTT."
            )


def check_feedback(rule: str, wiring: Wiring, sites: Sites) -> None:
    """Raise `IncompatibleRule` if the weights of the mean of a feedback signal are not determined."""
    leak = _common_leak(wiring.neurons.values())
    for name, source in sites.sources.items():
        if not isinstance(source, Neuron) and leak is None:
            raise IncompatibleRule(
                f"{rule} takes the mean of what '{name}' sends back, weighted by a leak, but its source is "
                f"{type(source).__name__}, and the neurons of the network have different leaks. Take the feedback from "
                "a neuron, and put the layers after it into the feedback's transform."
            )


def leak_at_input(rule: str, wiring: Wiring, x: torch.Tensor) -> float:
    """Return the decay that weighs the steps of the network's input: that of the neurons it reaches.

    Args:
        rule: Name of the rule.
        wiring: Wiring of the network.
        x: Input, `[time, batch, *feature]`.

    Raises:
        IncompatibleRule: These have different decays, and the input changes from step to step.
    """
    reached = [s.receivers.values() for s in wiring.synapses.values() if s.reads_input]
    neurons = [neuron for receivers in reached for neuron in receivers] or list(wiring.neurons.values())
    leak = _common_leak(neurons)
    if leak is not None:
        return leak
    if is_static(x) or len(x) == 1:
        return 1.0
    raise IncompatibleRule(
        f"{rule} takes the mean of the input, weighted by the leak of the neurons it reaches, but these have different "
        "leaks. Give them one leak, or use a static input (x.expand(steps, *x.shape))."
    )


def _common_leak(neurons: Iterable[Neuron]) -> float | None:
    """Return the decay that some neurons have in common; `None` if they have several."""
    decays = (neuron.dynamics.decay for neuron in neurons)
    leaks = (torch.as_tensor(1.0 if decay is None else decay).detach().double() for decay in decays)
    numbers = {leak.item() if leak.numel() == 1 else None for leak in leaks}
    return numbers.pop() if len(numbers) == 1 else None


def _check_norm(rule: str, batch_norm: NormName, name: str, module: _BatchNorm, sites: Sites) -> None:
    kind = type(module).__name__
    if isinstance(module, PerStepBatchNorm1d | PerStepBatchNorm2d):
        raise IncompatibleRule(
            f"{rule} learns from rates, but '{name}' is {kind}, whose statistics differ from step to step, so that it "
            f"is no map of rates. Use {kind.removeprefix('PerStep')} and say what it means with "
            f"{rule}(batch_norm='rate' | 'running' | 'joint')."
        )
    if isinstance(module, JointBatchNorm1d | JointBatchNorm2d) and batch_norm != "joint":
        raise IncompatibleRule(
            f"'{name}' is {kind}, with statistics over all steps and samples, but {rule} was told "
            f"batch_norm='{batch_norm}'. Use {rule}(batch_norm='joint'), or {kind.removeprefix('Joint')}."
        )
    if not module.track_running_stats or module.running_mean is None:
        raise IncompatibleRule(
            f"{rule} needs the running statistics of '{name}' ({kind}), which has none (track_running_stats=False)."
        )
    if batch_norm == "joint" and module.training and sites.recurrent:
        raise IncompatibleRule(
            f"{rule}(batch_norm='joint') needs the currents of all steps at '{name}' before the first spike, but the "
            "network has feedback. Use batch_norm='rate' or 'running'."
        )
