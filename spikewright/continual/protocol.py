"""Two-phase evaluation: hyper-parameters are tuned on one data set and judged on another."""

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
from spikewright._util.arguments import shown
from spikewright._util.ranges import check_row, check_seed
from spikewright.continual.record import GridPoint, ProtocolReport, TuningRecord, Values
from spikewright.errors import ConfigError, InputError, NotFinite


class LabelledImages(Protocol):
    """Samples `[n, ...]` with one class each, such as `spikewright.data.Split`."""

    @property
    def images(self) -> Tensor: ...
    @property
    def labels(self) -> Tensor: ...


class Data(Protocol):
    """A data set with a name and two parts, such as `spikewright.data.Dataset`.

    A subset of a data set keeps its name and the labels of its classes; otherwise `classes_of` has to map the classes.
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
    """Return the classes of a data set as `name/label`."""
    labels = torch.cat([data.train.labels, data.test.labels])
    return {f"{data.name}/{label}" for label in labels.unique().tolist()}


class TwoPhaseProtocol(Generic[D, S, R]):
    """Tunes hyper-parameters in a scenario of one data set, and evaluates them in the same scenario of another.

    Scores on the data that hyper-parameters were tuned on are too good. The two data sets may therefore share no class
    and no sample; permutations, rotations or other seeds of the same samples count as the same data.

    **Cost**: `tune` trains once per grid point and seed, `evaluate` once per seed.

    Args:
        make_scenario: Function `(data, seed, **configuration)` that returns the scenario, an object with a length.
        ht_data: Data set for tuning, such as a `Dataset`.
        eval_data: Data set for evaluation, such as a `Dataset`; not used before `evaluate`.
        space: For every hyper-parameter the values to try, at least one each; the grid holds all combinations.
        algorithm: Function `(scenario, values, seed)` that trains and returns a result.
        metric: Function of that result that returns a number; larger is better.
        seeds: Seeds of the runs in both phases, each from 0 to 2**63 - 1, all different; torch is seeded before each
            scenario is made.
        configuration: Further arguments of `make_scenario`, the same in both phases. Default: None, no arguments.
        classes_of: Function of a data set that returns the names of its classes; equal names mean equal classes.
            Default: `classes_by_label`, the name of the data set and the label.

    Raises:
        ConfigError: The grid or the seeds are empty, a seed occurs twice, or JSON cannot represent a value.

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
        if not isinstance(space, Mapping) or not isinstance(configuration, Mapping | None):
            raise ConfigError(
                f"TwoPhaseProtocol(space={shown(space)}, configuration={shown(configuration)}) was asked for. Both are "
                "mappings from names to values, such as {'lr': [0.1, 0.01]}."
            )
        check_row("TwoPhaseProtocol", "seeds", seeds, "(0, 1, 2)")
        for name, values in space.items():
            check_row("TwoPhaseProtocol", f"space[{name!r}]", values, "[0.1, 0.01]")
        self.space = {name: list(values) for name, values in space.items()}
        self.configuration = dict(configuration or {})
        self.seeds = tuple(seeds)
        for seed in self.seeds:
            check_seed("TwoPhaseProtocol", seed, "seeds")
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
        """Run the grid on the tuning data, and return a `TuningRecord` of the point with the best mean over seeds.

        Of equal points the first wins. A run with a non-finite loss disqualifies its point.

        Raises:
            NotFinite: Every point has a run that is not finite.
            ConfigError: The number of tasks depends on the seed.
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
        """Train on the evaluation data with the tuned values, once per seed, and return a `ProtocolReport`.

        Args:
            record: `TuningRecord` from `tune` of this protocol.

        Raises:
            ConfigError: The record belongs to another setup, or the evaluation scenario has another number of tasks.
            InputError: The two data sets share a class or a sample.
            NotFinite: A score is not finite.
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
        """Return the number of tasks, which must be `tasks` if given, and the score."""
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
        """Raise if the data sets overlap; return a description of each."""
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
    """Return the hashes of all samples; uint8 images count as fractions of 255."""
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
