"""Time of a training step with HLOP beside that of the rule inside (permuted MNIST), interleaved in one run.

The subspaces are those of the first, a middle and the last of ten tasks; static inputs, as images are.

python benchmarks/hlop_step.py [--rules dsr,bptt,ottt,sltt] [--repeats 15] [--observe mean] [--profile]
"""

import argparse
import json
import statistics
import time

import torch

from spikewright.continual import build_continual, configure_continual
from spikewright.continual.course import ContinualExperiment
from spikewright.rules import HLOP, Rule
from spikewright.train.config import rule_table
from spikewright.train.result import versions

TASKS = (1, 5, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", default="dsr,bptt,ottt,sltt")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--observe", default="mean")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    print(json.dumps(versions()))
    print(f"784-800-800-10, batches of 64, {torch.get_num_threads()} threads, {options.repeats} interleaved repeats")
    print(f"{'rule':8} {'task':>4} {'inside, ms':>11} {'HLOP, ms':>9} {'ratio: median':>14} {'quartiles':>14}")
    for name in options.rules.split(","):
        for task in TASKS:
            course, x, y = at_task(name, task, options.observe)
            inside, around = compare(course, x, y, options.repeats)
            low, middle, high = statistics.quantiles((b / a for a, b in zip(inside, around)), n=4)
            times = f"{1e3 * statistics.median(inside):11.1f} {1e3 * statistics.median(around):9.1f}"
            print(f"{name:8} {task:4} {times} {middle:14.3f} {low:6.3f} {high:7.3f}", flush=True)
            if options.profile:
                with torch.profiler.profile() as profile:
                    step(course, course.rule, x, y)
                print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=12))


def at_task(name: str, task: int, observe: str) -> tuple[ContinualExperiment, torch.Tensor, torch.Tensor]:
    """Return the course as it is in a task, and a batch; `synthetic` images stand for MNIST's."""
    config = configure_continual(
        name="pmnist",
        rule=rule_table(f"hlop:observe={observe}:{name}"),
        data={"name": "synthetic", "classes": 10, "size": 200, "features": (1, 28, 28)},
    )
    course = build_continual(config)
    rule = course.rule
    assert isinstance(rule, HLOP)
    x = torch.rand(1, 64, *course.scenario.shape).expand(config.config.train.steps, -1, -1, -1, -1)
    y = torch.randint(10, (64,))
    rule.prepare(course.net, x)
    for _ in range(task - 1):
        rule.next_task(course.net, x, y, course.loss)
    course.net.train()
    rule.freeze(course.net)
    return course, x, y


def step(course: ContinualExperiment, rule: Rule, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the seconds of one step."""
    course.net.zero_grad()
    began = time.perf_counter()
    for _ in rule.updates(course.net, x, y, course.loss):
        pass
    return time.perf_counter() - began


def compare(
    course: ContinualExperiment, x: torch.Tensor, y: torch.Tensor, repeats: int
) -> tuple[list[float], list[float]]:
    """Return the seconds of the rule inside, and of HLOP, taken in turn."""
    for rule in (course.rule.rule, course.rule):
        step(course, rule, x, y)
    both = [(step(course, course.rule.rule, x, y), step(course, course.rule, x, y)) for _ in range(repeats)]
    return [a for a, _ in both], [b for _, b in both]


if __name__ == "__main__":
    main()
