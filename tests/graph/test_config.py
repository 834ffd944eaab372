"""What is configured: usual values by graph, under a recipe, under flags, under single settings."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from spikewright.errors import ConfigError
from spikewright.graph.build import build_reasoning
from spikewright.graph.config import GraphSettings, ReasoningConfig, configure_reasoning
from spikewright.graph.data import GraphData, GraphSplit
from spikewright.graph.data.registry import graph_names
from spikewright.graph.models import GRSNN, NBFNet
from spikewright.graph.presets import PRESETS, preset

RECIPE = """
model = "grsnn+"
[data]
name = "wn18rr"
[optimizer]
lr = 0.5
[train]
epochs = 7
negatives = 9
"""


def told(config: ReasoningConfig, *keys: str) -> list[Any]:
    return [getattr(config.train, key) for key in keys]


@pytest.mark.parametrize(
    ("name", "batch", "accumulate", "negatives", "temperature", "lr", "between", "model"),
    [
        ("fb15k-237", 5, 6, 256, 0.5, 2e-3, True, {"scale": 0.1}),
        ("wn18rr", 8, 4, 256, 1.0, 2e-3, False, {}),
        ("fb237_v3", 32, 1, 50, 0.5, 5e-3, False, {}),
        ("WN18RR_v1", 32, 1, 50, 1.0, 5e-3, False, {}),
        ("cora", 32, 1, 1, 0.5, 2e-3, True, {"dependent": False, "symmetric": True}),
        ("CiteSeer", 32, 1, 1, 0.5, 2e-3, True, {"dependent": False, "symmetric": True}),
        ("folder", 32, 1, 32, 0.5, 2e-3, False, {}),
    ],
)
def test_what_is_usual_for_a_graph(
    name: str, batch: int, accumulate: int, negatives: int, temperature: float, lr: float, between: bool, model: Any
) -> None:
    """The papers' hyper-parameters, in any capitals."""
    for spelled in (name, name.lower(), name.upper()):
        config = configure_reasoning(data=spelled)
        assert told(config, "batch_size", "accumulate") == [batch, accumulate]
        assert told(config, "negatives", "temperature", "between", "epochs") == [negatives, temperature, between, 20]
        assert config.optimizer == {"name": "adam", "lr": lr}
        assert config.model == {"name": "grsnn", **model} and config.data == {"name": spelled}


def test_every_preset_is_of_a_graph_that_there_is() -> None:
    known = {name.lower() for name in graph_names()}
    assert set(PRESETS) == known - {"folder", "inductive"}
    for name in PRESETS:  # and can be built
        config = configure_reasoning(data=name)
        assert GRSNN(4, **{k: v for k, v in config.model.items() if k != "name"})


def test_an_inductive_graph_is_named_by_its_split() -> None:
    config = configure_reasoning(data={"name": "inductive", "split": "WN18RR_v2"})
    assert told(config, "temperature", "negatives") == [1.0, 50] and config.optimizer["lr"] == 5e-3
    assert config.data == {"name": "inductive", "split": "WN18RR_v2"}
    by_override = configure_reasoning(overrides=["data.name=inductive", "data.split=fb237_v4"])
    assert told(by_override, "temperature", "negatives") == [0.5, 50]


def test_a_preset_is_a_copy() -> None:
    preset("wn18rr")["train"]["batch_size"] = 77
    assert preset("wn18rr")["train"]["batch_size"] == 8 and preset("folder") == {}


def test_the_nearer_word_counts(tmp_path: Path) -> None:
    """A setting over a flag over the recipe over what is usual."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    config = configure_reasoning(recipe)
    assert told(config, "epochs", "negatives", "batch_size", "temperature") == [7, 9, 8, 1.0]
    assert config.model == {"name": "grsnn+"} and config.optimizer["lr"] == 0.5
    flags = {"data": {"name": "fb15k-237", "dir": None}, "train": {"epochs": 3, "seed": None}}
    config = configure_reasoning(recipe, ["train.epochs=2", "model.steps=4"], **flags)
    assert told(config, "epochs", "negatives", "batch_size", "seed", "between") == [2, 9, 5, 0, True]
    assert config.model == {"name": "grsnn+", "scale": 0.1, "steps": 4} and config.data == {"name": "fb15k-237"}
    assert configure_reasoning(config.tree()).tree() == config.tree()
    assert configure_reasoning(json.loads(json.dumps(config.tree()))) == config


@pytest.mark.parametrize("name", ["grsnn", "grsnn+", "GRSNN", "nbfnet", "NBFNet"])
def test_a_model_takes_what_is_usual_for_it(name: str) -> None:
    """Which it is may be said anywhere: in a recipe, by a flag over a recipe of another model, or as a setting."""
    spiking = name.lower() != "nbfnet"
    expected = {"name": name, **({"scale": 0.1} if spiking else {})}
    other = {"model": {"name": "nbfnet" if spiking else "grsnn"}}
    graph = "fb15k-237"
    assert configure_reasoning(data=graph, model=name).model == expected
    assert configure_reasoning({"model": {"name": name}}, data=graph).model == expected
    assert configure_reasoning(other, data=graph, model=name).model == expected
    assert configure_reasoning(other, [f"data.name={graph}", f"model.name={name}"]).model == expected


def test_another_optimizer_has_a_rate_of_its_own() -> None:
    assert configure_reasoning(optimizer="sgd").optimizer == {"name": "sgd"}
    assert configure_reasoning(optimizer={"name": "sgd", "lr": 0.1}).optimizer == {"name": "sgd", "lr": 0.1}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.epoch=3", "train.epoch is not a setting. Did you mean 'epochs'?"),
        ("trian.epochs=3", "there is no section 'trian'. Did you mean 'train'?"),
        ("epochs=3", "Write section.key=value"),
        ("train.epochs=many", "train.epochs = 'many' is a str; train takes int"),
        ("train.between=1", "train.between = 1 is an int; train takes bool"),
        ("train.epochs=0", "train.epochs = 0: it has to be at least 1"),
        ("train.batch_size=0", "train.batch_size = 0: it has to be at least 1"),
        ("train.accumulate=0", "train.accumulate = 0"),
        ("train.negatives=0", "train.negatives = 0"),
        ("train.evaluate_every=0", "train.evaluate_every = 0"),
        ("train.evaluate_batch=0", "train.evaluate_batch = 0"),
        ("train.checkpoint_every=0", "train.checkpoint_every = 0"),
        ("train.limit_batches=-1", "train.limit_batches = -1"),
        ("train.temperature=-0.5", r"train.temperature = -0.5: it is 0 \(no weights\) or above, and finite"),
        ("train.clip_norm=0", "train.clip_norm = 0: it has to be above 0; none does not clip"),
        ("train.seed=-1", "train.seed = -1: a seed lies between 0"),
        ("train.ties=expect", "train.ties = 'expect' is unknown. Did you mean 'expected'?"),
        ("train.ties=optimist", "train.ties = 'optimist' is unknown. Did you mean 'optimistic'?"),
    ],
)
def test_a_mistake_is_told(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure_reasoning(overrides=[setting])


def test_a_section_that_is_unknown() -> None:
    with pytest.raises(ConfigError, match="section 'rule', which is unknown"):
        configure_reasoning({"rule": "ottt"})


def test_none_is_a_value() -> None:
    assert configure_reasoning(overrides=["train.clip_norm=none", "train.limit_batches=none"]).train == GraphSettings(
        temperature=0.5, epochs=5
    )


TREE = ["data.trees=1", "data.generations=3", "model.width=4"]


@pytest.mark.parametrize(
    ("name", "kind", "own"),
    [("grsnn", GRSNN, False), ("grsnn+", GRSNN, True), ("GRSNN+", GRSNN, True), ("nbfnet", NBFNet, None)],
)
def test_what_is_built(name: str, kind: type, own: bool | None) -> None:
    reasoning = build_reasoning(configure_reasoning(data="family", model=name, overrides=[*TREE, "train.seed=3"]))
    model = reasoning.model
    assert isinstance(model, kind) and model.width == 4 and model.relations == 2 * len(reasoning.data.relations)
    if isinstance(model, GRSNN):
        assert (
            model.scale == preset("family")["model"]["scale"]
            and model.self_loops is own
            and (model.weight is not None) is own
        )
        assert (model.norm is not None) is own
    assert isinstance(reasoning.data, GraphData) and reasoning.sampler.seed == 3
    # What is stored says everything, and builds the same again.
    again = build_reasoning(configure_reasoning(json.loads(json.dumps(reasoning.config))))
    assert again.config == reasoning.config and reasoning.config["model"]["name"] == name
    assert all(a.equal(b) for a, b in zip(model.parameters(), again.model.parameters()))


def test_what_a_variant_stands_for_can_be_changed() -> None:
    config = configure_reasoning(data="family", model="grsnn+", overrides=[*TREE, "model.self_loops=false"])
    model = build_reasoning(config).model
    assert isinstance(model, GRSNN) and not model.self_loops and model.norm is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.name=grsn"], "model.name = 'grsn' is unknown. Did you mean 'grsnn'?"),
        (["model.name=nbfnet", "model.steps=4"], "model.steps is not an argument of NBFNet"),
        (["model.delay_grad=excat"], "model.delay_grad = 'excat'"),
        (["data.tree=1"], "The graph 'family' has no option 'tree'. Did you mean 'trees'?"),
        (["data.trees=two"], r"\[data\] trees = 'two' is a str; the graph 'family' takes int"),
        (["data.trees=1.5"], "trees = 1.5 is a float"),
        (["data.trees=true"], "trees = True is a bool"),
        (["data.trees=0"], r"\[data\] family\(trees=0"),
        (["data.seed=-1"], "seed=-1"),
        (["data.dir=3"], "data.dir = 3 is an int; the folder of a graph takes str"),
        (["data.data_dir='x'"], "data.data_dir = 'x' is not a setting. The folder of a graph is data.dir"),
        (["data.name=3"], "data.name = 3 is an int, but a component is looked up by a text"),
        (["data.name=inductive", "data.split=3"], "split = 3 is an int; the graph 'inductive' takes str"),
        (["data.name=umls", "data.verify=1"], "verify = 1 is an int; the graph 'umls' takes bool"),
        (["data.name=cora", "data.seed=x"], "seed = 'x' is a str; the graph 'cora' takes int"),
        (["data.name=wn18rr", "data.reference=true"], "The graph 'wn18rr' has no option 'reference'"),
        (["data.trees=1", "data.generations=2", "data.children=1"], "'family' has no test queries"),
        (["data.name=famly"], "The graph 'famly' is unknown. Did you mean 'family'?"),
        (["optimizer.name=adm"], "optimizer.name = 'adm' is unknown"),
    ],
)
def test_what_cannot_be_built(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_reasoning(configure_reasoning({"data": {"name": "family"}}, settings))


def test_a_graph_whose_pairs_are_all_linked_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation would find no pair that is not linked."""
    names = tuple("abc")
    some, rest = torch.tensor([[0, 0, 1]]), torch.tensor([[0, 0, 2], [1, 0, 2]])
    parts = [GraphSplit(some, part, torch.cat([some, rest]), names) for part in (some, some, rest)]
    data = GraphData("full", ("link",), *parts, homogeneous=True)
    monkeypatch.setattr("spikewright.graph.build.load_graph", lambda name, folder: data)
    with pytest.raises(ConfigError, match=r"all 3 nodes are linked to all others"):
        build_reasoning(configure_reasoning(data="cora"))
