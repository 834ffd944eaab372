"""The check before the first step: can this rule learn from this batch in this network."""

from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikewright._util.arguments import check_tensor
from spikewright._util.lengths import Lengths
from spikewright._util.real_numbers import is_continuous
from spikewright._util.share import current_share
from spikewright._util.text import with_article
from spikewright.errors import ConfigError, IncompatibleRule, InputError, ShapeError
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.network.holding import exclusively
from spikewright.network.resuming import check_finite, check_state
from spikewright.network.sites import Sites
from spikewright.network.wiring import Wiring
from spikewright.rules._chunk_size import steps_at_once
from spikewright.rules._firing_rates import check_penalty
from spikewright.temporal import State, is_static

if TYPE_CHECKING:
    from spikewright.rules._base import Rule


def check(
    rule: "Rule",
    net: Network,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    state: State | None = None,
    lengths: Lengths | None = None,
) -> Wiring:
    """Return the wiring of a network, or raise an error if `rule` cannot learn from `x` and `y` by `loss` there.

    Args:
        rule: The learning rule.
        net: The network.
        loss: The loss.
        x: Input, `[time, batch, *feature]`.
        y: Target, `[batch, ...]`.
        state: State in which the run starts.  Default: None, the state of rest.
        lengths: Lengths of the sequences of a padded batch.  Default: None, all steps belong to them.

    Raises:
        ShapeError: Layouts do not fit, or `x` or `y` is no tensor.
        InputError: `x` holds a NaN or an infinity, a label is out of range, or everything is frozen.
        IncompatibleRule: The rule cannot work with this loss or this network.
        ConfigError: The network or the loss was not wrapped.

    Warns:
        UserWarning: Once per network and parameter, if the rule does not see a parameter.
    """
    check_network(type(rule).__name__, net)
    check_loss(type(rule).__name__, loss)
    check_timed(rule, loss)
    check_tensor("x", x, "[time, batch, *feature]")
    check_tensor("y", y, "[batch, ...], with the target of every sample")
    _check_share(x)
    if y.device != x.device:
        raise ShapeError(f"y is on {y.device}, but x is on {x.device}. Bring both to the device of the network.")
    wiring = net.wiring(x)
    sites = wiring.sites
    steps, batch = x.shape[:2]
    if state is not None:
        check_state(state, sites, x.device)
        check_finite(state)
    _check_moves(rule, net, x, state)
    _check_finite(x)
    loss.check(y, steps, batch, wiring.output[0] if wiring.output else 1)
    criterion, name = repr(loss).partition("(")[2], type(rule).__name__
    if rule.traits.loss == "steps" and not loss.per_step:
        raise IncompatibleRule(
            f"{name} learns at every step, but the loss is {loss}, which reads {loss.reads}, known only "
            f"after all {steps} steps. Use PerStep({criterion}, LastStep, or a rule that waits for the end of the "
            "sequence (BPTT)."
        )
    if rule.traits.loss == "rate" and not loss.of_mean:
        raise IncompatibleRule(
            f"{name} learns from rates, the means over a sequence, but the loss is {loss}, which needs {loss.reads}. "
            f"Use OnRate({criterion}. A class of your own that reads the mean output alone declares of_mean = True."
        )
    if loss.penalty is not None:
        if not rule.traits.penalty:
            raise IncompatibleRule(
                f"{name} was given {loss}, but it does not declare (traits.penalty) that it differentiates a penalty "
                "on firing rates, which would be left out. Use a rule that does (BPTT, SLTT, OTTT, DSR), or leave the "
                "penalty out."
            )
        check_penalty(name, loss.penalty, wiring)
    if rule.traits.loss == "rate" and x.requires_grad and not x.is_leaf:
        raise IncompatibleRule(
            f"{name} learns from rates and has no gradient for its input, but x is computed with a graph, which would "
            "be left without one. Put what computes x into the network, give x.detach(), or use a rule that goes back "
            "to the input (BPTT)."
        )
    at_once = (
        1 if sites.recurrent else steps_at_once(rule, wiring, steps) or steps
    )  # a budget cuts only what may be cut
    if at_once < steps:
        _check_cut(name, sites, at_once, steps)
    rule.check(wiring, sites)
    if lengths is not None:
        _check_ragged(rule, sites)
    if rule.traits.by_layer:
        net.tell(
            wiring.unseen,
            f"{name} does not see {{}}: used by a linear operation outside of a recognised layer (a module of one's "
            "own that calls F.linear, or a matrix product), and given the ordinary gradient of each step there. Use "
            "nn.Linear or nn.Conv*; or, if that is meant, Network(module, known=[...]) with what is named here.",
        )
    return wiring


def check_network(owner: str, net: object) -> None:
    """Raise `ConfigError` unless a network is a `Network`.

    Args:
        owner: Name of the rule or function that takes it.
        net: The network.
    """
    if isinstance(net, Network):
        return
    given = f"the class {net.__name__}" if isinstance(net, type) else "None" if net is None else type(net).__name__
    inner = getattr(net, "module", None)
    if isinstance(inner, Network):
        raise ConfigError(
            f"{owner} was given {given} as its network, around a Network, whose run it does not know. Unwrap it: give "
            "net.module; with several processes, average the gradients after every update (torch.distributed)."
        )
    wrapped = "net.module" if isinstance(inner, nn.Module) else "module"
    raise ConfigError(
        f"{owner} was given {given} as its network, which cannot run over time. Wrap the module: "
        f"spikewright.Network({wrapped})."
    )


def check_loss(owner: str, loss: object) -> None:
    """Raise `ConfigError` unless a loss is a `Loss`.

    Args:
        owner: Name of the rule or function that takes it.
        loss: The loss.
    """
    if isinstance(loss, Loss):
        return
    name = getattr(loss, "__name__", type(loss).__name__)
    if isinstance(loss, type) and issubclass(loss, Loss):
        raise ConfigError(
            f"{owner} was given the class {name} as its loss. Give an instance: losses.{name}(nn.CrossEntropyLoss())."
        )
    made = f"nn.{name}()" if name in dir(nn) else f"{name}()"
    shown = (
        made
        if isinstance(loss, type | nn.Module)
        else name
        if name.isidentifier() and callable(loss)
        else "nn.CrossEntropyLoss()"
    )
    raise ConfigError(
        f"{owner} was given {name} as its loss, which does not define how steps are combined. Wrap the criterion: "
        f"losses.PerStep({shown}), the mean of the loss at each step, or losses.OnRate({shown}), the loss of the mean "
        "output."
    )


def _check_ragged(rule: "Rule", sites: Sites) -> None:
    """Raise `IncompatibleRule` if steps after the end of a sequence would change gradients of a rule."""
    if not rule.traits.ragged:
        raise IncompatibleRule(
            f"{rule} was given lengths of sequences, but it does not declare (traits.ragged) that steps after the end "
            "of a sequence teach it nothing: noise, traces of inputs or stored samples would take padding for data. "
            "Use a rule that does (BPTT, SLTT, OTTT, DSR, IDE, SPIDE), or batches of sequences of one length."
        )
    if rule.traits.loss == "rate" and not rule.traits.whole_sequence:
        return  # statistics are those of means over the own steps
    for name, module in sites.temporal.items():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            kind = with_article(type(module).__name__)
            raise IncompatibleRule(
                f"{type(rule).__name__} was given lengths of sequences, but '{name}' is {kind} that "
                "normalises by the statistics of a batch, in which padding counts as data. Put it in evaluation mode, "
                "use a norm of each sample (nn.GroupNorm), or batches of sequences of one length."
            )


def _check_cut(name: str, sites: Sites, at_once: int, steps: int) -> None:
    """Raise `IncompatibleRule` if a layer needs all steps at once, and the rule runs fewer."""
    whole = exclusively(sites.module, sites.identities, lambda turn: sites.whole_sequence)  # a probe changes modes
    for layer, module in whole.items():
        raise IncompatibleRule(
            f"{name} runs {at_once} of {steps} steps at a time here, but '{layer}' is "
            f"{with_article(type(module).__name__)}, whose statistics need all steps at once. Use the per-step form, "
            "or BPTT(chunk=None) in a network without feedback."
        )


def _check_moves(rule: "Rule", net: Network, x: Tensor, state: State | None) -> None:
    """Raise `InputError` if neither a parameter nor the input nor the state requires a gradient."""
    given = (value for values in (state or {}).values() for value in values.values())
    if not any(tensor.requires_grad for tensor in chain((x,), net.parameters(), rule.parameters(), given)):
        raise InputError(
            f"{type(rule).__name__} fills the gradients of parameters, but no parameter of the network requires one, "
            "so that nothing would be learned. Unfreeze some (parameter.requires_grad_()), or run the network with "
            "net.run(x)."
        )


def check_timed(rule: "Rule", loss: Loss) -> None:
    """Raise `IncompatibleRule` if targets have a time axis, and a rule picks samples out of them."""
    if loss.batch_axis and not rule.takes_timed:
        name = type(rule).__name__
        raise IncompatibleRule(
            f"{name} was given {loss}, whose targets are [time, batch, ...], but it keeps or picks samples along the "
            "first axis of targets, and would pair inputs with targets of others. Give targets [batch, ...] "
            "(timed=False), or use another rule."
        )


def _check_share(x: Tensor) -> None:
    share = current_share()
    if share is not None and x.dim() > 1 and x.shape[1] != share.size:
        raise ShapeError(
            f"x of [time, batch, ...] = {list(x.shape)} was given as {share}, the samples {share.start} to "
            f"{share.stop - 1} of {share.total}, which are {share.size}. Give each process its own part of the batch: "
            "x[:, share.start : share.stop]."
        )


def _check_finite(x: Tensor) -> None:
    once = x.detach()[:1] if is_static(x) else x.detach()
    if not is_continuous(x) or bool(torch.isfinite(once.sum())):
        return
    where = (~torch.isfinite(x)).nonzero()
    if not len(where):  # finite values whose sum is not
        return
    found = "1 value that is not finite," if len(where) == 1 else f"{len(where)} values that are not finite, the first"
    raise InputError(
        f"x of shape {list(x.shape)} holds {found} at {where[0].tolist()}. "
        "A neuron that has received one never fires again, so the loss would hide it. Clean or clamp the data."
    )
