"""Every number, flag and choice of every public class and function is refused outside of what its docstring says."""

import inspect
import tempfile
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

import spikewright as sw
from spikewright import data, graph, layers, rules
from spikewright.continual import scenario
from spikewright.continual.config import ContinualSettings
from spikewright.errors import SpikewrightError
from spikewright.graph.config import GraphSettings
from spikewright.graph.data.family import family
from spikewright.rules.continual.subspaces.lateral import Lateral
from spikewright.train.schedule import cosine
from spikewright.train.settings import Presentation, TrainSettings
from tests.core.ranges import Argument, arguments, concrete, stated
from tests.core.test_docstrings import PUBLIC, parameters

MADE_HERE = set(
    "Certificate Config ContinualExperiment Cost Done Energy Experiment Plan RelationalGraph Report Score Update Work "
    "Adjoint Cell Edge Operations Batch "
    "Conversion ConversionRow CountedLayer Exported Loaded LoadedRow NIRReport NIRRow".split()
)
"""Records that the library makes and hands out, or an extension of it; nobody chooses their numbers."""
OF_OTHERS = {f"interop.{name}" for name in "convert from_nir load_state_dict to_nir to_onnx TransformersMixin".split()}
"""What needs a model, a file or a package of others, and is checked beside these in tests/interop."""
NOT_YET = ("events.", "sound.", "data.Sequences", "data.bucketed")
"""Need arrays, files and recordings, for which there are no usual arguments here yet (tests/events, tests/sound)."""
MORE: dict[str, Any] = {
    **{f"train.{kind.__name__}": kind for kind in (TrainSettings, Presentation)},
    "continual.ContinualSettings": ContinualSettings,
    "graph.GraphSettings": GraphSettings,
    "train.cosine": cosine,
    "rules.continual.Lateral": Lateral,
    **{f"data.{name}": data.loader(name) for name in ("synthetic", "digits")},
    "graph.family": family,
}
"""What a configuration, a flag or a mapping of names reaches."""
ITEMS = {
    name: item
    for name, item in {**PUBLIC, **MORE}.items()
    if name.rpartition(".")[2] not in MADE_HERE and name not in OF_OTHERS and not name.startswith(NOT_YET)
}


def network() -> sw.Network:
    return sw.Network(nn.Sequential(nn.Linear(4, 8), sw.LIF(), nn.Linear(8, 3)))


@cache
def images() -> data.Dataset:
    return data.load("synthetic", classes=4, size=8)


@cache
def kinships() -> graph.GraphData:
    return family(trees=1, generations=3, children=2)


@cache
def scored() -> dict[str, Any]:
    found = kinships()
    return {"model": graph.GRSNN(2 * len(found.relations), width=2, steps=2), "data": found, "split": found.test}


def learned_from() -> dict[str, Any]:
    return {
        "rule": rules.SLTT(),
        "x": torch.rand(4, 4, 4),
        "y": torch.tensor([0, 1, 0, 1]),
        "loss": sw.losses.PerStep(nn.CrossEntropyLoss()),
    }


USUAL: dict[str, Callable[[], Any]] = {
    "shape": lambda: (1, 8, 8),
    "classes": lambda: 2,
    "neuron": lambda: sw.LIF,
    "criterion": nn.CrossEntropyLoss,
    "rule": rules.BPTT,
    "net": network,
    "dataset": images,
    "relations": lambda: 2,
    "surrogate": sw.surrogate.Sigmoid,
    "layer": lambda: nn.Linear(4, 3),
    "transform": lambda: nn.Linear(4, 4),
    "make": lambda: sw.LIF,
    "params": lambda: nn.Linear(2, 2).parameters(),
    "optimizer": lambda: torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1),
    "inplace": lambda: False,
}
"""Required arguments by name."""
SMALL = {"width": 0.05}
BASE: dict[str, Callable[[], dict[str, Any]]] = {
    "Neuron": lambda: {"threshold": 1.0, "reset": "subtract", "detach_reset": True},
    "Feedback": lambda: {"source": "0"},
    "Recurrent": lambda: {"neuron": sw.LIF()},
    "SynapticDelay": lambda: {"shape": 2, "delay_grad": "exact", "tau": 4.0},
    "certify": lambda: {**learned_from()},
    "energy": lambda: {**learned_from()},
    "fit": lambda: {
        **{key: value for key, value in learned_from().items() if key not in ("x", "y")},
        "net": (net := USUAL["net"]()), "optimizer": torch.optim.SGD(net.parameters(), lr=0.1),
        "loader": [(learned_from()["x"], learned_from()["y"])], "out": tempfile.mkdtemp(), "progress": False,
    },
    "interop.export": lambda: {"x": torch.rand(4, 2, 4)},
    "train.batch_share": lambda: {"samples": 8},
    "losses.FiringRatePenalty": lambda: {"upper": 1.0},
    "rules.Share": lambda: {"total": 4},
    "plan": lambda: {"rule": rules.SLTT(), "shape": (4, 2, 4), "measure": (1, 2), "report": ()},
    "continual.ContinualMonitor": lambda: {"eval_sets": []},
    "continual.Scenario": lambda: {"name": "one", "makers": [images], "heads": True},
    "continual.TwoPhaseProtocol": lambda: {
        "make_scenario": scenario.split, "ht_data": images(), "eval_data": images(), "space": {"lr": [0.1]},
        "algorithm": lambda *_: None, "metric": lambda *_: 0.0, "seeds": (0, 1),
    },
    "continual.permuted": lambda: {"tasks": 2},
    "continual.split": lambda: {"tasks": 2},
    "data.Batches": lambda: {"split": images().train, "batch_size": 2, "steps": 2, "mean": (0.5,), "std": (0.5,)},
    "data.Dataset": lambda: {
        "name": "one", "train": images().train, "test": images().test, "classes": 4, "mean": (0.5,), "std": (0.5,),
    },
    "graph.GRSNN": lambda: {"width": 2},
    "graph.NBFNet": lambda: {"width": 2},
    "graph.LinkScorer": lambda: {"width": 2, "symmetric": False},
    "graph.GraphData": lambda: vars(kinships()),
    "graph.KnownAnswers": lambda: {"triples": torch.tensor([[0, 0, 0]]), "entities": 3},
    "graph.OpenWorld": lambda: {"answers": 4, "density": 0.5},
    "graph.energy_of": lambda: {k: v for k, v in scored().items() if k != "split"},
    "graph.evaluate": scored,
    "graph.explain": lambda: {**scored(), "fact": (0, 0, 1)},
    **{
        f"layers.{kind}BatchNorm{axes}d": lambda: {"num_features": 2}
        for kind in ("Joint", "PerStep")
        for axes in (1, 2)
    },
    "layers.ScaledWSConv2d": lambda: {"in_channels": 2, "out_channels": 2, "kernel_size": 2},
    "layers.ScaledWSLinear": lambda: {"in_features": 4, "out_features": 2},
    "layers.power_iteration": lambda: {"layer": layers.restrict_spectral(nn.Linear(4, 3))},
    "layers.operator_norm": lambda: {"layer": nn.Conv2d(1, 2, 3), "size": (4, 4)},
    "layers.restrict_spectral": lambda: {"layer": nn.Conv2d(1, 2, 3), "size": (4, 4)},
    **{
        f"models.{name}": lambda: {"restriction": "frobenius"}
        for name in ("FeedbackNet", "alexnet_f", "cifarnet_f", "conv_f", "mlp_f")
    },
    "models.MLP": lambda: {"hidden": (4,)},
    "models.Conv": lambda: {"channels": (2, 2), "hidden": 2},
    **{f"models.{name}": lambda: SMALL | {"shape": (1, 32, 32)} for name in ("VGG11BN", "vgg_dsr")},
    "models.create_model": lambda: {"name": "mlp"},
    "models.VGG": lambda: SMALL | {"layers": (64, "P", 64)},
    "plots.arrivals": lambda: {"spikes": torch.rand(3, 4, 2) > 0.5, "answer": 1},
    "plots.raster": lambda: {"spikes": {"one": torch.ones(3, 4)}},
    "rules.Traits": lambda: {
        "loss": "any", "credit_through_time": False, "gradients": "own", "memory": "constant",
    },
    "rules.HLOP": lambda: {"lateral_steps": 4},
    "rules.ContinualRule": lambda: {"hold": True},
    "rules.ProjectedRule": lambda: {"free": ()},
    "rules.RateRule": lambda: {"batch_norm": "rate", "mask": "input", "chunk": None},
    "rules.Rule": lambda: {"chunk": 1},
    "rules.OnlineRule": lambda: {"chunk": 1},
    "solvers.Iterative": lambda: {"iterations": 3, "tolerance": None},
    "train.cosine": lambda: {"batches": 3, "epochs": 4},
    "data.synthetic": lambda: {"size": 20},
    "graph.family": lambda: {"trees": 1, "generations": 2, "children": 1},
}  # fmt: skip
"""Further arguments with which a class or function can be called at once, and in which each argument has an effect."""
FITTING: dict[tuple[str, str], list[Any]] = {
    ("models", "width"): [0.05, 0.1],
    ("models", "shape"): [32, 40],
    ("models", "back"): [1, 3, 5],
    ("models", "kernel"): [1, 3, 5],
    ("models", "stride"): [1, 2],
    ("models", "pool"): [1, 2],
    ("models", "back_scale"): [0.1, -1.0, 2],
    ("SynapticDelay", "delay_grad"): ["exact", "reference"],
    ("surrogate", "width"): [1e-30, 0.3, 1e30],
    ("surrogate.Erf", "factor"): [1e-30, 0.3, 1e30],
    ("Neuron", "rest"): [-2.0, 0.0, 0.5],
    ("continual.TwoPhaseProtocol", "seeds"): [1, 5],
    ("continual.split", "tasks"): [1, 2, 4],
    ("data.Batches", "world"): [1, 2],
    ("data.Batches", "rank"): [0],
    ("data.Dataset", "classes"): [4, 5, 10],
    ("graph.GraphData", "homogeneous"): [False],
    ("graph.explain", "fact"): [1, 2],
    ("layers.ScaledWSConv2d", "groups"): [1, 2],
    ("layers.operator_norm", "size"): [3, 4],
    ("layers.restrict_spectral", "size"): [3, 4],
    ("plan", "measure"): [2, 3],
    ("plan", "shape"): [4],
    ("plots.arrivals", "answer"): [0, 3],
    ("fit", "epochs"): [1, 2],
    ("fit", "batch_first"): [False, True],
    ("fit", "progress"): [False],
    ("fit", "tensorboard"): [False],
    ("fit", "clip_norm"): [0.1, 3],
    ("rules.Share", "total"): [2, 5],
    ("rules.Share", "rank"): [0],
    ("testing.assert_rule", "resumes"): [],
    ("testing.assert_rule", "noisy"): [],
    ("testing.assert_neuron", "channels"): [],
}
"""Values that fit the other arguments, where few do; none where trying takes seconds, and other tests do."""
ELSEWHERE = {
    **dict.fromkeys(
        [
            ("continual.learn", "resume"),
            ("continual.build_continual", "resumed"),
            ("train.train_experiment", "resume"),
            ("train.build", "resumed"),
        ],
        "goes on with an experiment that is built, in a folder",
    ),
    ("rules.HLOP", "rows"): "a share if it is a float, a number of rows if it is an integer",
}
"""Arguments that are left out, and why."""


def call(name: str, **changed: Any) -> Any:
    """Call a public class or function with one argument changed."""
    item = ITEMS[name]
    expected = taken(name)
    usual = {key: make() for key, make in USUAL.items() if key in expected and _required(expected[key])}
    if name.startswith("models.") and "width" in expected:
        usual |= SMALL
    return concrete(item)(**{**usual, **BASE.get(name, dict)(), **changed})


@cache
def taken(name: str) -> dict[str, inspect.Parameter]:
    return parameters(ITEMS[name])


def _required(parameter: Any) -> bool:
    return parameter.default is parameter.empty


def many(name: str, argument: Argument, value: Any) -> Any:
    """Return a value as an argument: in a sequence, in the place of its last entry, if it takes one."""
    if argument.element is None or any(kind in argument.types for kind in (int, float)):
        return value
    base = BASE.get(name, dict)().get(argument.name, argument.default)
    base = USUAL["shape"]() if base is inspect.Parameter.empty else base
    return (*tuple(base or (value, value))[:-1], value)


def wrong(argument: Argument) -> list[Any]:
    """Return what an argument must not be."""
    if argument.number:
        return list(argument.outside())
    optional = type(None) in argument.types
    if bool in argument.types:
        return ["false", "", 0, 1, 1.0, [], torch.tensor(True)] + [None] * (not optional)
    choices = [c for kind in argument.types if get_origin(kind) is Literal for c in get_args(kind)]
    return ["", "nonsense", str(choices[0]).upper() + "x", 3, True, ("x",)] + [None] * (not optional)


def right(argument: Argument) -> list[Any]:
    """Return what an argument may be, if it is no number."""
    if bool in argument.types:
        return [True, False]
    return [c for kind in argument.types if get_origin(kind) is Literal for c in get_args(kind)]


CASES = [
    (name, argument)
    for name, item in ITEMS.items()
    for argument in arguments(item)
    if (name, argument.name) not in ELSEWHERE
]
INSIDE: dict[str, list[Argument]] = {}
for owner, argument in CASES:
    if FITTING.get((owner, argument.name)) != []:
        INSIDE.setdefault(owner, []).append(argument)
every = pytest.mark.parametrize("name, argument", CASES, ids=[f"{name}-{a.name}" for name, a in CASES])


@every
def test_what_is_outside_is_refused(name: str, argument: Argument) -> None:
    if argument.number:
        assert argument.interval, f"{name}: no range can be read from what is said of {argument.name}"
    accepted = [found for value in wrong(argument) if (found := answer(name, argument, value)) != REFUSED]
    assert not accepted, f"{name}({argument.name}=...): {'; '.join(accepted)[:600]}"


@pytest.mark.parametrize("name", INSIDE)
@settings(max_examples=2, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(drawn=st.data())
def test_what_is_inside_is_accepted(name: str, drawn: st.DataObject) -> None:
    for argument in INSIDE[name]:
        value = drawn.draw(inside(name, argument))
        assert answer(name, argument, value) == ACCEPTED, f"{name}({argument.name}={value!r})"


def inside(name: str, argument: Argument) -> st.SearchStrategy[Any]:
    """Values that an argument may have."""
    for owner in (name, name.partition(".")[0]):
        if (owner, argument.name) in FITTING:
            return st.sampled_from(FITTING[owner, argument.name])
    return argument.inside() if argument.number else st.sampled_from(right(argument))


def answer(name: str, argument: Argument, value: Any) -> str:
    """Return what becomes of a value: accepted, refused by name, or what else happens."""
    shown = f"{value!r}"[:40]
    try:
        call(name, **{argument.name: many(name, argument, value)})
    except SpikewrightError as error:
        return REFUSED if argument.name in str(error) else f"{shown} is refused, but not by name: {str(error)[:90]}"
    except Exception as error:
        return f"{shown} ends in {type(error).__name__}: {str(error)[:60]}"
    return ACCEPTED


REFUSED, ACCEPTED = "refused", "accepted"


class Unchecked:
    """A class that keeps what it is given.

    Args:
        share: Share of something.  In [0, 1].  Default: 0.5.
        steps: Number of steps.  At least 1.  Default: 1.
        quick: True is quick.  Default: False.
        unit: "s" or "ms".  Default: "s".
    """

    def __init__(
        self, share: float = 0.5, steps: int = 1, quick: bool = False, unit: Literal["s", "ms"] = "s"
    ) -> None: ...


def test_a_class_that_checks_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ITEMS, "Unchecked", Unchecked)
    named = list(arguments(Unchecked))
    assert [argument.name for argument in named] == ["share", "steps", "quick", "unit"]
    for argument in named:
        with pytest.raises(AssertionError, match=rf"Unchecked\({argument.name}=...\): accepted"):
            test_what_is_outside_is_refused("Unchecked", argument)


def test_a_number_without_a_range_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ITEMS, "Unchecked", Unchecked)
    with pytest.raises(AssertionError, match="no range can be read from what is said of share"):
        test_what_is_outside_is_refused("Unchecked", Argument("share", (float,), None, None, 0.5))


def test_ranges_are_read_as_they_are_meant() -> None:
    assert stated("Share.  In [0, 1).  Default: 0.5.") == ("[", "0", "1", ")")
    assert stated("Steps.  From 1 to 10**6.  Default: 3.") == ("[", "1", "10**6", "]")
    assert stated("Norm, a finite number > 0.  Default: 3.") == ("(", "0", "inf", ")")
    assert stated("Of any kind.  Default: at least 3.") is None
