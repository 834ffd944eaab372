"""The penalty on firing rates in a run: spikes are counted as neurons emit them, and get its gradient."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spikewright._util.lengths import Lengths
from spikewright._util.share import divided_share, whole_batch
from spikewright.errors import ConfigError, IncompatibleRule, nearest
from spikewright.losses import FiringRatePenalty
from spikewright.network.wiring import Wiring
from spikewright.neurons import Neuron
from spikewright.surrogate import Surrogate

if TYPE_CHECKING:
    from spikewright.rules._batch import Batch


class SpikeCounts:
    """Base of what counts the spikes of every penalised neuron and sample during a run.

    Args:
        batch: The batch, whose loss has a penalty.
        penalty: The penalty.
        start: Index of the first step that is seen.  At least 0.  Default: 0.
    """

    def __init__(self, batch: "Batch", penalty: FiringRatePenalty, start: int = 0) -> None:
        self._steps, self._samples = batch.x.shape[:2]
        self._lengths, self._penalty, self._start = batch.lengths, penalty, start
        self._seen: dict[str, int] = {}

    def _spikes(self, site: str, neuron: Neuron, sent: Tensor, counts: Tensor) -> tuple[Tensor, int]:
        """Return the spikes of the next steps, `[time, batch, neuron]`, with a graph, and the index of the first."""
        spikes = counts.to(torch.promote_types(counts.dtype, torch.float32))
        if sent is not counts:  # those that are counted have no graph
            amplitude = torch.as_tensor(neuron.spike_amplitude).detach()
            spikes = spikes + (sent - sent.detach()).to(spikes.dtype) / amplitude
        spikes = spikes.reshape(len(spikes), self._samples, -1)
        start = self._seen.get(site, self._start)
        self._seen[site] = start + len(spikes)
        return spikes if self._lengths is None else self._lengths.masked(spikes, start), start


class WholeCounts(SpikeCounts):
    """Counts with the graph of every chunk, for rules that know rates before they differentiate."""

    def __init__(self, batch: "Batch", penalty: FiringRatePenalty, start: int = 0) -> None:
        super().__init__(batch, penalty, start)
        self._chunk: dict[str, Tensor] = {}

    @classmethod
    def of(cls, batch: "Batch", start: int = 0) -> "WholeCounts | None":
        """Return what counts spikes of a batch from a step on; `None` if its loss has no penalty."""
        return None if batch.loss.penalty is None else cls(batch, batch.loss.penalty, start)

    def __call__(self, site: str, neuron: Neuron, sent: Tensor, counts: Tensor) -> None:
        if self._penalty.covers(site):
            found = self._spikes(site, neuron, sent, counts)[0].sum(0)
            self._chunk[site] = self._chunk[site] + found if site in self._chunk else found

    def take(self) -> dict[str, Tensor]:
        """Return the counts of the steps since the last call, `[batch, neuron]` by layer."""
        taken, self._chunk = self._chunk, {}
        return taken

    def penalty(self, totals: Mapping[str, Tensor]) -> Tensor:
        """Return the penalty of a sequence, a scalar, given its counts."""
        steps = _own(self._lengths, self._steps)
        return penalty_at(self._penalty, {site: total / steps for site, total in totals.items()})


class RunningCounts(SpikeCounts):
    """Counts up to every step, and the gradient at its spikes, for rules that differentiate step by step."""

    def __init__(self, batch: "Batch", penalty: FiringRatePenalty) -> None:
        super().__init__(batch, penalty)
        self._counts: dict[str, Tensor] = {}
        self._graph: list[Tensor] = []
        self._before: Tensor | None = None

    @classmethod
    def of(cls, batch: "Batch") -> "RunningCounts | None":
        """Return what counts spikes of a batch; `None` if its loss has no penalty."""
        return None if batch.loss.penalty is None else cls(batch, batch.loss.penalty)

    def __call__(self, site: str, neuron: Neuron, sent: Tensor, counts: Tensor) -> None:
        if not self._penalty.covers(site):
            return
        spikes, start = self._spikes(site, neuron, sent, counts)
        running = spikes.detach().cumsum(0)
        if site in self._counts:
            running += self._counts[site]
        self._counts[site] = running[-1].clone()
        if not spikes.requires_grad:
            return
        done = torch.arange(start + 1, start + len(spikes) + 1, device=spikes.device).view(-1, 1, 1)
        if self._lengths is not None:
            done = done.minimum(self._lengths.each.view(1, -1, 1))
        slope = self._penalty.slope(running / done) / _own(self._lengths, self._steps)
        self._graph.append((spikes * slope).sum() / whole_batch(self._samples))

    @torch.enable_grad()
    def term(self) -> Tensor:
        """Return what the steps since the last call add to the penalty, a scalar with the gradient at their spikes."""
        now = self._so_far()
        term, self._before = now if self._before is None else now - self._before, now
        for part in self._graph:
            term = term + (part - part.detach())
        self._graph = []
        return term

    @torch.no_grad()
    def _so_far(self) -> Tensor:
        """Return the penalty of the steps so far, times their share of the sequence."""
        seen = next(iter(self._seen.values()))
        done = _own(self._lengths, seen)
        share = done / _own(self._lengths, self._steps)
        return penalty_at(self._penalty, {site: total / done for site, total in self._counts.items()}, share)


def penalty_at(penalty: FiringRatePenalty, rates: Mapping[str, Tensor], share: float | Tensor = 1.0) -> Tensor:
    """Return the mean penalty over the samples of the whole batch, a scalar.

    Args:
        penalty: The penalty.
        rates: Firing rates of this process, `[batch, neuron]` by layer.
        share: Share of its sequence that every sample has seen; a number, or `[batch, 1]`.  Default: 1.0.
    """
    first, *others = (penalty(layer).unsqueeze(1) * share for layer in rates.values())
    each = sum(others, first)
    divided = divided_share()
    return (each if divided is None else divided.gather(each)).mean()


def _own(lengths: Lengths | None, steps: int) -> int | Tensor:
    """Return the number of the first steps that belong to each sequence: one number, or `[batch, 1]`."""
    return steps if lengths is None else lengths.each.clamp_max(steps).unsqueeze(1)


def check_penalty(rule: str, penalty: FiringRatePenalty, wiring: Wiring) -> None:
    """Raise an error if a penalty cannot be measured in a network.

    Args:
        rule: Name of the rule.
        penalty: The penalty.
        wiring: Wiring of the network.

    Raises:
        ConfigError: It names a layer that is none.
        IncompatibleRule: It is not known how many spikes the outputs of a layer are.
    """
    for layer in penalty.layers:
        if layer not in wiring.neurons:
            raise ConfigError(
                f"{penalty} names '{layer}', which is no layer of neurons of this network. "
                f"{nearest(layer, wiring.neurons)}"
            )
    penalised = {site: neuron for site, neuron in wiring.neurons.items() if penalty.covers(site)}
    silent = [site for site, neuron in penalised.items() if not neuron.spiking]
    if silent and (penalty.layers or len(silent) == len(penalised)):
        raise IncompatibleRule(
            f"{rule} was given a loss with {penalty}, but '{silent[0]}' ({type(wiring.neurons[silent[0]]).__name__}) "
            "emits its potential and no spikes, so that it has no firing rate. Name layers that spike (layers=...), or "
            "leave the penalty out."
        )
    for site, neuron in penalised.items():
        if neuron.spiking and not _counts_spikes(neuron):
            raise IncompatibleRule(
                f"{rule} was given a loss with {penalty}, but '{site}' ({type(neuron).__name__}) does not declare that "
                "its outputs are 0 or 1, so that it is not known how many spikes they are. Declare "
                "Dynamics(binary=True), or name the layers that are penalised: layers=(...)."
            )


def _counts_spikes(neuron: Neuron) -> bool:
    """Return True if outputs of neurons are spikes, 0 or 1, or 0 or a declared amplitude."""
    own_scan = type(neuron).scan is not Neuron.scan or "scan" in vars(neuron)
    return neuron.binary or not (own_scan or type(neuron.surrogate).__call__ is not Surrogate.__call__)
