"""Checks of a state that a run goes on from."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from spikewright._util.real_numbers import is_continuous
from spikewright._util.returned import described
from spikewright._util.text import kind_of, with_article
from spikewright.errors import InputError, NetworkError, ShapeError, SpikewrightError
from spikewright.network.raised import is_said
from spikewright.network.sites import Sites
from spikewright.network.wiring import module_name
from spikewright.neurons import Neuron
from spikewright.temporal import SiteState, State

_ELSEWHERE = (
    "It seems to be the state of another network, or of another input. Start anew with state=None, or give what "
    "net.run(x) or update.state of this network returned."
)
_OF_RUN = (
    "net.run and rules without traces leave none, so that the rule would learn as if nothing had come before. Let the "
    "same rule learn from the earlier part, and give update.state; or add zeros, to start its traces here."
)


def check_state(state: State, sites: Sites, device: torch.device) -> None:
    """Raise an error unless a value is a state whose every part belongs to a layer of the network.

    Args:
        state: What was given as a state.
        sites: Modules of the network whose forward a run replaces.
        device: Device of the input.
    """
    if not isinstance(state, Mapping):
        output = isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], Tensor)
        advice = "Of what net.run(x) returns, it is the second: output, state = net.run(x)." if output else ""
        raise ShapeError(
            f"A state is a dictionary, {{layer: {{name: tensor}}}}, but {kind_of(state)} was given. "
            f"{advice or 'Give what net.run(x) or update.state returned, or None to start anew.'}"
        )
    for site, values in state.items():
        if not isinstance(values, Mapping) or not all(isinstance(v, Tensor) for v in values.values()):
            raise ShapeError(
                f"A state is a dictionary, {{layer: {{name: tensor}}}}, but for '{site}' it holds "
                f"{described(values)}. Give what net.run(x) or update.state returned, or None to start anew."
            )
        if (name := module_name(site)) not in sites.temporal and name not in sites.synapses:
            raise NetworkError(
                f"The state has an entry for '{site}', but the network has no layer of that name that carries "
                f"anything. {_ELSEWHERE}"
            )
        for key, value in values.items():
            if value.device != device and (value.dim() or value.is_floating_point()):
                raise ShapeError(
                    f"The state of '{site}' holds {with_article(key)} on {value.device}, but x is on {device}. A run "
                    f"computes on one device. Bring them together, such as value.to('{device}') for every tensor."
                )


def check_finite(state: State) -> None:
    """Raise `InputError` if a state holds a NaN or an infinity."""
    for site, values in state.items():
        for key, value in values.items():
            if not is_continuous(value) or bool(value.detach().isfinite().all()):
                continue
            bad = (~value.detach().isfinite()).nonzero()[0].tolist()
            raise InputError(
                f"The state of '{site}' holds {value[tuple(bad)].item():g}, in '{key}' {list(value.shape)} at {bad}, "
                "where a neuron never fires again. A run with lengths leaves NaN for samples whose sequence has ended; "
                "take the rows of the others, of every tensor of the state, to go on with them. Otherwise look where "
                "it came from."
            )


@dataclass(frozen=True)
class Resumed:
    """Follows the first pass of a run that goes on from a state.

    Attributes:
        state: The state.
        sites: Modules of the network whose forward a run replaces.
        visited: Names of the calls so far that carry something.
    """

    state: State
    sites: Sites
    visited: set[str] = field(default_factory=set[str])

    @contextmanager
    def at(self, site: str, chunk: Tensor, from_rest: Callable[[], Any]) -> Iterator[None]:
        """Turn an error of a layer into a `ShapeError` that names the state, if it is the state that does not fit.

        Args:
            site: Name of the layer's call.
            chunk: Input of the layer, `[time, batch, *feature]`.
            from_rest: Does the same without the state.
        """
        try:
            yield
        except SpikewrightError:
            raise
        except Exception as error:
            given = self.state[site]
            if is_said(error) or self._would_fit(given, from_rest):
                raise
            raise ShapeError(
                f"'{site}' could not go on from the state that was given, {_shapes(given)}, with an input of a step "
                f"{list(chunk.shape[1:])}: {error}. {_ELSEWHERE}"
            ) from error

    def _would_fit(self, given: SiteState, from_rest: Callable[[], Any]) -> bool:
        """True if the layer carries on a state of such shapes and types from rest, or does not run from rest."""
        try:
            _, after = from_rest()
        except Exception:  # the same one, which is about something else
            return True
        found, own = ({k: (v.shape, _kind(v.dtype)) for k, v in s.items()} for s in (given, after or {}))
        return found == own

    def check(self, site: str, chunk: Tensor, after: SiteState) -> None:
        """Raise an error if the new state of a layer does not fit the given one.

        Args:
            site: Name of the layer's call.
            chunk: Input of the layer, `[time, batch, *feature]`.
            after: State of the layer after the chunk.
        """
        given = self.state.get(site)
        if given is not None and after is given and self._layer(site):
            return  # of a rule that does not know of it
        self.visited.add(site)
        if given is None:
            if after and self._remembers(site) and any(map(self._remembers, self.state)):
                kind = "other neurons" if self._neurons(site) else "neurons"
                advice = _OF_RUN if self._layer(site) else _ELSEWHERE
                raise NetworkError(
                    f"The state that was given has entries for {kind}, but none for '{site}', which would start at "
                    f"rest, without {', '.join(after)}, while they go on. {advice}"
                )
            return
        if after and given.keys() != after.keys():
            what = "neurons" if self._neurons(site) else "layer"
            raise NetworkError(
                f"The {what} at '{site}' carry {', '.join(after)}, but the state that was given has {_shapes(given)} "
                f"for them. {_ELSEWHERE}"
            )
        for name, value in given.items():
            if value.dim() and name in after:
                _check_alike(site, name, value, after[name], chunk)

    def left(self) -> set[str]:
        """Return the layers whose part of the state was not carried on, such as traces that another rule left.

        Raises:
            NetworkError: Neurons that were given a state have not been called.
        """
        left = self.state.keys() - self.visited
        for site in left:
            if not self._layer(site):
                raise NetworkError(
                    f"The state has an entry for '{site}', but the network makes no such call. {_ELSEWHERE}"
                )
        return left

    def _neurons(self, site: str) -> bool:
        return isinstance(self.sites.temporal.get(module_name(site)), Neuron)

    def _layer(self, site: str) -> bool:
        return module_name(site) in self.sites.synapses

    def _remembers(self, site: str) -> bool:
        """True for what holds something of earlier steps; a mask of dropout is drawn where there is none."""
        return not isinstance(self.sites.temporal.get(module_name(site)), _DropoutNd)


def _check_alike(site: str, name: str, given: Tensor, after: Tensor, chunk: Tensor) -> None:
    """Raise `ShapeError` if a tensor of a given state has another shape or type than that of the state after a chunk.

    A state of many steps may grow, and a state may go on in another precision.
    """
    found, alike = list(given.shape), after.dim() == given.dim() and after.shape[0] == given.shape[0]
    if not alike or after.shape == chunk.shape[1:] != given.shape or any(a < b for a, b in zip(after.shape, found)):
        raise ShapeError(
            f"'{site}' was given a state of another shape than it carries on: {name} {found} and not "
            f"{list(after.shape)}, where an input of a step is {list(chunk.shape[1:])}. {_ELSEWHERE}"
        )
    if _kind(given.dtype) != _kind(after.dtype):
        raise ShapeError(
            f"'{site}' was given a state of another type than it carries on: {name} of {given.dtype} and not "
            f"{after.dtype}. {_ELSEWHERE}"
        )


def _kind(dtype: torch.dtype) -> str:
    return "complex" if dtype.is_complex else "real" if dtype.is_floating_point else str(dtype)


def _shapes(values: SiteState) -> str:
    return ", ".join(f"{name} {list(value.shape)}" for name, value in values.items())
