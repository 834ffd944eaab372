"""Lazy layers, which get their sizes from the first input."""

import torch
from torch import Tensor
from torch.nn.modules.lazy import LazyModuleMixin

from spikewright.network.probing.hooks_of_others import HOOKS, of_torch
from spikewright.network.probing.start import undisturbed
from spikewright.network.run import Run
from spikewright.network.run_options import RunOptions
from spikewright.network.sites import Sites


def give_sizes(sites: Sites, x: Tensor) -> None:
    """Run the network once so that lazy layers get their sizes; modes stay, and hooks are not called.

    Args:
        sites: Modules of the network whose forward a run replaces.
        x: Input, `[time, batch, *feature]`.
    """
    lazy = [m for m in sites.module.modules() if isinstance(m, LazyModuleMixin)]
    if not lazy:
        return
    modes = [m.training for m in lazy]
    # In place, because a layer removes the hook that sets its size from this dictionary.
    places = [m.__dict__[kind] for m in lazy for kind in HOOKS if m.__dict__.get(kind)]
    hooks = [{key: hook for key, hook in place.items() if not of_torch(hook)} for place in places]
    for place, others in zip(places, hooks):
        for key in others:
            del place[key]
    try:
        with undisturbed(sites.module), torch.no_grad():
            Run(sites, options=RunOptions(count=False, writes_input=True)).advance(x)
    finally:
        for place, others in zip(places, hooks):
            place.update(others)
        for m, training in zip(lazy, modes):
            m.training = training
