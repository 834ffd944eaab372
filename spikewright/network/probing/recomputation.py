"""Forwards that run again in the backward pass (`torch.utils.checkpoint`, reversible blocks), measured in the probe.

The second call meets the plain modules: neurons without a state, layers without the hooks of a rule.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import disable_saved_tensors_hooks
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from spikewright._util.trial import untouched
from spikewright.errors import NetworkError, SpikewrightError
from spikewright.network.holding import Turn, exclusively
from spikewright.network.patched_forwards import Replacements, run_patched
from spikewright.network.run import Run
from spikewright.network.run_options import RunOptions
from spikewright.network.sites import Sites
from spikewright.network.wiring import Wiring


class _BothWays(Run):
    """A forward and a backward pass with the same replacements, which notes what the backward pass calls."""

    def __init__(self, sites: Sites) -> None:
        super().__init__(sites, options=RunOptions(count=False, writes_input=True))
        self.again: set[str] = set()
        self._is_backward = False

    def advance(self, x: Tensor) -> Tensor:
        sites = self._sites
        replacements, body = partial(self._replaced, False), partial(self._both_ways, x)
        return run_patched(sites.module, sites.identities, replacements, self._interceptions, body, everywhere=True)

    def _both_ways(self, x: Tensor) -> Tensor:
        output = self._steps(x)
        if output.requires_grad:
            self._is_backward = True
            try:
                output.sum().backward()
            except SpikewrightError:
                raise
            except Exception:  # the network cannot be differentiated, which is not checked here
                pass
        return output.detach()

    def _replaced(self, static: bool) -> Replacements:
        return _around_all(self._sites, super()._replaced(static), self._note)

    def _note(
        self, name: str, forward: Callable[..., Any], replacement: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        if not self._is_backward:
            return replacement(*args, **kwargs)
        self.again.add(name)
        return forward(*args, **kwargs)


class OtherParameters:
    """Replaces the parameters of a module by copies, so that no hooks see gradients."""

    module = None

    def __init__(self, module: nn.Module) -> None:
        own = [m.__dict__["_parameters"] for m in module.modules()]
        self._before = [(of, name, p) for of in own for name, p in of.items() if type(p) is nn.Parameter]

    def begin(self) -> None:
        """Put them in place."""
        others = {id(p): nn.Parameter(p.detach(), p.requires_grad) for _, _, p in self._before}
        for of, name, p in self._before:
            of[name] = others[id(p)]

    def end(self) -> None:
        """Put the parameters back."""
        for of, name, p in self._before:
            of[name] = p


def _holding_something(sites: Sites) -> frozenset[str]:
    """Return the names of modules with a state, statistics or a mask, whose second call differs from the first."""
    parametrizations = sites.parametrizations.items()
    return frozenset(
        [name for name, m in sites.temporal.items() if m.training or not isinstance(m, _BatchNorm | _DropoutNd)]
        + [name for name, m in parametrizations if m.training and any(True for _ in m.buffers())]
    )


def called_again(sites: Sites, x: Tensor) -> frozenset[str]:
    """Run forward and backward once, and return the names of the modules that the backward pass calls.

    Args:
        sites: Modules of the network whose forward a run replaces.
        x: Input of a probe, `[time, batch, *feature]`.

    Raises:
        NetworkError: One of them holds a state, statistics or a mask.
    """
    holding, run = _holding_something(sites), _BothWays(sites)

    def body(turn: Turn) -> None:
        turn.patches.append(parameters := OtherParameters(sites.module))
        parameters.begin()
        run.advance(x.detach().clone().requires_grad_(x.dtype.is_floating_point))

    with untouched(sites.module), torch.inference_mode(False), torch.enable_grad():
        try:
            exclusively(sites.module, sites.identities, body)
        except SpikewrightError:
            if not run.again & holding:
                raise
    wrong = sorted(run.again & holding)
    if not wrong:
        return frozenset(run.again)
    shown = ", ".join(f"'{name}' ({type(sites.module.get_submodule(name)).__name__})" for name in wrong)
    raise NetworkError(
        f"The backward pass calls {shown} a second time: the network recomputes parts of its forward, as "
        "torch.utils.checkpoint does. In a run they hold the state, the statistics or the mask of a sequence, of which "
        "a second call knows nothing. Leave them out of what is recomputed. To save memory, let the library "
        "recompute: rules.BPTT(checkpoint=True), or any rule with a smaller chunk."
    )


def with_recomputed(wiring: Wiring, sites: Sites, again: frozenset[str]) -> Wiring:
    """Return the wiring of a network whose backward pass calls some modules again.

    Parts that were computed without a graph are not in the wiring: their parameters may reach all neurons.

    Args:
        wiring: Wiring that the graph shows.
        sites: Modules of the network whose forward a run replaces.
        again: Names of the modules that are called again.
    """
    if not again:
        return wiring
    hidden = {name for name, neurons in wiring.receivers.items() if not neurons}
    everywhere = dict.fromkeys(hidden, frozenset(wiring.neurons))
    return replace(
        wiring,
        recomputed=again & sites.synapses.keys(),
        receivers={**wiring.receivers, **everywhere},
        carried=wiring.carried | hidden,
        unvouched=wiring.unvouched | hidden,
    )


def _around_all(sites: Sites, replacements: Replacements, note: Callable[..., Any]) -> Replacements:
    """Have `note` called around the replacement, or the forward, of every module."""
    names = {id(m): name for name, m in sites.module.named_modules()}
    by_module = {id(m): replacement for m, replacement in replacements}
    modules = [*(m for m, _ in replacements), *(m for m in sites.module.modules() if id(m) not in by_module)]
    return [(m, partial(note, names[id(m)], m.forward, by_module.get(id(m), m.forward))) for m in modules]


def may_run_again() -> bool:
    """True if the running module may run again in the backward pass, in a pass that began with gradients on.

    Then other code has turned gradients off, or hooks take the tensors that are saved.
    """
    if not torch.is_grad_enabled():
        return True
    try:
        with disable_saved_tensors_hooks("hooks are in use"):
            return False
    except RuntimeError:
        return True
