"""Whether a rule can learn from a batch in a network, said once, before the first step."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spikewright.errors import ConfigError, IncompatibleRule, InputError
from spikewright.holding import exclusively
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.rules._chunk import steps_at_once
from spikewright.temporal import is_static

if TYPE_CHECKING:
    from spikewright.rules._base import Rule


def check(rule: "Rule", net: Network, loss: Loss, x: Tensor, y: Tensor) -> None:
    """Raise unless `rule` can learn from `x` and `y` by `loss` in a network; says what to do instead.

    Args:
        rule: The learning rule.
        net: The network.
        loss: The loss.
        x: Input, `[time, batch, *feature]`.
        y: Target.

    Raises:
        ShapeError: Layouts do not fit.
        InputError: `x` holds a NaN or an infinity, or a label is out of range.
        IncompatibleRule: The rule cannot work with this loss or this network.
        ConfigError: The network or the loss was not wrapped.

    Warns:
        UserWarning: Once per network and parameter: the rule does not see a parameter.
    """
    if not isinstance(net, Network):
        raise ConfigError(
            f"{type(rule).__name__} was given {type(net).__name__} as its network, which has no time. Wrap the module: "
            "spikewright.Network(module)."
        )
    if not isinstance(loss, Loss):
        raise ConfigError(
            f"{type(rule).__name__} was given {type(loss).__name__} as its loss, which does not say how it meets time. "
            "Wrap the criterion: losses.PerStep(criterion), or losses.OnRate(criterion) for the mean output."
        )
    wiring = net.wiring(x)
    steps, batch = x.shape[:2]
    _check_finite(x)
    loss.check(y, steps, batch, wiring.output[0] if wiring.output else 1)
    criterion, name = repr(loss).partition("(")[2], type(rule).__name__
    if rule.traits.loss == "steps" and not loss.per_step:
        raise IncompatibleRule(
            f"{name} learns at every step, but the loss is {loss}, which reads the output averaged over all {steps} "
            f"steps. Use PerStep({criterion}, or a rule that waits for the end of the sequence (BPTT)."
        )
    if rule.traits.loss == "rate" and loss.per_step:
        raise IncompatibleRule(
            f"{name} learns from rates, the means over a sequence, but the loss is {loss}, which needs the output of "
            f"each step. Use OnRate({criterion}."
        )
    at_once = 1 if net.sites.recurrent else steps_at_once(rule, wiring, x)
    sites = net.sites
    whole = exclusively(sites.module, sites.identities, lambda turn: sites.whole_sequence)  # a probe changes modes
    for layer, module in whole.items():
        if at_once < steps:
            raise IncompatibleRule(
                f"{name} runs {at_once} of {steps} steps at a time here, but '{layer}' is a "
                f"{type(module).__name__}, whose statistics need all steps at once. Use the per-step form, or "
                "BPTT(chunk=None) in a network without feedback."
            )
    rule.check(wiring, sites)
    if rule.traits.by_layer:
        net.tell(
            wiring.unseen,
            f"{name} does not see {{}}, because a linear operation uses it outside of a recognised layer (a module of "
            "one's own that calls F.linear, or a matrix product). It gets the ordinary gradient of its step. Use "
            "nn.Linear or nn.Conv*; or, if that is meant, Network(module, known=[...]) with its name.",
        )


def _check_finite(x: Tensor) -> None:
    once = x.detach()[:1] if is_static(x) else x.detach()
    if not x.dtype.is_floating_point or bool(torch.isfinite(once.sum())):
        return
    where = (~torch.isfinite(x)).nonzero()
    if not len(where):  # finite values whose sum is not
        return
    raise InputError(
        f"x of shape {list(x.shape)} holds {len(where)} values that are not finite, the first at {where[0].tolist()}. "
        "A membrane that has seen one never fires again, so the loss would hide it. Clean or clamp the data."
    )
