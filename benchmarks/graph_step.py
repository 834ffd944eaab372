"""Time of messages with delays, summed edge by edge and as the package sums them, interleaved in one run.

Three forms: "edges" keeps an index for every edge, query and channel (graph_edges.py); "kernels" is the package;
"plain" is the package without its compiled kernels.  Spikes are those at the last step of a GRSNN before training.

python benchmarks/graph_step.py [--data wn18rr] [--data-dir FOLDER] [--batch-size 8] [--width 32] [--threads 2]
    [--repeats 5] [--json FILE]
"""

import argparse
import ctypes
import gc
import json
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import graph_edges
import torch
from torch import Tensor

from spikewright.graph import messages
from spikewright.graph._evaluate import graph_of
from spikewright.graph.build import Reasoning, build_reasoning
from spikewright.graph.config import configure_reasoning
from spikewright.graph.messages import EdgeGradients, EdgeSpikes
from spikewright.graph.models import GRSNN, grsnn
from spikewright.graph.negative_sampling import TripleBatch, loss_of
from spikewright.graph.structure import RelationalGraph
from spikewright.kernels import native
from spikewright.train.result import versions

FORMS = "edges", "kernels", "plain"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="wn18rr", choices=["wn18rr", "fb15k-237", "umls", "kinships", "family"])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write every time measured")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    reasoning, graph, questions = prepared(options)
    report: dict = {"versions": versions(), **{k: str(v) for k, v in vars(options).items()}}
    report["sizes"] = {"nodes": graph.nodes, "edges": len(graph.targets), "pairs": len(graph.sources)}
    report["sizes"] |= {"relations": graph.relations, "columns": options.batch_size * options.width}
    print(json.dumps(report))
    model = reasoning.model
    assert isinstance(model, GRSNN)
    case = Step(model, graph, questions, torch.float64)
    check_messages([case.run(form) for form in FORMS])
    case = Step(model, graph, questions, torch.float32)
    report["messages"] = {form: {"forward": [], "backward": [], "both": []} for form in FORMS}
    for repeat in range(options.repeats + 1):
        for form in FORMS:
            parts = case.run(form)[0]
            if repeat:
                for name, seconds in zip(("forward", "backward", "both"), (*parts, sum(parts))):
                    report["messages"][form][name].append(seconds)
    for name in ("forward", "backward", "both"):
        show(f"messages of a step, {name}", {form: report["messages"][form][name] for form in FORMS})
    del case
    check_training(reasoning, graph, questions)
    learner, batches = Learner(reasoning, graph, questions), len(reasoning.sampler)
    report["training"] = {form: [] for form in FORMS}
    report["peak_gb"] = {form: peak(lambda form=form: learner.step(form)) for form in FORMS}
    for _ in range(options.repeats):
        for form in FORMS:
            report["training"][form].append(learner.step(form))
        if options.json is not None:
            options.json.write_text(json.dumps(report, indent=1))
    show(f"training step, T = {model.dynamics.steps}", report["training"])
    report["epoch_hours"] = {f: statistics.median(s) * batches / 3600 for f, s in report["training"].items()}
    print(f"epoch of {batches} steps, hours: " + ", ".join(f"{f} {h:.3g}" for f, h in report["epoch_hours"].items()))
    print(
        "memory of a training step at its peak, GB: " + ", ".join(f"{f} {g:.2f}" for f, g in report["peak_gb"].items())
    )
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1))


def prepared(options: argparse.Namespace) -> tuple[Reasoning, RelationalGraph, TripleBatch]:
    """Return what learns with the usual settings of the graph, the graph of its training facts, and a batch."""
    config = configure_reasoning(
        data={"name": options.data} | ({"dir": str(options.data_dir)} if options.data_dir else {}),
        model={"name": "grsnn", "width": options.width},
        train={"batch_size": options.batch_size, "device": "cpu"},
    )
    reasoning = build_reasoning(config)
    return reasoning, graph_of(reasoning.data, reasoning.data.train), next(reasoning.sampler.epoch(0))


@contextmanager
def as_form(form: str) -> Iterator[None]:
    """Let the package sum messages in a form."""
    plain = patch.object(native, "available", return_value=False) if form == "plain" else nullcontext()
    edges = patch.object(grsnn, "propagate", graph_edges.propagate) if form == "edges" else nullcontext()
    with plain, edges:
        yield


class Step:
    """The messages of one step, forward and backward."""

    def __init__(self, model: GRSNN, graph: RelationalGraph, questions: TripleBatch, dtype: torch.dtype) -> None:
        spikes = model.spikes(graph, questions.sources, questions.relations).flatten(2)
        self.graph, self.longest, self.slopes = graph, model.max_delay, model.dynamics.slopes
        delays = model.delays(questions.relations).detach().flatten(1).round().to(torch.uint8)
        self.kept = graph.without(questions.facts).to(dtype)
        latest = spikes[:-1].flip(0)[:7]  # before the last step, the last one first
        history = sum((s.to(torch.uint8) << ago for ago, s in enumerate(latest)), torch.zeros_like(delays[:1]))
        self.spikes = EdgeSpikes(history, delays)
        values = latest[: self.longest + 2].flip(0).to(dtype)
        self.edges, self.window = graph.edges, values[1:].contiguous()
        here, before = self.slopes
        self.traces = here * values[1:] + before * values[:-1]
        self.grad = torch.randn(spikes.shape[1:], dtype=dtype, generator=torch.Generator().manual_seed(0))

    def run(self, form: str) -> tuple[tuple[float, float], Tensor, Tensor, Tensor]:
        """Return the seconds of both ways, what arrived, and the gradients of spikes and of delays."""
        with as_form(form):
            return self._edges() if form == "edges" else self._package()

    def _edges(self) -> tuple[tuple[float, float], Tensor, Tensor, Tensor]:
        began = time.perf_counter()
        where = graph_edges.indices(self.edges, self.spikes.delays, self.graph.nodes, self.longest)
        arrived = graph_edges.arriving(self.edges, where, self.window, self.kept)
        middle = time.perf_counter()
        found = graph_edges.credit(self.edges, where, self.traces, self.kept, self.grad, self.graph.relations)
        return (middle - began, time.perf_counter() - middle), arrived, *found

    def _package(self) -> tuple[tuple[float, float], Tensor, Tensor, Tensor]:
        began = time.perf_counter()
        arrived = messages.arriving(self.graph, self.spikes, self.kept, self.grad.dtype)
        middle = time.perf_counter()
        ring, delays = torch.zeros_like(self.window), torch.zeros_like(self.spikes.delays, dtype=self.grad.dtype)
        to = EdgeGradients(ring, self.longest, self.longest, delays, None, *self.slopes)
        messages.add_gradients(self.graph, self.spikes, self.kept, self.grad, to)
        return (middle - began, time.perf_counter() - middle), arrived, ring, delays


def check_messages(found: list[tuple[tuple[float, float], Tensor, Tensor, Tensor]]) -> None:
    """Assert that all forms find the same, up to the rounding of float64."""
    for name, *each in zip(("sums", "gradients of spikes", "gradients of delays"), *(f[1:] for f in found)):
        assert each[0].abs().amax() > 0, f"no {name}"
        worst = max(float((e - each[0]).abs().amax() / each[0].abs().amax()) for e in each[1:])
        print(f"{name} differ by {worst:.0e} of the largest")
        assert worst < 1e-12, name


class Learner:
    """A training step, by the form of its messages."""

    def __init__(self, reasoning: Reasoning, graph: RelationalGraph, questions: TripleBatch) -> None:
        self.model, self.optimizer, self.graph, self.questions = reasoning.model, reasoning.optimizer, graph, questions
        self.settings = reasoning.config["train"]

    def gradient(self, form: str) -> float:
        """Add up the gradient of the loss, and return the loss."""
        asked = self.questions
        with as_form(form):
            kept = asked.hidden(self.graph, self.settings["between"])
            scores = self.model(self.graph, asked.sources, asked.relations, asked.candidates, kept)
            loss = loss_of(scores, self.settings["temperature"], False)
            loss.backward()
        return loss.item()

    def step(self, form: str) -> float:
        """Return the seconds of a step."""
        began = time.perf_counter()
        self.gradient(form)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - began


def check_training(reasoning: Reasoning, graph: RelationalGraph, questions: TripleBatch) -> None:
    """Assert in float64 that all forms have the same loss and gradients, for the first and the last question."""
    ends = torch.tensor([0, -1])
    few = TripleBatch(*(t[ends] for t in vars(questions).values()))
    reasoning.model.double()
    found: list[list[Tensor]] = []
    for form in FORMS:
        loss = Learner(reasoning, graph, few).gradient(form)
        found.append([torch.tensor(loss, dtype=torch.float64)])
        found[-1] += [p.grad for p in reasoning.model.parameters() if p.grad is not None]
        reasoning.model.zero_grad()
    reasoning.model.float()
    assert len({len(f) for f in found}) == 1
    worst = max(float((b - a).abs().amax() / a.abs().amax()) for f in found[1:] for a, b in zip(found[0], f))
    print(f"loss and gradients of a training step differ by {worst:.0e} of the largest")
    assert worst < 1e-9


def show(what: str, seconds: dict[str, list[float]]) -> None:
    """Print the medians, and how many times as long as the kernels the others take."""
    medians = {form: statistics.median(values) for form, values in seconds.items()}
    for form, median in medians.items():
        pairs = [a / b for a, b in zip(seconds[form], seconds["kernels"])]
        middle, spread = statistics.median(pairs), f"{min(pairs):.2f} to {max(pairs):.2f}"
        ratio = f"ratio to kernels {median / medians['kernels']:7.2f} (paired {middle:.2f}, {spread})"
        print(f"{what:32} {form:8} {1000 * median:10.1f} ms   {ratio}", flush=True)


def peak(run: Callable[[], object]) -> float:
    """Return by how many GB the memory of this process rises at most in a run; Linux alone tells."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        run()
        return math.nan

    def read(name: str) -> int:
        return int(re.search(rf"{name}:\s+(\d+) kB", status.read_text())[1])  # type: ignore[index]

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    reset.write_text("5")
    before = read("VmRSS")
    run()
    return (read("VmHWM") - before) * 1024 / 1e9


if __name__ == "__main__":
    main()
