"""Spatial credit assignment in one sequence: perturb neurons, cut the graph, and give every layer its error."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikewright._util.real_numbers import check_real, real_type
from spikewright._util.returned import wrong
from spikewright.errors import IncompatibleRule, NetworkError
from spikewright.network.hooks import Hooks
from spikewright.network.raised import place_of
from spikewright.network.run import Run
from spikewright.network.wiring import Wiring
from spikewright.spatial import _dual as dual
from spikewright.spatial._base import ChunkSample, Spatial, TargetError, TargetSpec
from spikewright.spatial._noise import Draws, Position, joined
from spikewright.spatial._rows import by_sample
from spikewright.spatial._targets import OUTPUT, PENULTIMATE
from spikewright.spatial.local import Local
from spikewright.synapses.operations import Operation
from spikewright.synapses.synapse import SynapticInput
from spikewright.temporal import SiteState


class SpatialHooks(Hooks):
    """Hooks of a run for spatial credit assignment.

    With noise of position "post" the noise is the tangent of a dual number: what lies between the neurons and the next
    weights acts on spikes and noise.  There the sum is transmitted, and the gradients of the weight, and of parameters
    in between, are taken at spikes without noise.

    Args:
        spatial: The class of spatial credit assignment.
        local: Local learning, or `None`.
        targets: Targets by name, and the neurons that learn from each.
        rule_hooks: Hooks of the rule.
        wiring: Wiring of the network.
        recurrent: True if the network has feedback, which sends what was emitted without noise.
    """

    def __init__(
        self,
        spatial: Spatial,
        local: Local | None,
        targets: dict[str, TargetSpec],
        rule_hooks: Hooks,
        wiring: Wiring,
        recurrent: bool,
    ) -> None:
        self._spatial, self._local, self._targets, self._rule_hooks = spatial, local, targets, rule_hooks
        self.on_layer, self.on_scan = rule_hooks.on_layer, rule_hooks.on_scan
        self._wiring = wiring
        self._draws = None if spatial.noise is None else Draws(spatial.noise)
        self._cut = frozenset().union(*(r.sites for r in targets.values())) if spatial.cuts else frozenset[str]()
        self._recurrent = recurrent
        self._learning, self._first = False, True
        self._spikes: dict[str, list[Tensor]] = {}
        self._penultimate: list[Tensor] = []
        self._batch = 0

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
            run: The run that these hooks belong to.
            x: The chunk, `[time, batch, *feature]`.
            start: Index of its first step.
            value_of: Function that returns what the chunk adds to the loss, given outputs.
            terms_of: The same for every step and sample, `[time, batch]`.
            backward: Differentiates a scalar.

        Returns:
            What the chunk adds to the loss, and the output.
        """
        output = self._run(run, x, start)
        spikes = {site: joined(parts) for site, parts in self._spikes.items()}
        errors = self._errors(output, spikes, value_of, backward)
        # From all of these at once: a current that reaches the output past its neurons has one graph with theirs.
        roots = [(output, _grad(errors.output))]
        roots += [(spikes[site], error) for site, error in errors.local.items() if site not in self._cut]
        if self._penultimate:
            _backward(roots, retain_graph=True)  # which finds the errors that signals are made of
            roots = []
        if self._cut:
            roots += self._signals(spikes, errors, terms_of)
        _backward(roots)
        self._spikes, self._penultimate = {}, []
        return errors.loss, output.detach()

    def _run(self, run: Run, x: Tensor, start: int) -> Tensor:
        """Run a chunk, and keep what neurons emit and what arrives at the readout."""
        self._learning, self._spikes, self._penultimate, self._batch = True, {}, [], x.shape[1]
        if self._draws is not None:
            self._draws.begin_chunk(start)
        try:
            with torch.enable_grad(), dual.level() if self._draws_for("post") else nullcontext():
                output = run.advance(x)
        except NotImplementedError as error:
            if not self._draws_for("post"):
                raise  # not by forward-mode differentiation, then
            said = str(error).partition("\n")[0]
            raise IncompatibleRule(
                f"{type(self._spatial).__name__}(position='post') sends noise beside spikes to the next weights, but "
                f"{_shown(*place_of(error, run.module))} cannot pass on the noise, because it uses an operation "
                f"without forward-mode differentiation: {said} Use position='pre', where the "
                "noise enters at the neurons; or, for an autograd.Function of your own, write its jvp."
            ) from error
        finally:
            self._learning = False
        self._check_real(OUTPUT, output)
        return output

    @torch.enable_grad()
    def _errors(
        self,
        output: Tensor,
        spikes: dict[str, Tensor],
        value_of: Callable[[Tensor], Tensor],
        backward: Callable[[Tensor], None],
    ) -> "_Errors":
        """Differentiate the loss by the output, and the losses of local readouts by the spikes they read."""
        leaf = output.detach().requires_grad_()
        kind = torch.promote_types(real_type(output.dtype), torch.float32)
        unit = output.new_zeros((), dtype=kind).requires_grad_()
        value = value_of(leaf)
        own, read = self._read(spikes)
        backward(value + unit + sum(value_of(vector) for vector in read.values()))
        local = {site: self._local.weight * _grad(s) for site, s in own.items()} if self._local else {}
        return _Errors(value.detach(), leaf, read, local, scale=_grad(unit))

    def _signals(
        self, spikes: dict[str, Tensor], errors: "_Errors", terms_of: Callable[[Tensor], Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the spikes of neurons that the graph is cut at, and the error that arrives at them."""
        vectors = {OUTPUT: [errors.output], **{name: [v] for name, v in errors.read.items()}}
        vectors[PENULTIMATE] = self._penultimate
        chunk = ChunkSample(
            targets={name: _target(vectors[name], target.sites) for name, target in self._targets.items()},
            activity={site: self._by_sample(site, s.detach()) for site, s in spikes.items() if site in self._cut},
            noise={} if self._draws is None else self._draws.chunk,
            scale=errors.scale,
            terms=partial(terms_of, errors.output.detach()),
        )
        with torch.autocast(errors.output.device.type, enabled=False):
            arrived = self._checked(self._spatial.signals(chunk), chunk)
        for site, error in arrived.items():
            error = error.reshape(spikes[site].shape)
            yield spikes[site], error + errors.local[site] if site in errors.local else error

    def _check_real(self, target: str, value: Tensor) -> None:
        """Raise `IncompatibleRule` if errors start from complex numbers, but feedback or readouts are real."""
        what = "the output of the network" if target == OUTPUT else "what arrives at the readout"
        advice = "Have the network return real numbers, such as z.real, or z.abs(), or use FA or BP."
        if self._spatial.real_targets and target in self._targets:
            check_real(self._spatial, what, value, "brings errors to layers by real matrices", advice)
        if self._local is not None and target == OUTPUT:
            check_real(self._local, what, value, "teaches layers by readouts with real outputs", advice)

    def _checked(self, arrived: Any, chunk: ChunkSample) -> dict[str, Tensor]:
        """Return what `signals` returned, after a check that it holds an error for layers of the chunk."""
        if not self._first:
            return arrived
        self._first = False
        shapes = {site: s.shape for site, s in chunk.activity.items()}
        if isinstance(arrived, dict) and all(
            isinstance(a, Tensor) and site in shapes and a.shape == shapes[site] for site, a in arrived.items()
        ):
            return arrived
        asked = "a dictionary {site: error [time, batch, *feature]}, of the sites and shapes of chunk.activity"
        raise wrong(self._spatial, "signals", asked, arrived)

    def on_weight(
        self, site: str, operation: Operation, x: Tensor, weight: Tensor, carried: SiteState
    ) -> tuple[SynapticInput, SiteState]:
        clean, noisy = dual.split_noise(x)
        if noisy is None and self._draws_for("post") and self._expects_noise(site):
            raise NetworkError(
                f"The noise that perturbs the neurons in front of '{site}' did not arrive there: something between "
                "them detaches its input, or is compiled. Use position='pre', where the noise enters at the neurons."
            )
        arrival, carried = self._rule_hooks.on_weight(site, operation, clean, weight, carried)
        if noisy is not None:
            arrival = replace(
                arrival, value=noisy, presynaptic=clean if arrival.presynaptic is None else arrival.presynaptic
            )
        if self._learning and PENULTIMATE in self._targets and not self._wiring.synapses[site].receivers:
            self._penultimate.append(self._at_readout(site, arrival.value))
        back: Any = self._spatial.back(self._wiring.synapses[site], weight)
        if self._first and back is not None and not (isinstance(back, Tensor) and back.shape == weight.shape):
            raise wrong(self._spatial, "back", f"weights of the shape of the layer's, {list(weight.shape)}", back)
        return arrival if back is None else replace(arrival, back=back), carried

    def on_current(self, site: str, current: Tensor) -> Tensor:
        arrived, draws = dual.add_noise(current), self._draws_for("pre")
        return arrived + self._drawn(draws, site, arrived) if draws and site in self._cut else arrived

    def on_spikes(self, site: str, spikes: Tensor) -> Tensor:
        if not self._learning:
            return spikes
        rewritten = site in self._wiring.rewritten
        if site in self._cut or self._local is not None:
            self._spikes.setdefault(site, []).append(spikes.clone() if rewritten else spikes)
        if site not in self._cut:
            return spikes
        if draws := self._draws_for("post"):
            noise = self._drawn(draws, site, spikes)
            return dual.attach_noise(spikes.detach(), noise.clone() if rewritten else noise)
        return spikes.detach()

    def on_output(self, output: Tensor) -> Tensor:
        return dual.add_noise(output)

    def _at_readout(self, site: str, arrived: Tensor) -> Tensor:
        """Return the input of the readout, such that its gradient is retained."""
        self._check_real(PENULTIMATE, arrived)
        components = self._targets[PENULTIMATE].components
        if arrived[0].numel() != self._batch * components:
            raise IncompatibleRule(
                f"Errors were to start from what arrives at the readout '{site}', but that sees several "
                f"vectors of {components} entries of every sample in a step, and not one. Use route='output'."
            )
        arrived = arrived if arrived.requires_grad else arrived.requires_grad_()
        arrived.retain_grad()
        return arrived

    def _by_sample(self, site: str, x: Tensor) -> Tensor:
        return by_sample(x, self._wiring.shapes[site])

    def _drawn(self, draws: Draws, site: str, like: Tensor) -> Tensor:
        """Return the noise of neurons, of the shape of their input or output."""
        return draws.draw(site, self._by_sample(site, like)).reshape(like.shape)

    def _draws_for(self, position: Position) -> Draws | None:
        """Return the source of noise, if neurons are perturbed at this position now."""
        noise = self._spatial.noise
        return self._draws if self._learning and noise is not None and noise.position == position else None

    def _expects_noise(self, site: str) -> bool:
        """Return True if perturbed neurons send to a layer at this step."""
        return not self._cut.isdisjoint(self._wiring.synapses[site].senders) and not self._recurrent

    def _read(self, spikes: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the spikes of every layer that has a local readout, as leaves, and the outputs of the readouts."""
        if self._local is None:
            return {}, {}
        own = {site: s.detach().requires_grad_() for site, s in spikes.items()}
        read = {site: self._local.read(site, self._by_sample(site, s)) for site, s in own.items()}
        for vector in read.values():
            vector.retain_grad()
        return own, read


@dataclass(frozen=True)
class _Errors:
    """Where errors of a chunk start from.

    Attributes:
        loss: What the chunk adds to the loss.
        output: The output as a leaf, whose gradient is its error.
        read: What local readouts made of spikes, by site, with the same gradient.
        local: Errors of the spikes that local readouts read, by site.
        scale: Of the gradients, where low precision asks for one; else 1.
    """

    loss: Tensor
    output: Tensor
    read: dict[str, Tensor]
    local: dict[str, Tensor]
    scale: Tensor


def _shown(name: str, module: nn.Module) -> str:
    return f"'{name}' ({type(module).__name__})" if name else f"the forward of {type(module).__name__}"


def _target(vectors: list[Tensor], sites: frozenset[str]) -> TargetError:
    return TargetError(
        vector=_full(joined([v.detach() for v in vectors])).flatten(2),
        error=_full(joined([_grad(v) for v in vectors])).flatten(2),
        reaches=sites,
    )


def _full(x: Tensor) -> Tensor:
    """Return `x` without graph, in 32 bits or more."""
    return x.detach().float() if x.dtype.itemsize < 4 else x.detach()


def _backward(roots: Iterable[tuple[Tensor, Tensor]], retain_graph: bool = False) -> None:
    """Accumulate the gradients at parameters, given those at some tensors."""
    needed = [(root, grad.to(root.dtype)) for root, grad in roots if root.requires_grad]
    if needed:
        with torch.autocast(needed[0][0].device.type, enabled=False):
            torch.autograd.backward([root for root, _ in needed], [grad for _, grad in needed], retain_graph)


def _grad(x: Tensor) -> Tensor:
    return torch.zeros_like(x) if x.grad is None else x.grad
