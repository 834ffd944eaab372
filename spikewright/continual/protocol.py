"""Hyper-parameters are chosen on one data set and judged on another."""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

import spikewright
from spikewright.continual.record import GridPoint, ProtocolReport, TuningRecord, Values
from spikewright.errors import ConfigError, InputError, NotFinite


class LabelledImages(Protocol):
    """Samples `[n, ...]` with one class for each; `spikewright.data.Split` is one."""

    @property
    def images(self) -> Tensor: ...
    @property
    def labels(self) -> Tensor: ...


class Data(Protocol):
    """A data set with a name; `spikewright.data.Dataset` is one.

    A part of a data set keeps its name, and the labels of its classes; see `classes_of` where it does not.
    """

    @property
    def name(self) -> str: ...
    @property
    def train(self) -> LabelledImages: ...
    @property
    def test(self) -> LabelledImages: ...


D = TypeVar("D", bound=Data)
S = TypeVar("S", bound=Sized)
R = TypeVar("R")


def classes_by_label(data: Data) -> set[str]:
    """Return names of the classes of data: that of the data, and the label."""
    labels = torch.cat([data.train.labels, data.test.labels])
    return {f"{data.name}/{label}" for label in labels.unique().tolist()}


class TwoPhaseProtocol(Generic[D, S, R]):
    """Chooses hyper-parameters in a scenario of one data set, and judges them in the same scenario of another.

    Data are other data if they share no class and no sample.  Another order
    of the pixels, another rotation or another seed of the same samples is the same data: tasks made in this way from
    one data set have no second phase.

    Args:
        make_scenario: Makes the tasks, as `make_scenario(data, seed, **configuration)`.
        ht_data: Data to choose on.
        eval_data: Data to judge on; not touched before `evaluate`.
        space: For every hyper-parameter, its values; all combinations are tried.
        algorithm: Learns, as `algorithm(scenario, values, seed)`.
        metric: Makes a number of what the algorithm returns; more is better.
        seeds: Of the runs, in both phases; torch is seeded with each before its scenario is made.
        configuration: What the scenario is made with, in both phases: tasks, classes per task, memory, epochs.

        classes_of: Says which classes data hold, the same name for the same class in both.

    Raises:
        ConfigError: There is nothing to try, or a value that JSON would not keep.

    Reference:
        Cha and Cho, Hyperparameters in Continual Learning: A Reality Check, TMLR 2025, arXiv 2403.09066.
    """

    def __init__(
        self,
        make_scenario: Callable[..., S],
        ht_data: D,
        eval_data: D,
        space: Mapping[str, Sequence[Any]],
        algorithm: Callable[[S, Values, int], R],
        metric: Callable[[R], float],
        seeds: Sequence[int],
        configuration: Values | None = None,
        classes_of: Callable[[D], set[str]] = classes_by_label,
    ) -> None:
        self.space = {name: list(values) for name, values in space.items()}
        self.configuration = dict(configuration or {})
        self.seeds = tuple(seeds)
        for name, value in (("space", self.space), ("configuration", self.configuration)):
            if not _is_plain(value):
                raise ConfigError(
                    f"TwoPhaseProtocol({name}={value}) holds something that JSON would not give back as it is. A "
                    "record of the choice has to be kept and read again. Use numbers, strings and lists of them."
                )
        if not all(self.space.values()) or not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(
                f"TwoPhaseProtocol(space={self.space}, seeds={list(self.seeds)}) was asked for. A choice takes at "
                "least one value of every hyper-parameter, and runs that differ. Give values, and each seed once."
            )
        self.make_scenario, self.algorithm, self.metric = make_scenario, algorithm, metric
        self.ht_data, self.eval_data, self.classes_of = ht_data, eval_data, classes_of

    def tune(self) -> TuningRecord:
        """Try the whole grid on the first data; the best mean over seeds wins, the earlier one of equals.

        Raises:
            NotFinite: No values could be trained with.
            ConfigError: The scenario has other numbers of tasks with other seeds.
        """
        trials, tasks = [], set[int]()
        for values in self._grid():
            scores: list[float | None] = []
            for seed in self.seeds:
                try:
                    count, score = self._run(self.ht_data, values, seed)
                    tasks.add(count)
                    scores.append(score)
                except NotFinite:
                    scores.append(None)
            trials.append(GridPoint(values, tuple(scores)))
        best = max(trials, key=lambda trial: trial.mean)
        if best.mean == -math.inf:
            raise NotFinite(
                f"{_name(self.algorithm)} was tuned over {len(trials)} points, and at each of them a run did not stay "
                "finite. There is nothing to choose from. Widen the grid towards smaller learning rates."
            )
        if len(tasks) > 1:
            raise ConfigError(
                f"The scenario of '{self.ht_data.name}' has {sorted(tasks)} tasks, depending on the seed. Scores of "
                "scenarios that differ cannot be averaged. Let the configuration alone decide the number of tasks."
            )
        versions = {"spikewright": spikewright.__version__, "torch": torch.__version__}
        return TuningRecord(best, tuple(trials), self.seeds, deepcopy(self._setup(tasks.pop())), versions)

    def evaluate(self, record: TuningRecord) -> ProtocolReport:
        """Train on the second data with the values of a record, once per seed.

        Raises:
            ConfigError: The record was made for something else.
            InputError: The two data share a class or a sample.
            NotFinite: A run did not stay finite.
        """
        mine, theirs = self._setup(record.setup.get("tasks")), record.setup
        other = [name for name in mine if mine[name] != theirs.get(name)]
        if other or dict(record.values) not in self._grid():
            name = other[0] if other else "values"
            raise ConfigError(
                f"A record of {name} {theirs.get(name, dict(record.values))} was to be evaluated by a protocol of "
                f"{mine.get(name, self.space)}. Values chosen for one configuration say nothing of another. Tune this "
                "one, or make the protocol that the record came from."
            )
        classes = self._check_apart()
        scores = []
        for seed in self.seeds:
            scores.append(self._run(self.eval_data, record.values, seed, theirs["tasks"])[1])
        return ProtocolReport(record, tuple(scores), self.seeds, classes)

    def _run(self, data: D, values: Values, seed: int, tasks: int | None = None) -> tuple[int, float]:
        """Return the number of tasks, which may have to be that of `tasks`, and the score."""
        with _seeded(seed):
            scenario = self.make_scenario(data, seed, **self.configuration)
            if tasks not in (None, len(scenario)):
                raise ConfigError(
                    f"The scenario of '{data.name}' has {len(scenario)} tasks with {self.configuration}, and that the "
                    f"values were chosen in had {tasks}. Values chosen for one configuration say nothing of another. "
                    "Divide the classes evenly between the two data sets."
                )
            score = float(self.metric(self.algorithm(scenario, dict(values), seed)))
        if not math.isfinite(score):
            raise NotFinite(
                f"{_name(self.metric)} of {_name(self.algorithm)} is {score} with {dict(values)} and seed {seed}. It "
                "cannot be compared. Use values that can be trained with."
            )
        return len(scenario), score

    def _check_apart(self) -> tuple[str, str]:
        """Raise if the data are not apart; return a word on each."""
        first, second = self.ht_data, self.eval_data
        ours, theirs = self.classes_of(first), self.classes_of(second)
        classes, samples = sorted(ours & theirs), len(_samples(first) & _samples(second))
        if classes or samples:
            raise InputError(
                f"Values chosen on '{first.name}' were to be judged on '{second.name}', but these share "
                f"{len(classes)} classes {classes[:5]} and {samples} samples. Values fitted to data do well on these "
                "data: that is what the second phase is to find out. Divide a data set by its classes, or take another "
                "one; the same samples in another order, rotation or permutation are not another one."
            )
        return f"{first.name}, {len(ours)} classes", f"{second.name}, {len(theirs)} classes"

    def _grid(self) -> list[dict[str, Any]]:
        return [dict(zip(self.space, point)) for point in itertools.product(*self.space.values())]

    def _setup(self, tasks: int | None) -> dict[str, Any]:
        return {
            "algorithm": _name(self.algorithm),
            "metric": _name(self.metric),
            "space": self.space,
            "configuration": self.configuration,
            "tasks": tasks,
            "data": {
                "name": self.ht_data.name,
                "classes": sorted(self.classes_of(self.ht_data)),
                "digest": hashlib.sha256(b"".join(sorted(_samples(self.ht_data)))).hexdigest(),
            },
        }


def _samples(data: Data) -> set[bytes]:
    """Return hashes of all samples; bytes count as the fractions of 255 that they stand for."""
    return {_hash(image) for part in (data.train, data.test) for image in part.images}


def _hash(image: Tensor) -> bytes:
    image = image.float() / 255 if image.dtype == torch.uint8 else image.float()
    shape = str(list(image.shape)).encode()
    return hashlib.blake2b(shape + image.cpu().contiguous().numpy().tobytes(), digest_size=16).digest()


def _is_plain(value: object) -> bool:
    try:
        return json.loads(json.dumps(value)) == value
    except (TypeError, ValueError):
        return False


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
