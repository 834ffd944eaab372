"""Memory of a training step by `plan`, beside the growth of the peak of a fresh process, for every rule.

python benchmarks/memory_plan.py [--steps 8 32 128] [--batch 4] [--rules BPTT ...] [--budgets 64MiB 256MiB]

The network is that of `spikewright bench --workloads conv`.  With --budgets every rule is given each of them for its
chunk, and has to stay within it, or to refuse.  Every step is measured in a process of its own, which hands freed
memory back at once; under the default of the C library a process keeps some of it.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

import spikewright as sw
from spikewright import rules, spatial
from spikewright._util.text import aligned, readable, size_in_bytes
from spikewright.bench.apart import IsolatedStep, measure_apart
from spikewright.bench.contenders import Ruled, spiking
from spikewright.bench.measure import ChildFailed
from spikewright.bench.settings import BenchSettings
from spikewright.bench.workloads.training import conv_task
from spikewright.errors import IncompatibleRule

SETTINGS = BenchSettings()
RULES: dict[str, tuple[type[rules.Rule], dict[str, Any]]] = {
    "BPTT": (rules.BPTT, {}),
    "BPTT, checkpoint": (rules.BPTT, {"checkpoint": True}),
    "SLTT": (rules.SLTT, {}),
    "SLTT, k=2": (rules.SLTT, {"k": 2}),
    "SLTT, chunk=4": (rules.SLTT, {"chunk": 4}),
    "OTTT": (rules.OTTT, {}),
    "OTTT, online": (rules.OTTT, {"online": True}),
    "OTTT, chunk=4": (rules.OTTT, {"chunk": 4}),
    "DSR": (rules.DSR, {}),
    "DSR, chunk=1": (rules.DSR, {"chunk": 1}),
    "IDE": (rules.IDE, {}),
    "SPIDE": (rules.SPIDE, {}),
    "OPZO": (rules.OPZO, {}),
    "OTTT, FA": (rules.OTTT, {"spatial": spatial.FA()}),
    "OTTT, DFA": (rules.OTTT, {"spatial": spatial.DFA()}),
    "OTTT, DKP": (rules.OTTT, {"spatial": spatial.DKP()}),
    "OTTT, ZO": (rules.OTTT, {"spatial": spatial.ZO()}),
    "HLOP(OTTT)": (rules.HLOP, {"rule": rules.OTTT()}),
    "EWC(BPTT)": (rules.EWC, {"rule": rules.BPTT()}),
}
CHUNKED = [name for name, (_, given) in RULES.items() if not {"chunk", "online", "rule"} & given.keys()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rules", nargs="+", default=None, choices=RULES)
    parser.add_argument("--budgets", nargs="+", default=None, help="such as 256MiB, or auto")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {options.batch}")
    build = partial(conv_task, batch=options.batch)
    if options.budgets is None:
        show(("rule", "T", "saved", "planned", "measured", "planned / measured"), planned(options, build))
    else:
        show(("rule", "T", "budget", "measured", "measured / budget"), budgets(options, build))


def show(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> None:
    """Print rows as they come, then all of them aligned."""
    kept = [head]
    for row in rows:
        print("\t".join(row), flush=True)
        kept.append(row)
    print(f"\n{aligned(kept)}")


def planned(options: argparse.Namespace, build: Any) -> Iterator[tuple[str, ...]]:
    task = build(max(options.steps), SETTINGS)
    for name in options.rules or RULES:
        rule, arguments = RULES[name]
        profile = sw.plan(spiking(task.layers), rule(**arguments), task.x, report=options.steps)
        rows = {row.steps: row for row in profile.rows}
        for steps in options.steps:
            used = measure_apart(IsolatedStep(Ruled(name, rule, arguments), steps, SETTINGS, build)).peak_bytes or 0
            row = rows[steps]
            sizes = map(readable, (row.saved_bytes, row.working_bytes, used))
            yield name, str(steps), *sizes, f"{row.working_bytes / used:.2f}"


def budgets(options: argparse.Namespace, build: Any) -> Iterator[tuple[str, ...]]:
    for name in options.rules or CHUNKED:
        rule, arguments = RULES[name]
        for budget in options.budgets:
            contender = Ruled(name, rule, {**arguments, "chunk": budget})
            for steps in options.steps:
                try:
                    used = measure_apart(IsolatedStep(contender, steps, SETTINGS, build)).peak_bytes or 0
                    found = readable(used), f"{used / (size_in_bytes(budget) or 2**30):.2f}"
                except ChildFailed as error:
                    if IncompatibleRule.__name__ not in str(error):
                        raise
                    found = "refused", str(error).partition("needs at least ")[2].partition(" in this")[0]
                yield name, str(steps), budget, *found


if __name__ == "__main__":
    main()
