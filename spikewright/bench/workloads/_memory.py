"""Activation memory and peak memory of a step by number of time steps."""

from collections.abc import Iterator
from dataclasses import replace

from spikewright._util.text import readable
from spikewright.bench.apart import IsolatedStep, Use, measure_apart
from spikewright.bench.contenders import Contender, PeerBPTT, Ruled
from spikewright.bench.measure import Tell, reason
from spikewright.bench.online import SpikingJellyOnline
from spikewright.bench.peers import PEERS
from spikewright.bench.rates import SpikingJellyDSR
from spikewright.bench.report import Table
from spikewright.bench.settings import BenchSettings
from spikewright.bench.workloads.training import ours
from spikewright.rules import BPTT


def memory(settings: BenchSettings, tell: Tell) -> Iterator[Table]:
    """Measure memory by number of time steps, each in a process of its own."""
    floor, bptt, *online = ours(replace(settings, chunk=1))  # the default of the rules
    cheaper = Ruled("spikewright BPTT, checkpoint", BPTT, {"checkpoint": True})
    jelly, *others = PEERS
    peers = [PeerBPTT(jelly), SpikingJellyOnline("OTTT"), SpikingJellyDSR(), *map(PeerBPTT, others)]
    yield table([floor, bptt, cheaper, *online, *peers], settings, tell)


def table(contenders: list[Contender], settings: BenchSettings, tell: Tell) -> Table:
    """Measure all contenders; a contender is left out after its first failure."""
    lengths = (4,) if settings.quick else (4, 16, 64, 256, 1024)
    used: dict[str, dict[int, Use]] = {}
    left_out: dict[str, str] = {}
    for contender in contenders:
        try:
            uses = {}
            contender.ready(IsolatedStep(contender, 1, settings).task(1))  # finds missing packages without a process
            for steps in lengths:
                tell(f"{contender.name}, {steps} steps")
                uses[steps] = measure_apart(IsolatedStep(contender, steps, settings))
            used[contender.name] = uses
        except Exception as error:
            left_out[contender.name] = reason(error)
    head = ["", *(f"saved at T={t}" for t in lengths), *(f"peak at T={t}" for t in lengths)]
    rows = [
        [name, *(readable(uses[t].saved_bytes) for t in lengths), *(_shown(uses[t].peak_bytes) for t in lengths)]
        for name, uses in used.items()
    ]
    results = {
        name: {
            "saved_bytes": {str(t): uses[t].saved_bytes for t in lengths},
            "peak_bytes": {str(t): uses[t].peak_bytes for t in lengths},
        }
        for name, uses in used.items()
    }
    title = "bytes saved for backward, and most memory taken from the system, in 64-256-256-10 with a batch of 16"
    notes = ["peak: of a fresh process, above what it held before the step; pages, so the smallest figures are coarse"]
    return Table("memory", title, head, rows, results, left_out, notes)


def _shown(size: int | None) -> str:
    return "?" if size is None else readable(size)
