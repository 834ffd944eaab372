"""Evaluation of all tasks during continual learning, without any effect on the learning."""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikewright._util.randomness import keyed_generator
from spikewright._util.ranges import check_counts, check_seed, check_sizes
from spikewright._util.trial import evaluating, untouched
from spikewright.continual.trajectory import Trajectory
from spikewright.errors import CheckpointError, InputError, ShapeError
from spikewright.network import Network
from spikewright.temporal import is_static

Samples = tuple[Tensor, Tensor]
"""Inputs `[time, batch, *feature]` and classes `[batch]`."""
Predict = Callable[[Network, Tensor, int], Tensor]
"""Function of network, inputs and number of the task that returns logits `[batch, class]`."""


def mean_over_time(net: Network, x: Tensor, task: int) -> Tensor:
    """Return the outputs averaged over time, `[batch, class]`: one head for all tasks.

    Args:
        net: `Network`.
        x: Inputs. Shape `[time, batch, *feature]`.
        task: Number of the task, from 0; not used.
    """
    return net(x).mean(0)


class ContinualMonitor:
    """Evaluates a network on all tasks begun, on a fixed subset of each, at regular iterations while it learns.

    Shows what an accuracy matrix does not: drops of accuracy after a task switch (the stability gap). The results are
    in `trajectory`, a `Trajectory`, and in `summary()`. A probe runs in evaluation mode without gradients and has no
    effect on the learning: modes, buffers, random state, `.grad` and the state of an unfinished sequence are restored.
    Each probe uses the same random numbers.

    **Cost**: one forward pass over `subset` samples of each task begun, per probe.

    **Carried / Checkpointed**: settings, the last step, the trajectory and the indices of each subset, int64
    `[subset]`.

    Args:
        eval_sets: For every task, `(x, y)` with inputs `[time, batch, *feature]` and classes int64 `[batch]`, or a
            function that returns them, called when the task begins.
        every: Iterations of a task between two probes, at least 1. Default: 1. `None` probes only at the start and end
            of tasks and where `dense` asks for it.
        subset: Samples per task, at least 1, drawn once. Default: 1000. `None` takes all.
        windows: Lengths of windowed forgetting and plasticity in iterations, each from 2 to 10**6. Default: (10, 100).
        seed: Seed of the subsets and of random numbers in probes, from 0 to 2**63 - 1. Default: 0.
        dense: Number of iterations from the start of each task that are all probed, at least 0. Default: None, no such
            iterations.
        predict: Function `(net, x, task)` that returns logits `[batch, class]`; it chooses the head of a task.
            Default: `mean_over_time`, one head.
        batch: Samples per forward pass, at least 1. Default: 256.

    Raises:
        ConfigError: A number is out of its range.

    Reference:
        De Lange et al., Continual evaluation for lifelong learning: Identifying the stability gap, ICLR 2023,
        arXiv 2205.13452.

    >>> import torch
    >>> from spikewright.continual import ContinualMonitor
    >>> import spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 2)))
    >>> sets = [(torch.rand(5, 6, 4), torch.arange(6) % 2) for _ in range(2)]
    >>> monitor = ContinualMonitor(sets, every=2)
    >>> step = 0
    >>> for task in range(2):
    ...     monitor.begin_task(task, net, step)
    ...     for _ in range(4):  # an optimizer step goes here
    ...         step += 1
    ...         monitor.after_step(net, step)
    ...     monitor.end_task(net, step)
    >>> [iteration for iteration, accuracy in monitor.trajectory.probes[0]]
    [0, 2, 4, 6, 8]
    """

    def __init__(
        self,
        eval_sets: Sequence[Samples | Callable[[], Samples]],
        every: int | None = 1,
        subset: int | None = 1000,
        windows: Sequence[int] = (10, 100),
        seed: int = 0,
        dense: int | None = None,
        *,
        predict: Predict = mean_over_time,
        batch: int = 256,
    ) -> None:
        check_counts("ContinualMonitor", optional=True, every=every, subset=subset)
        check_counts("ContinualMonitor", least=0, optional=True, dense=dense)
        check_counts("ContinualMonitor", batch=batch)
        check_sizes("ContinualMonitor", least=2, windows=windows)
        check_seed("ContinualMonitor", seed)
        self.eval_sets, self.predict, self.batch = eval_sets, predict, batch
        self.every, self.subset, self.windows, self.seed, self.dense = every, subset, list(windows), seed, dense
        self.trajectory = Trajectory()
        self._step = 0
        self._chosen: list[Tensor] = []  # indices of the subset of each task
        self._sizes: list[int] = []  # number of samples of each evaluation set
        self._held: dict[int, Samples] = {}

    def begin_task(self, i: int, net: Network, step: int) -> None:
        """Begin a task and probe before its first update.

        Args:
            i: Number of the task; tasks begin in order, from 0.
            net: `Network` to probe.
            step: Number of updates so far, over all tasks.

        Raises:
            InputError: This is not the next task, or the previous one has not ended.
        """
        if i != self.trajectory.tasks or i >= len(self.eval_sets):
            raise InputError(
                f"Task {i} was to begin, after {self.trajectory.tasks} others and with evaluation sets for "
                f"{len(self.eval_sets)} tasks. Tasks are numbered in the order in which they are learned. Begin task "
                f"{self.trajectory.tasks}, or give the monitor a set for every task."
            )
        self.trajectory.begin(step)
        self._probe(net, step)

    def after_step(self, net: Network, step: int) -> None:
        """Probe, if a probe is due.

        Args:
            net: `Network` to probe.
            step: Number of updates so far, over all tasks, the latest included.

        Raises:
            InputError: No task is open, or the step does not come after the last one.
        """
        began = self._open_since()
        if step <= self._step:
            raise InputError(
                f"after_step was called for step {step}, and step {self._step} came before. Windows count updates over "
                "all tasks, so every update has a number of its own. Go on counting when a task or an epoch begins."
            )
        self._step = step
        since = step - began
        if since <= (self.dense or 0) or (self.every is not None and since % self.every == 0):
            self._probe(net, step)

    def end_task(self, net: Network, step: int) -> None:
        """Probe and end the open task.

        Repeats a probe already made at this step, since rehearsal, for instance, changes the network without counting
        as an update.

        Args:
            net: `Network` to probe.
            step: Number of updates so far, over all tasks.

        Raises:
            InputError: No task is open.
        """
        self._open_since()
        self._probe(net, step, again=True)
        self.trajectory.end(step)

    def summary(self) -> dict[str, Any]:
        r"""Return all metrics of the trajectory, with the standard errors due to finite subsets.

        An accuracy a on n samples has the binomial standard error :math:`\sqrt{a(1-a)/n}`. The error of `min_acc` does
        not cover the downward bias of a minimum over noisy values, which fixed subsets keep small.
        """
        found = self.trajectory.summary(self.windows)
        samples = [len(chosen) for chosen in self._chosen]
        for row, count in zip(found["by_task"], samples):
            row |= {"samples": count, "acc_error": _error([row["acc"]], [count])}
        found["acc_error"] = _error(self.trajectory.latest, samples)
        found["min_acc_error"] = _error(self.trajectory.minima, samples)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the monitor as plain values and tensors."""
        return {
            "settings": self._settings(),
            "step": self._step,
            "trajectory": self.trajectory.tree(),
            "chosen": list(self._chosen),
            "sizes": list(self._sizes),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` returned.

        Args:
            state: State of a monitor with the same settings.

        Raises:
            CheckpointError: The settings differ, or there are fewer evaluation sets than tasks in the state.
        """
        mine, theirs = self._settings(), state["settings"]
        other = [name for name in mine if mine[name] != theirs.get(name)]
        if other or len(state["sizes"]) > len(self.eval_sets):
            raise CheckpointError(
                f"A monitor of {len(self.eval_sets)} tasks with {mine} cannot continue a state of "
                f"{len(state['sizes'])} tasks with {dict(theirs)}. Probes with different settings are not comparable. "
                "Construct the monitor with the settings of the state."
            )
        self._step, self.trajectory = state["step"], Trajectory.from_tree(state["trajectory"])
        self._chosen, self._sizes, self._held = list(state["chosen"]), list(state["sizes"]), {}

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("every", "subset", "windows", "seed", "dense")}

    def _open_since(self) -> int:
        if len(self.trajectory.ends) == self.trajectory.tasks:
            raise InputError(
                f"A step was reported, but none of the {self.trajectory.tasks} tasks begun is open. A probe belongs to "
                "the task that is being learned. Call begin_task before the first update of a task."
            )
        return self.trajectory.starts[-1]

    def _probe(self, net: Network, step: int, again: bool = False) -> None:
        self._step = max(self._step, step)
        for task, probes in enumerate(self.trajectory.probes):
            if again or not probes or probes[-1][0] != step:
                self.trajectory.add(task, step, self._accuracy(net, task))

    def _accuracy(self, net: Network, task: int) -> float:
        device, correct = next(net.parameters()).device, 0
        with _evaluating(net):
            x, y = self._samples(task)  # which may draw random numbers
            _seed({p.device for p in net.parameters() if p.is_cuda}, self.seed)
            for start in range(0, len(y), self.batch):
                part, classes = x[:, start : start + self.batch], y[start : start + self.batch]
                logits = self.predict(net, _moved(part, device), task)
                if logits.dim() != 2 or len(logits) != len(classes):
                    raise ShapeError(
                        f"A probe of task {task} asked predict for {len(classes)} samples and got "
                        f"{list(logits.shape)}. The class is the largest entry of a row. Return logits [batch, class], "
                        "averaged over time."
                    )
                right = (logits.argmax(-1) == classes.to(device)) & ~logits.isnan().any(-1)
                correct += int(right.sum())
        return correct / len(y)

    def _samples(self, task: int) -> Samples:
        """Return the subset of a task, drawn at the first call."""
        if task not in self._held:
            given = self.eval_sets[task]
            x, y = given() if callable(given) else given
            if x.dim() < 2 or y.dim() != 1 or y.is_floating_point() or not len(y) or len(y) != x.shape[1]:
                raise ShapeError(
                    f"The evaluation set of task {task} has inputs {list(x.shape)} and classes {y.dtype} "
                    f"{list(y.shape)}. A probe needs inputs [time, batch, *feature] and one whole number for each "
                    "sample, of one sample at least. Repeat static inputs with x.expand(steps, *x.shape)."
                )
            if task == len(self._chosen):
                order = torch.randperm(len(y), generator=keyed_generator(self.seed, task))
                self._chosen.append(order[: self.subset].sort().values)
                self._sizes.append(len(y))
            if self._sizes[task] != len(y):
                raise CheckpointError(
                    f"The evaluation set of task {task} has {len(y)} samples, but the run that is resumed had "
                    f"{self._sizes[task]}. Another set cannot continue its trajectory. Give the set it had."
                )
            chosen = self._chosen[task].to(x.device)
            few = x[:1, chosen].expand(len(x), *[-1] * (x.dim() - 1)) if is_static(x) else x[:, chosen]
            self._held[task] = few, y[chosen.to(y.device)]
        return self._held[task]


@contextmanager
def _evaluating(net: Network) -> Iterator[None]:
    """Evaluation mode without gradients; everything is restored afterwards."""
    with untouched(net.module), evaluating(net), torch.no_grad():
        yield


def _seed(devices: set[torch.device], seed: int) -> None:
    """Seed only the generators that are restored; `torch.manual_seed` would seed all devices."""
    torch.default_generator.manual_seed(seed)
    for device in devices:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _moved(x: Tensor, device: torch.device) -> Tensor:
    """Return `x` on a device; a static input stays one step repeated."""
    return x[:1].to(device).expand(x.shape) if is_static(x) else x.to(device)


def _error(accuracies: Sequence[float | None], samples: Sequence[int]) -> float | None:
    """Return the binomial standard error of a mean of accuracies; `None` if one of them is missing."""
    known = [a * (1 - a) / n for a, n in zip(accuracies, samples) if a is not None]
    return math.sqrt(sum(known)) / len(known) if known and len(known) == len(accuracies) else None
