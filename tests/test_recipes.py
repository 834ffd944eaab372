"""Every recipe names things that exist, and its network and rule run together."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from spikewright import data as datasets
from spikewright.continual import ContinualExperiment, build_continual, configure_continual
from spikewright.data import AUGMENTATIONS, Dataset, Split
from spikewright.graph._evaluate import graph_of
from spikewright.graph.build import MODELS as GRAPH_MODELS
from spikewright.graph.build import resolved
from spikewright.graph.config import configure_reasoning
from spikewright.graph.data import graph_names, load_graph
from spikewright.rules import HLOP
from spikewright.train import configure
from spikewright.train._build import build_network, build_rule
from spikewright.train.components import LOSSES, MODELS, OPTIMIZERS, construct, options
from spikewright.train.schedule import SCHEDULES

FOLDER = Path(__file__).parent.parent / "recipes"
COURSES = sorted(FOLDER.glob("continual-*.toml"))
REASONING = sorted(FOLDER.glob("reason-*.toml"))
RECIPES = sorted(set(FOLDER.glob("*.toml")) - {*COURSES, *REASONING})
DIGITS, PHOTOGRAPHS = ((1, 28, 28), 10), ((3, 32, 32), 10)
SHAPES = {"mnist": DIGITS, "fashion_mnist": DIGITS, "cifar10": PHOTOGRAPHS, "cifar100": ((3, 32, 32), 100)}
FOLDERS = {"svhn": PHOTOGRAPHS, "notmnist": DIGITS, "miniimagenet": ((3, 84, 84), 100)}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_a_step_of_its_own_network(path):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    # What moves a weight must be its gradient, so nothing decays.
    overrides = ["optimizer.weight_decay=0.0"]
    if "width" in options(MODELS[configure(path).model["name"]]):
        overrides.append("model.width=0.0625")
    config = configure(path, overrides=overrides)
    shape, classes = SHAPES[config.data["name"]]
    net = build_network(config, shape, classes)
    loss = construct("loss", LOSSES, config.loss)
    optimizer = construct("optimizer", OPTIMIZERS, config.optimizer, net.parameters())
    construct("schedule", SCHEDULES, config.schedule, optimizer, 10, config.train.epochs)
    before = [p.detach().clone() for p in net.parameters()]
    for _ in build_rule(config).updates(net, torch.rand(12, 2, *shape), torch.tensor([0, classes - 1]), loss):
        optimizer.step()
        optimizer.zero_grad()
    assert any(not torch.equal(a, b) for a, b in zip(before, net.parameters()))


@pytest.mark.parametrize("path", [*RECIPES, *COURSES], ids=lambda path: path.stem)
def test_a_recipe_names_known_data(path):
    config = configure_continual(path).config if path in COURSES else configure(path)
    assert config.data["name"] in datasets.names()
    assert config.data.get("augment", "none") in AUGMENTATIONS
    assert path.name in path.read_text(), "the command in the comment is the file's own"


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two samples of each class in the place of data sets."""

    def load(name: str, data_dir: str | None = None, **arguments: Any) -> Dataset:
        folder = Path(data_dir).name if data_dir else "miniimagenet"
        shape, classes = FOLDERS[folder] if name == "folder" else SHAPES[name]
        split = Split(torch.rand(2 * classes, *shape), torch.arange(classes).repeat(2))
        moments = ((0.5,) * shape[0], (0.25,) * shape[0])
        return Dataset(name, split, split, classes, *moments)

    monkeypatch.setattr(datasets, "load", load)


def learn(course: ContinualExperiment, index: int) -> set[str]:
    """Learn one batch of a task; return what has moved."""
    parameters = dict(course.net.module.named_parameters())
    before = {name: p.detach().clone() for name, p in parameters.items()}
    experiment = course.experiment(index, course.scenario.task(index))
    x, y = next(experiment.training.epoch(0))
    for _ in course.rule.updates(course.net, x, y, course.loss):
        experiment.optimizer.step()
        experiment.optimizer.zero_grad()
    return {name for name, p in parameters.items() if not torch.equal(p, before[name])}


@pytest.mark.parametrize("path", COURSES, ids=lambda path: path.stem)
@pytest.mark.long
def test_a_course_learns_a_batch_of_two_tasks(path, made_up):
    overrides = ["train.steps=4", "train.batch_size=6", "rule.rows=0.3"]
    if "width" in options(MODELS[configure_continual(path).config.model["name"]]):
        overrides.append("model.width=0.2")
    course = build_continual(configure_continual(path, overrides))
    synapses = {f"{name}.weight" for name in course.net.sites.synapses}
    assert learn(course, 0) >= synapses
    x, y = course.sample(0, course.scenario.task(0), course.rule.samples)
    course.rule.next_task(course.net, x, y, course.loss)
    assert learn(course, 1) == synapses, "all else is held still"


def resnet(stem: int, *blocks: tuple[int, ...], **more: int) -> dict[str, int]:
    """Rows at the weights of a residual network: of each block at both convolutions, and at the shortcut if any."""
    places = ("branch.0", "branch.3", "shortcut")
    named = {f"blocks.{i}.{place}": rows for i, block in enumerate(blocks) for place, rows in zip(places, block)}
    return {"stem": stem, **named, **more}


ROWS = ((40, 40), (40, 40), (40, 100, 6), (100, 100), (100, 200, 8), (200, 200), (200, 200, 16), (200, 200))
FIRST = ((90, 90), (90, 90), (90, 180, 10), (180, 180), (180, 360, 20), (360, 360), (360, 720, 40), (720, 720))
SECOND = ((6, 6), (6, 6), (6, 12, 1), (12, 12), (12, 24, 2), (24, 24), (24, 48, 4), (48, 48))
LATER = ((2, 2), (2, 2), (2, 4, 0), (4, 4), (4, 8, 0), (8, 8), (8, 16, 0), (16, 16))


def mlp(first: int, second: int, readout: int) -> dict[str, int]:
    return {"features.1": first, "features.3": second, "readout": readout}


def cnn(*rows: int) -> dict[str, int]:
    return dict(zip(("features.0", "features.4", "features.8"), rows))


DIGITS_ROWS = {1: mlp(80, 200, 100)} | {
    task: mlp(rows, rows, rows) for task, rows in ((2, 70), (3, 70), (4, 50), (6, 50), (7, 30), (9, 30), (10, 10))
}
PUBLISHED: dict[str, dict[int, dict[str, int]]] = {
    "pmnist-hlop-dsr": DIGITS_ROWS,
    "pmnist-hlop-bptt": DIGITS_ROWS,
    "pmnist-hlop-ottt": DIGITS_ROWS,
    "split-cifar100-hlop-dsr": {1: cnn(6, 100, 200), 2: cnn(2, 20, 40), 10: cnn(2, 20, 40)},
    "5-datasets-hlop-dsr": {1: resnet(6, *ROWS), 2: resnet(6, *ROWS)},
    "5-datasets-domain-hlop-dsr": {1: resnet(6, *ROWS, readout=10), 2: resnet(6, *ROWS, readout=10)},
    "miniimagenet-hlop-dsr": {
        1: resnet(24, *FIRST),
        **dict.fromkeys((2, 6), resnet(2, *SECOND)),
        **dict.fromkeys((7, 20), resnet(0, *LATER)),
    },
}
"""Rows of lateral weights that tasks add, counted from 1."""


@pytest.mark.parametrize("path", COURSES, ids=lambda path: path.stem)
@pytest.mark.long
def test_lateral_weights_have_the_published_rows(path, made_up):
    expected = PUBLISHED[path.stem.removeprefix("continual-")]
    course = build_continual(configure_continual(path))
    rule, x = course.rule, torch.zeros(1, 1, *course.scenario.shape)
    assert isinstance(rule, HLOP) and not rule.orthonormal
    for task in range(1, max(expected) + 1):
        found = {name: len(subspace.new) for name, subspace in rule.subspaces.by_name().items()}
        assert found == expected.get(task, found), f"task {task}"
        rule.next_task(course.net, x, torch.tensor([0]), course.loss)


@pytest.mark.parametrize("path", COURSES, ids=lambda path: path.stem)
@pytest.mark.long
def test_a_course_is_as_long_and_as_fast_as_published(path, made_up):
    kind = path.stem.removeprefix("continual-").partition("-hlop-")[0]
    tasks, epochs, rates, momentum = {
        "pmnist": (10, 1, (0.1, 0.1), 0),
        "split-cifar100": (10, 200, (0.01, 0.01), 0.9),
        "5-datasets": (5, 100, (0.1, 0.01), 0.9),
        "5-datasets-domain": (5, 100, (0.1, 0.01), 0.9),
        "miniimagenet": (20, 100, (0.1, 0.01), 0.9),
    }[kind]
    given = configure_continual(path)
    course, train = build_continual(given), given.config.train
    assert (len(course.scenario), train.epochs, train.batch_size) == (tasks, epochs, 64)
    optimizer, schedule, loss = (course.config[section] for section in ("optimizer", "schedule", "loss"))
    if "dsr" in path.stem:
        assert train.steps == 20 and loss["leak"] == pytest.approx(math.exp(-0.05))
    else:
        assert train.steps == 6 and loss["name"] == ("on_rate" if "bptt" in path.stem else "per_step")
    warmup = 5 if kind == "split-cifar100" else 0
    assert (schedule["name"], schedule.get("warmup", 0)) == ("constant" if kind == "pmnist" else "cosine", warmup)
    assert (optimizer["lr"], course.settings.later_lr or optimizer["lr"]) == rates
    assert (optimizer["name"], optimizer["momentum"], optimizer["weight_decay"]) == ("sgd", momentum, 0)
    assert course.scenario.heads == (kind not in ("pmnist", "5-datasets-domain"))
    assert {course.scenario.task(index).shape for index in range(tasks)} == {course.scenario.shape}


PARAMETERS = {
    "fb15k-237-grsnn": (237, 520_993),
    "fb15k-237-grsnn-plus": (237, 1_033_889),
    "wn18rr-grsnn": (11, 29_217),
    "wn18rr-grsnn-plus": (11, 53_537),
    "fb237_v1-grsnn": (180, 396_961),
    "wn18rr_v1-grsnn": (9, 24_865),
    "cora-grsnn": (None, 5_345),
    "citeseer-grsnn": (None, 5_345),
}
"""Relations of a graph, and parameters of the published model."""


@pytest.mark.parametrize("path", REASONING, ids=lambda path: path.stem)
def test_a_model_for_a_graph_has_the_published_size_and_answers(path):
    config, name = configure_reasoning(path), path.stem.removeprefix("reason-")
    assert config.data["name"] in {known.lower() for known in graph_names()}
    assert path.name in path.read_text(), "the command in the comment is the file's own"
    relations, size = PARAMETERS.get(name, (17, None))
    model = construct("model", GRAPH_MODELS, resolved(config.model), 1 if relations is None else 2 * relations)
    assert size is None or sum(p.numel() for p in model.parameters()) == size
    if relations == 17:
        data = load_graph("family")
        scores = model(graph_of(data, data.train), torch.tensor([0, 1]), torch.tensor([3, 20]))
        assert scores.shape == (2, len(data.train.entities)) and scores.isfinite().all()
