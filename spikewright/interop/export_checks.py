"""Checks that a network can be exported, before it is traced."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from spikewright._util.arguments import check_tensor
from spikewright._util.text import with_article
from spikewright.errors import ConfigError, NetworkError
from spikewright.layers.dropout import StepDropout
from spikewright.layers.feedback import Feedback
from spikewright.network import Network
from spikewright.neurons import Neuron


def check_exportable(net: Network, x: Tensor, owner: str) -> None:
    """Raise an error unless a network computes the same at every call.

    Args:
        net: The network.
        x: Input, `[time, batch, *feature]`.
        owner: Name of the function that exports.
    """
    if not isinstance(net, Network):
        raise ConfigError(
            f"{owner} was given {type(net).__name__}, but a run is what is exported. Wrap the module: "
            "spikewright.Network(module)."
        )
    if not isinstance(x, Tensor):
        raise ConfigError(
            f"{owner} was given x of type {type(x).__name__}, but programs take one tensor. Put several into one in "
            "front of the network, and take them apart inside of it."
        )
    check_tensor("x", x, "[time, batch, *feature]")
    for name, module in net.module.named_modules():
        kind = with_article(type(module).__name__)
        if isinstance(module, Neuron) and module.noise:
            raise NetworkError(
                f"{owner} was given a network with noise: '{name}' is {kind} with noise={module.noise}, and a program "
                "draws no random numbers that a run could be compared with. Set its noise to 0."
            )
        if not module.training:
            continue
        if isinstance(module, _DropoutNd | StepDropout) and module.p:
            raise NetworkError(
                f"{owner} was given a network that trains: '{name}' is {kind}, which draws a mask. Call net.eval()."
            )
        if isinstance(module, _BatchNorm):
            raise NetworkError(
                f"{owner} was given a network that trains: '{name}' is {kind}, which normalises by the statistics of a "
                "batch. Call net.eval()."
            )
    if random := net.wiring(x).random:
        raise NetworkError(
            f"{owner} was given a network that draws random numbers, in the forward of {_listed(random)} ('' is the "
            "whole), so that no program computes the same. Take them out, or draw them outside and give them as input."
        )
    if net.wiring(x).outputs is not None:
        raise NetworkError(
            f"{owner} was given a network with several outputs, but programs return one tensor beside the states. "
            "Return one: torch.cat of them, flattened behind the first axis."
        )


def check_rest(net: Network, x: Tensor, rest: Mapping[str, Tensor]) -> None:
    """Raise `NetworkError` unless a step from states of zeros is that from rest.

    Args:
        net: The network.
        x: Input, `[time, batch, *feature]`.
        rest: States of zeros by name; none if a whole run is exported.
    """
    if not rest:
        return
    from_rest, state = net.run(x[:1])
    zeros = {site: {name: torch.zeros_like(value) for name, value in own.items()} for site, own in state.items()}
    from_zeros, other = net.run(x[:1], zeros)
    same = torch.equal(from_rest, from_zeros) and all(
        torch.equal(value, other[site][name]) for site, own in state.items() for name, value in own.items()
    )
    if same:
        return
    first = [name for name, module in net.module.named_modules() if isinstance(module, Feedback)]
    raise NetworkError(
        "One step was to be exported, but the first step of a sequence is not that from states of zeros"
        + (f": {_listed(first)} sends nothing back at first, not even a bias. Use first='bias', or a transform without "
           "a bias" if first else ". Give the modules with a scan of their own a state that starts with zeros")
        + "; or export the whole run, steps='unrolled'."
    )  # fmt: skip


def _listed(names: object) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))  # type: ignore[call-overload]
