"""Evaluation while a stream of tasks is learned, which changes nothing of the learning."""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikewright._util.randomness import keyed_generator
from spikewright._util.trial import evaluating, untouched
from spikewright.continual.trajectory import Trajectory
from spikewright.errors import CheckpointError, ConfigError, InputError, ShapeError
from spikewright.network import Network
from spikewright.temporal import is_static

Samples = tuple[Tensor, Tensor]
"""Inputs `[time, batch, *feature]` and classes `[batch]`."""
Predict = Callable[[Network, Tensor, int], Tensor]
"""Returns logits `[batch, class]` of a network for inputs of a task."""


def mean_over_time(net: Network, x: Tensor, task: int) -> Tensor:
    """Return the mean over time of all outputs: one head for all tasks."""
    return net(x).mean(0)


class ContinualMonitor:
    """Probes a network on all tasks begun, each on a fixed subset, from before the first update of a task to its end.

    A probe runs in evaluation mode and leaves no mark: modes, buffers, random state and `.grad` are put back, and a
    sequence that is half way through goes on as if nothing had been.  Random numbers of a probe are the same each
    time.

    Args:
        eval_sets: For every task, samples, or a function that returns them; it is called when the task begins.
        every: Iterations of a task between probes; `None` probes where `dense` says, and when tasks begin and end.
        subset: Samples per task, drawn once; `None` takes all.
        windows: Of windowed forgetting and plasticity, in iterations.
        seed: Of the subsets and the random numbers of probes.
        dense: The first iterations of every task, all of which are probed; `None` has none.
        predict: Makes logits of a network, inputs and the number of their task, from 0: this chooses the head.
        batch: Samples that run at once.

    Raises:
        ConfigError: A number is out of its range.
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
        least = {"every": 1, "subset": 1, "dense": 0, "batch": 1, "seed": 0, "windows": 2}
        given = {"every": every, "subset": subset, "dense": dense, "batch": batch, "seed": seed}
        given["windows"] = min(windows, default=None)
        for name, value in given.items():
            if value is not None and value < least[name]:
                raise ConfigError(
                    f"ContinualMonitor({name}={value}) was asked for, which is below {least[name]}. With less, nothing "
                    f"would be measured. Give {name} of {least[name]} or more."
                )
        self.eval_sets, self.predict, self.batch = eval_sets, predict, batch
        self.every, self.subset, self.windows, self.seed, self.dense = every, subset, list(windows), seed, dense
        self.trajectory = Trajectory()
        self._step = 0
        self._chosen: list[Tensor] = []  # by task, which samples
        self._sizes: list[int] = []  # by task, out of how many
        self._held: dict[int, Samples] = {}

    def begin_task(self, i: int, net: Network, step: int) -> None:
        """Begin task `i` and probe before its first update, where a drop starts.

        Args:
            i: Number of the task; tasks are taken in order, from 0.
            net: The network.
            step: Updates so far, over all tasks.

        Raises:
            InputError: This is not the next task, or the one before has not ended.
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
        """Probe, if it is time.

        Args:
            net: The network.
            step: Updates so far, over all tasks, with the one just made.

        Raises:
            InputError: No task is open, or this step is not after the last.
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
        """Probe and close the open task.

        What was probed at this step already is probed again: something may have been done since that counts as no
        update, such as rehearsal.

        Raises:
            InputError: No task is open.
        """
        self._open_since()
        self._probe(net, step, again=True)
        self.trajectory.end(step)

    def summary(self) -> dict[str, Any]:
        r"""Return all metrics of the trajectory, and how far off they may be because subsets are finite.

        An accuracy a on n samples has the binomial standard error :math:`\sqrt{a(1-a)/n}`.  That of `min_acc` leaves
        out that a minimum over many noisy values is also biased downwards, which subsets that never change keep small.
        """
        found = self.trajectory.summary(self.windows)
        samples = [len(chosen) for chosen in self._chosen]
        for row, count in zip(found["by_task"], samples):
            row |= {"samples": count, "acc_error": _error([row["acc"]], [count])}
        found["acc_error"] = _error(self.trajectory.latest, samples)
        found["min_acc_error"] = _error(self.trajectory.minima, samples)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on from: plain values and tensors."""
        return {
            "settings": self._settings(),
            "step": self._step,
            "trajectory": self.trajectory.tree(),
            "chosen": list(self._chosen),
            "sizes": list(self._sizes),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            CheckpointError: It is of a monitor with other settings.
        """
        mine, theirs = self._settings(), state["settings"]
        other = [name for name in mine if mine[name] != theirs.get(name)]
        if other or len(state["sizes"]) > len(self.eval_sets):
            raise CheckpointError(
                f"A monitor of {len(self.eval_sets)} tasks with {mine} was to go on from one that knew "
                f"{len(state['sizes'])} tasks, with {dict(theirs)}. Probes made in different ways cannot be compared. "
                "Make the monitor as it was made before."
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
            x, y = self._samples(task)  # which may draw
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
        """Return the subset of a task, drawn when first asked for."""
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
    """Evaluation mode without gradients; everything is put back."""
    with untouched(net.module), evaluating(net), torch.no_grad():
        yield


def _seed(devices: set[torch.device], seed: int) -> None:
    """Seed what is put back afterwards, and no more: `torch.manual_seed` would reach all devices."""
    torch.default_generator.manual_seed(seed)
    for device in devices:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _moved(x: Tensor, device: torch.device) -> Tensor:
    """Return `x` on a device, still one step if it is one step repeated."""
    return x[:1].to(device).expand(x.shape) if is_static(x) else x.to(device)


def _error(accuracies: Sequence[float | None], samples: Sequence[int]) -> float | None:
    """Return the binomial standard error of a mean of accuracies; `None` where one of them is missing."""
    known = [a * (1 - a) / n for a, n in zip(accuracies, samples) if a is not None]
    return math.sqrt(sum(known)) / len(known) if known and len(known) == len(accuracies) else None
