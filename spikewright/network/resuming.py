"""Checks of a state that a run goes on from."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from spikewright._util.returned import described
from spikewright._util.text import kind_of
from spikewright.errors import NetworkError, ShapeError, SpikewrightError
from spikewright.network.sites import Sites
from spikewright.network.wiring import module_name
from spikewright.neurons import Neuron
from spikewright.temporal import SiteState, State

_ELSEWHERE = (
    "It seems to be the state of another network, or of another input. Start anew with state=None, or give what "
    "net.run(x) or update.state of this network returned."
)


def check_state(state: State, sites: Sites) -> None:
    """Raise an error unless a value is a state whose every part belongs to a layer of the network."""
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


@dataclass(frozen=True)
class Resumed:
    """Follows the first pass of a run that goes on from a state.

    Attributes:
        state: The state.
        sites: Modules of the network whose forward a run replaces.
    """

    state: State
    sites: Sites

    @contextmanager
    def at(self, site: str, chunk: Tensor) -> Iterator[None]:
        """Turn an error of a layer with a given state into a `ShapeError` that names the state."""
        try:
            yield
        except SpikewrightError:
            raise
        except Exception as error:
            if not (given := self.state.get(site)):
                raise
            raise ShapeError(
                f"'{site}' could not go on from the state that was given, {_shapes(given)}, with an input of a step "
                f"{list(chunk.shape[1:])}: {error}. {_ELSEWHERE}"
            ) from error

    def check(self, site: str, chunk: Tensor, after: SiteState) -> None:
        """Raise an error if the new state of a layer does not fit the given one.

        Args:
            site: Name of the layer's call.
            chunk: Input of the layer, `[time, batch, *feature]`.
            after: State of the layer after the chunk.
        """
        given, alike = self.state.get(site), chunk.shape[1:]
        neurons = self._neurons(site)
        if given is None:
            if after and neurons and any(map(self._neurons, self.state)):
                raise NetworkError(
                    f"The state that was given has entries for other neurons, but none for '{site}', which would "
                    f"start at rest while they go on. {_ELSEWHERE}"
                )
            return
        if neurons and given and after and not given.keys() & after.keys():
            raise NetworkError(
                f"The neurons at '{site}' carry {', '.join(after)}, but the state that was given has "
                f"{_shapes(given)} for them. {_ELSEWHERE}"
            )
        for name, value in given.items():
            if value.dim() and name in after and after[name].shape == alike != value.shape:
                raise ShapeError(
                    f"'{site}' was given a state of another shape than it carries on: {_shapes(given)}, where an input "
                    f"of a step is {list(alike)}. {_ELSEWHERE}"
                )

    def _neurons(self, site: str) -> bool:
        return isinstance(self.sites.temporal.get(module_name(site)), Neuron)


def _shapes(values: SiteState) -> str:
    return ", ".join(f"{name} {list(value.shape)}" for name, value in values.items())
