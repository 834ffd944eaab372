"""Neurons alone: time, and agreement of spikes and gradients."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from spikewright.bench.contenders import OURS, PeerBPTT, Plain, Step, WholeSequence, ready
from spikewright.bench.measure import Tell, interleave, reason
from spikewright.bench.peers import EVERYONE
from spikewright.bench.report import Table, timed
from spikewright.bench.settings import BenchSettings
from spikewright.bench.task import Spikes, Task

DIFFERS = {PeerBPTT(peer).name: peer.differs for peer in EVERYONE}


def layer(settings: BenchSettings, tell: Tell) -> Iterator[Table]:
    """Time a layer of neurons alone, and compare its spikes and gradients with those of other libraries."""
    steps, batch, features = (6, 2, 8) if settings.quick else (32, 64, 1024)
    random = settings.random()
    x = 0.4 + 0.5 * torch.randn(steps, batch, features, generator=random)
    task = Task(nn.Sequential(Spikes()), x, torch.randn(x.shape, generator=random), at_input=True)
    going, left_out = ready([Plain(), *map(PeerBPTT, EVERYONE)], task)
    outcomes, failed = _outcomes(going, tell)
    times = interleave({name: going[name] for name in outcomes}, settings.times(20), in_a_row=9, tell=tell)
    agreement = _agreement(outcomes)
    columns = {
        "spikes that differ": {name: f"{a['spikes_that_differ']} of {x.numel()}" for name, a in agreement.items()},
        "largest difference of gradients": {
            name: a["differs"] or f"{a['gradient_difference']:.1e}" for name, a in agreement.items()
        },
    }
    notes = [f"{outcomes[OURS][0].mean():.1%} of all neurons and steps fire"] if OURS in outcomes else []
    title = f"LIF neurons alone, current {list(x.shape)}, forward and backward"
    references = {"x ours: median [quartiles]": OURS}
    yield timed("layer", title, times, references, columns, agreement, {**left_out, **failed}, notes)


def _outcomes(steps: Mapping[str, Step], tell: Tell) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, str]]:
    """Return spikes and gradient of the current of each contender, and the reasons of those that failed."""
    outcomes, failed = {}, {}
    for name, step in steps.items():
        tell(f"{name}, spikes and gradients")
        assert isinstance(step, WholeSequence)
        try:
            spikes = step.run()
            outcomes[name] = spikes.clone(), step.gradient().clone()
        except Exception as error:
            failed[name] = reason(error)
        step.clear()
    return outcomes, failed


def _agreement(outcomes: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, dict[str, int | float | str]]:
    """Compare the outcome of every contender with ours."""
    if OURS not in outcomes:
        return {}
    spikes, gradient = outcomes[OURS]
    return {
        name: {
            "spikes_that_differ": int((fired != spikes).sum()),
            "gradient_difference": (slope - gradient).abs().max().item(),
            "differs": DIFFERS.get(name, ""),
        }
        for name, (fired, slope) in outcomes.items()
        if name != OURS
    }
