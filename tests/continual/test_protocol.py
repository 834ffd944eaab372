"""Tuning on one data set and judging on another: what is chosen, what is refused, and what is left alone."""

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any, NoReturn

import pytest
import torch

from spikewright.continual.protocol import TwoPhaseProtocol
from spikewright.continual.record import TuningRecord, Values
from spikewright.data import Dataset, Split, load
from spikewright.errors import ConfigError, InputError, NotFinite

WHOLE = load("synthetic", classes=8, size=80)
Scenario = list[Dataset]
Result = dict[str, Any]


def classes(dataset: Dataset, *wanted: int, name: str | None = None) -> Dataset:
    def part(split: Split) -> Split:
        return split.subset(torch.isin(split.labels, torch.tensor(wanted)).nonzero().flatten())

    return replace(dataset, name=name or dataset.name, train=part(dataset.train), test=part(dataset.test))


HT, EVAL = classes(WHOLE, 0, 1, 2, 3), classes(WHOLE, 4, 5, 6, 7)


def pairs(data: Dataset, seed: int, *, per_task: int = 2) -> Scenario:
    """Tasks of so many classes, in an order that the seed draws."""
    labels = data.train.labels.unique()
    order = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))].tolist()
    return [classes(data, *order[i : i + per_task]) for i in range(0, len(order), per_task)]


def algorithm(scenario: Scenario, values: Values, seed: int) -> Result:
    """Best at a rate of 0.3; also depends on the data, the seed, and numbers drawn from torch."""
    mean = sum(float(task.train.images.double().mean()) for task in scenario) / len(scenario) / 255
    noise = 0.01 * float(torch.rand(()))
    return {"accuracy": 0.5 - (values.get("rate", 0.3) - 0.3) ** 2 + 0.1 * mean + noise, "values": dict(values)}


def accuracy(result: Result) -> float:
    return result["accuracy"]


def protocol(**changes: Any) -> TwoPhaseProtocol[Dataset, Scenario, Result]:
    arguments: dict[str, Any] = {
        "make_scenario": pairs,
        "ht_data": HT,
        "eval_data": EVAL,
        "space": {"rate": [0.1, 0.3, 1.0], "memory": [10, 20]},
        "algorithm": algorithm,
        "metric": accuracy,
        "seeds": (3, 4),
    }
    return TwoPhaseProtocol(**arguments | changes)


def plain(data: Dataset, values: Values, seed: int) -> float:
    """A run without any protocol."""
    torch.manual_seed(seed)
    return accuracy(algorithm(pairs(data, seed), values, seed))


class Untouchable:
    """Data that may not be looked at."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise AssertionError(f"'{name}' was looked at")


def test_the_best_mean_over_seeds_wins() -> None:
    record = protocol().tune()
    assert dict(record.values) == {"rate": 0.3, "memory": 10}  # the earlier of equals
    assert [dict(t.values) for t in record.trials] == [
        {"rate": rate, "memory": memory} for rate in (0.1, 0.3, 1.0) for memory in (10, 20)
    ]
    for trial in record.trials:
        assert trial.scores == tuple(plain(HT, trial.values, seed) for seed in (3, 4))
    assert record.best.mean == max(trial.mean for trial in record.trials)
    assert (record.seeds, record.setup["tasks"]) == ((3, 4), 2)
    assert record.versions["spikewright"]


def test_one_lucky_seed_does_not_win() -> None:
    def lucky(scenario: Scenario, values: Values, seed: int) -> Result:
        return {"accuracy": {(0, 3): 1.0, (0, 4): 0.0}.get((values["rate"], seed), 0.6)}

    assert protocol(algorithm=lucky, space={"rate": [0, 1]}).tune().values["rate"] == 1


def test_the_search_does_not_touch_the_evaluation_data() -> None:
    made = protocol(eval_data=Untouchable())
    record = made.tune()
    assert record == protocol().tune()
    with pytest.raises(AssertionError, match="was looked at"):
        made.evaluate(record)


def test_evaluation_trains_on_the_other_data_only() -> None:
    seen: list[Dataset] = []

    def watched(data: Dataset, seed: int) -> Scenario:
        seen.append(data)
        return pairs(data, seed)

    made = protocol(make_scenario=watched)
    record = made.tune()
    assert seen == [HT] * 12
    made.evaluate(record)
    assert seen[12:] == [EVAL] * 2


def test_evaluation_is_determined_by_record_and_seed() -> None:
    record = protocol().tune()
    first = protocol().evaluate(record)
    torch.rand(5)
    assert protocol().evaluate(record) == first
    assert protocol(seeds=(4, 3)).evaluate(record).scores == first.scores[::-1]
    assert first.scores == tuple(plain(EVAL, {"rate": 0.3}, seed) for seed in (3, 4))
    assert first.scores[0] != first.scores[1]


def test_random_state_is_put_back() -> None:
    made, before = protocol(), torch.get_rng_state()
    made.evaluate(made.tune())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("space", [{"rate": [0.2]}, {}])
def test_with_one_value_both_phases_are_plain_runs(space: dict[str, list[float]]) -> None:
    made, values = protocol(space=space), {name: held[0] for name, held in space.items()}
    record = made.tune()
    report = made.evaluate(record)
    assert record.best.scores == tuple(plain(HT, values, seed) for seed in (3, 4))
    assert report.scores == tuple(plain(EVAL, values, seed) for seed in (3, 4))


def test_the_report_has_both_phases_and_their_gap() -> None:
    scores = {(HT.name, 3): 0.9, (HT.name, 4): 0.7, ("other", 3): 0.5, ("other", 4): 0.4}

    def looked_up(scenario: Scenario, values: Values, seed: int) -> Result:
        return {"accuracy": scores[scenario[0].name, seed]}

    made = protocol(algorithm=looked_up, eval_data=replace(EVAL, name="other"), space={"rate": [1]})
    report = made.evaluate(made.tune())
    assert report.score == pytest.approx(0.45)
    assert report.transfer_gap == pytest.approx(0.8 - 0.45)
    head, *rows = (line.split("  ") for line in report.table().splitlines())
    assert "looked_up with {'rate': 1}" in head[0]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells == [
        ["phase", "data", "accuracy", "seeds"],
        ["tuning", "synthetic, 4 classes", "0.8000", "2"],
        ["evaluation", "other, 4 classes", "0.4500", "2"],
        ["transfer gap", "0.3500"],
    ]
    tree = json.loads(json.dumps(report.tree(), allow_nan=False))
    assert (tree["transfer_gap"], tree["evaluation"]["scores"]) == (report.transfer_gap, [0.5, 0.4])
    assert TuningRecord.from_tree(tree["record"]) == report.record


def test_a_record_is_frozen_and_survives_json() -> None:
    made = protocol()
    record = made.tune()
    back = TuningRecord.from_tree(json.loads(json.dumps(record.tree(), allow_nan=False)))
    assert back == record and made.evaluate(back) == made.evaluate(record)
    with pytest.raises(FrozenInstanceError):
        record.best = record.trials[0]  # type: ignore[misc]
    with pytest.raises(TypeError):
        record.values["rate"] = 0.1  # type: ignore[index]
    with pytest.raises(TypeError):
        record.setup["tasks"] = 3  # type: ignore[index]
    made.space["rate"].append(5.0)
    assert record.setup["space"]["rate"] == [0.1, 0.3, 1.0]


def inverted(split: Split) -> Split:
    """The same samples in the other form that images have."""
    return Split(split.images.float() / 255, split.labels)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (classes(WHOLE, 3, 4, 5, 6), r"share 1 classes \['synthetic/3'\] and 20 samples"),
        (HT, "share 4 classes .* and 80 samples"),
        (classes(load("synthetic", classes=8, size=80, seed=1), 0, 4, 5, 6), "share 1 classes .* and 0 samples"),
        (classes(WHOLE, 3, 4, 5, 6, name="other"), r"share 0 classes \[\] and 20 samples"),
        (replace(EVAL, test=HT.test, name="other"), "and 40 samples"),
        (replace(HT, train=inverted(HT.train), test=inverted(HT.test), name="other"), "and 80 samples"),
    ],
)
def test_data_that_overlap_are_refused_before_anything_runs(data: Dataset, message: str) -> None:
    runs: list[int] = []

    def counted(scenario: Scenario, values: Values, seed: int) -> Result:
        return {"accuracy": float(runs.append(seed) or 0.5)}

    made = protocol(eval_data=data, algorithm=counted)
    record = made.tune()
    done = len(runs)
    with pytest.raises(InputError, match=message):
        made.evaluate(record)
    assert len(runs) == done


def test_the_same_labels_of_another_data_set_are_other_classes() -> None:
    other = classes(load("synthetic", classes=8, size=80, seed=1), 0, 1, 2, 3, name="other")
    made = protocol(eval_data=other)
    assert len(made.evaluate(made.tune()).scores) == 2


def test_classes_that_were_numbered_anew_are_known_by_what_says_so() -> None:
    def renumbered(data: Dataset, first: int) -> Dataset:
        parts = (Split(s.images, s.labels - first) for s in (data.train, data.test))
        return replace(data, **dict(zip(("train", "test"), parts)))

    halves = {"ht_data": HT, "eval_data": renumbered(EVAL, 4)}
    with pytest.raises(InputError, match="share 4 classes"):
        protocol(**halves).evaluate(protocol(**halves).tune())
    made = protocol(**halves, classes_of=lambda data: {f"{int(data is HT)}/{n}" for n in range(4)})
    assert made.evaluate(made.tune()).scores == protocol().evaluate(protocol().tune()).scores


def other_algorithm(scenario: Scenario, values: Values, seed: int) -> Result:
    return {"accuracy": 0.5}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"configuration": {"per_task": 1}}, "configuration"),
        ({"space": {"rate": [0.1, 0.3, 1.0]}}, "space"),
        ({"algorithm": other_algorithm}, "algorithm"),
        ({"metric": max}, "metric"),
        ({"ht_data": classes(WHOLE, 0, 1)}, "data"),
    ],
)
def test_a_record_of_something_else_is_refused(changes: dict[str, Any], name: str) -> None:
    record = protocol(configuration={"per_task": 2}).tune()
    with pytest.raises(ConfigError, match=rf"^A record of {name} .* Tune this one"):
        protocol(**{"configuration": {"per_task": 2}} | changes).evaluate(record)


def test_values_that_were_never_tried_are_refused() -> None:
    made = protocol()
    record = made.tune()
    forged = replace(record, best=replace(record.best, values={"rate": 7.0, "memory": 10}))
    with pytest.raises(ConfigError, match=r"A record of values \{'rate': 7.0"):
        made.evaluate(forged)


def test_other_numbers_of_tasks_are_refused() -> None:
    made = protocol().tune()
    assert protocol(configuration={"per_task": 1}).tune().setup["tasks"] == 4
    with pytest.raises(ConfigError, match=r"has 1 tasks .* had 2"):
        protocol(eval_data=classes(WHOLE, 4, 5)).evaluate(made)

    def uneven(data: Dataset, seed: int) -> Scenario:
        return pairs(data, seed)[: seed - 2]

    with pytest.raises(ConfigError, match=r"\[1, 2\] tasks, depending on the seed"):
        protocol(make_scenario=uneven).tune()


@pytest.mark.parametrize("fail", [lambda: float("nan"), lambda: float("inf")])
def test_what_does_not_stay_finite_does_not_win(fail: Callable[[], float]) -> None:
    def fragile(scenario: Scenario, values: Values, seed: int) -> Result:
        if values["rate"] == 2 and seed == 4:
            raise NotFinite("the loss")
        return {"accuracy": fail() if values["rate"] == 3 else values["rate"] / 2}

    record = protocol(algorithm=fragile, space={"rate": [1, 2, 3]}).tune()
    assert record.values["rate"] == 1
    assert [t.scores for t in record.trials] == [(0.5, 0.5), (1.0, None), (None, None)]
    assert TuningRecord.from_tree(json.loads(json.dumps(record.tree(), allow_nan=False))) == record
    with pytest.raises(NotFinite, match="tuned over 2 points"):
        protocol(algorithm=fragile, space={"rate": [2, 3]}).tune()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"rate": []}}, "Give values, and each seed once"),
        ({"seeds": ()}, "Give values, and each seed once"),
        ({"seeds": (1, 1)}, "Give values, and each seed once"),
        ({"space": {"rate": [(0.9, 0.99)]}}, r"space=.*Use numbers, strings and lists"),
        ({"space": {"rate": [torch.ones(1)]}}, r"space=.*Use numbers, strings and lists"),
        ({"configuration": {"rate": float("nan")}}, r"configuration=.*Use numbers, strings and lists"),
    ],
)
def test_what_cannot_be_tuned(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        protocol(**changes)
