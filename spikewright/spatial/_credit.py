"""One sequence under a way of spatial credit: perturb, cut, and bring every layer its error."""

import importlib
import math
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.autograd import forward_ad

from spikewright.errors import IncompatibleRule, NetworkError
from spikewright.part import Part
from spikewright.run import Run
from spikewright.spatial._base import Lesson, Reach, Route, Spatial, Target, one_block
from spikewright.spatial._noise import Noise, Position
from spikewright.spatial.local import Local
from spikewright.synapse import Arrival
from spikewright.temporal import SiteState
from spikewright.wiring import Wiring

OUTPUT, PENULTIMATE = "output", "penultimate"
"""Names among targets: the network's output, and what arrives at its readout."""


def reached(wiring: Wiring, local: Local | None, route: Route) -> dict[str, Reach]:
    """Return which neurons every target teaches directly, by the name of the target.

    Args:
        wiring: Of the network.
        local: Local learning, which may have a target of its own.
        route: The target at the end of the network.

    Raises:
        IncompatibleRule: There is no such target.
    """
    taught = frozenset(site for site in wiring.neurons if wiring.is_sender(site))
    outputs = math.prod(wiring.output)
    components = outputs
    if route == PENULTIMATE:
        readouts = [synapse for synapse in wiring.synapses.values() if not synapse.receivers]
        if len(readouts) != 1 or len(readouts[0].weight) != 2 or not readouts[0].senders:
            raise IncompatibleRule(
                f"Errors were to take the route over what arrives at the readout, but the network has {len(readouts)} "
                "readouts, or one that is not a linear layer behind neurons. Use route='output'."
            )
        components = readouts[0].weight[1]
        taught -= readouts[0].senders.keys()
    if local is None or local.intermediate is None:
        return {route: Reach(components, taught)}
    sites, middle = list(wiring.shapes), local.middle(wiring)
    below = frozenset(sites[: sites.index(middle)]) & taught
    return {
        route: Reach(components, taught - below if local.below == "only" else taught),
        middle: Reach(outputs, below),
    }


class Credit(Part):
    """Takes part in a run for a way of spatial credit.

    Where neurons are perturbed behind, the noise travels beside the spikes, as the tangent of a dual number: what lies
    between the neurons and the next weights acts on both, and there the two are told apart: the sum is transmitted,
    and the weight gradient is taken at spikes without noise.

    Args:
        spatial: The way.
        local: Local learning beside it.
        word: What the rule says at synapses.
        wiring: Of the network.
        recurrent: The network has feedback, which sends what was emitted without noise.
    """

    def __init__(self, spatial: Spatial, local: Local | None, word: Part, wiring: Wiring, recurrent: bool) -> None:
        self._spatial, self._local, self._word = spatial, local, word
        self._wiring = wiring
        self._count = 0 if spatial.noise is None else spatial.noise.begin()
        self._targets = reached(wiring, local, spatial.route)
        self._cut = frozenset().union(*(r.sites for r in self._targets.values())) if spatial.cuts else frozenset[str]()
        self._recurrent = recurrent
        if spatial.noise is not None and spatial.noise.position == "post":
            _import_formulas()
        self._learning = False
        self._start = 0
        self._last: dict[str, tuple[int, Tensor]] = {}
        self._spikes: dict[str, list[Tensor]] = {}
        self._noise: dict[str, list[Tensor]] = {}
        self._penultimate: list[Tensor] = []

    def learn(
        self,
        run: Run,
        x: Tensor,
        start: int,
        value_of: Callable[[Tensor], Tensor],
        terms_of: Callable[[Tensor], Tensor],
        backward: Callable[[Tensor], None],
    ) -> tuple[Tensor, Tensor]:
        """Run a chunk and accumulate its gradients.

        Args:
            run: That this takes part in.
            x: The chunk, `[time, batch, *feature]`.
            start: Index of its first step.
            value_of: What the chunk adds to the loss, given outputs.
            terms_of: The same for every step and sample, `[time, batch]`.
            backward: Differentiates a scalar.

        Returns:
            What the chunk adds to the loss, and the output.
        """
        self._learning, self._start = True, start
        try:
            with torch.enable_grad(), self._dual():
                output = run.advance(x)
        finally:
            self._learning = False
        spikes = {site: _joined(parts) for site, parts in self._spikes.items()}
        with torch.enable_grad():
            leaf = output.detach().requires_grad_()
            unit = output.new_zeros((), dtype=torch.promote_types(output.dtype, torch.float32)).requires_grad_()
            value = value_of(leaf)
            own, read = self._read(spikes)
            backward(value + unit + sum(value_of(vector) for vector in read.values()))
        scale = _grad(unit)  # of the loss, where precision asks for one
        local = {site: self._local.weight * _grad(s) for site, s in own.items()} if self._local else {}
        whole = {site: s for site, s in spikes.items() if site not in self._cut}
        _backward([(output, _grad(leaf)), *((s, local[site]) for site, s in whole.items())])
        if self._cut:
            vectors = {OUTPUT: [leaf], **{name: [v] for name, v in read.items()}, PENULTIMATE: self._penultimate}
            lesson = Lesson(
                targets={
                    name: Target(
                        vector=_full(_joined([v.detach() for v in vectors[name]])).flatten(2),
                        error=_full(_joined([_grad(v) for v in vectors[name]])).flatten(2),
                        reaches=reach.sites,
                    )
                    for name, reach in self._targets.items()
                },
                activity={site: s.detach() for site, s in spikes.items() if site in self._cut},
                noise={site: _joined(parts) for site, parts in self._noise.items()},
                scale=scale,
                terms=partial(terms_of, leaf.detach()),
            )
            with torch.autocast(x.device.type, enabled=False):
                arrived = self._spatial.signals(lesson)
            _backward([(spikes[site], a + local[site] if site in local else a) for site, a in arrived.items()])
        self._spikes, self._noise, self._penultimate = {}, {}, []
        return value.detach(), output.detach()

    def synapse(self, site: str, x: Tensor, weight: Tensor, carried: SiteState) -> tuple[Arrival, SiteState]:
        clean, noisy = _told_apart(x)
        if noisy is None and self._perturbs("post") and self._expects_noise(site):
            raise NetworkError(
                f"The noise that perturbs the neurons in front of '{site}' did not arrive there: something between "
                "them detaches its input, or is compiled. Use position='pre', where the noise enters at the neurons."
            )
        arrival, carried = self._word.synapse(site, clean, weight, carried)
        if noisy is not None:
            arrival = replace(arrival, value=noisy, factor=clean if arrival.factor is None else arrival.factor)
        if self._learning and PENULTIMATE in self._targets and not self._wiring.synapses[site].receivers:
            arrived = arrival.value if arrival.value.requires_grad else arrival.value.requires_grad_()
            arrived.retain_grad()
            self._penultimate.append(arrived)
        back = self._spatial.back(self._wiring.synapses[site], weight)
        return arrival if back is None else replace(arrival, back=back), carried

    def current(self, site: str, current: Tensor) -> Tensor:
        clean, noisy = _told_apart(current)
        arrived = clean if noisy is None else noisy
        if self._perturbs("pre") and site in self._cut:
            arrived = arrived + self._draw(site, arrived)
        return arrived

    def emitted(self, site: str, spikes: Tensor) -> Tensor:
        if not self._learning:
            return spikes
        rewritten = site in self._wiring.rewritten
        if site in self._cut or self._local is not None:
            self._spikes.setdefault(site, []).append(spikes.clone() if rewritten else spikes)
        if site not in self._cut:
            return spikes
        if self._perturbs("post"):
            noise = self._draw(site, spikes)
            return forward_ad.make_dual(spikes.detach(), noise.clone() if rewritten else noise)
        return spikes.detach()

    def output(self, output: Tensor) -> Tensor:
        clean, noisy = _told_apart(output)
        return clean if noisy is None else noisy

    def _perturbs(self, position: Position) -> bool:
        noise = self._spatial.noise
        return self._learning and noise is not None and noise.position == position

    def _expects_noise(self, site: str) -> bool:
        """Whether neurons that are perturbed send to a synapse, at this step."""
        return not self._cut.isdisjoint(self._wiring.synapses[site].senders) and not self._recurrent

    def _dual(self) -> AbstractContextManager[object]:
        return forward_ad.dual_level() if self._perturbs("post") else nullcontext()

    def _draw(self, site: str, like: Tensor) -> Tensor:
        """Return the noise of some steps at a site, and keep it for the lesson."""
        noise, kept = self._spatial.noise, self._noise.setdefault(site, [])
        assert noise is not None
        first = self._start + sum(len(part) for part in kept)
        drawn = one_block([self._step(noise, site, x.detach(), first + k) for k, x in enumerate(like)])
        kept.append(drawn)
        return drawn.to(like.dtype)

    def _step(self, noise: Noise, site: str, like: Tensor, step: int) -> Tensor:
        before, drawn = self._last.get(site, (-1, like))
        opposite = noise.antithetic and step % 2 == 1 and before == step - 1
        z = -drawn if opposite else noise.draw(like, site, self._count, step)
        self._last[site] = step, z
        return z

    def _read(self, spikes: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the spikes of every layer that has a readout of its own, as leaves, and what it makes of them."""
        if self._local is None:
            return {}, {}
        own = {site: s.detach().requires_grad_() for site, s in spikes.items()}
        read = {site: self._local.read(site, s) for site, s in own.items()}
        for vector in read.values():
            vector.retain_grad()
        return own, read


def _import_formulas() -> None:
    """Have torch load its formulas for dual numbers without the warnings that it has about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("torch._decomp.decompositions_for_jvp")


def _told_apart(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return `x` without its noise, and with it if there is any."""
    clean, noise = forward_ad.unpack_dual(x)
    return (x, None) if noise is None else (clean, clean + noise)


def _joined(parts: list[Tensor]) -> Tensor:
    """Return chunks as one along time."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _full(x: Tensor) -> Tensor:
    """Return `x` without graph, in 32 bits or more."""
    return x.detach().float() if x.dtype.itemsize < 4 else x.detach()


def _backward(roots: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Accumulate the gradients at parameters, given those at some tensors."""
    needed = [(root, grad.to(root.dtype)) for root, grad in roots if root.requires_grad]
    if needed:
        with torch.autocast(needed[0][0].device.type, enabled=False):
            torch.autograd.backward([root for root, _ in needed], [grad for _, grad in needed])


def _grad(x: Tensor) -> Tensor:
    return torch.zeros_like(x) if x.grad is None else x.grad
