"""Random configurations of `train`, `continual` and `reason`: each trains as configured, or is refused in one line.

    python -m tests.fuzz.configurations --count 5000

The keys are those of the settings and of the signatures of all components; the one drawn least is drawn next.
"""

import csv
import json
import math
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from spikewright.cli.__main__ import main
from spikewright.continual.config import ContinualSettings
from spikewright.continual.scenario import SCENARIOS
from spikewright.data import registry
from spikewright.graph import build as graphs
from spikewright.graph.config import GraphSettings
from spikewright.graph.data.family import family
from spikewright.train import components as c
from spikewright.train import loop
from spikewright.train.checkpoint import load
from spikewright.train.result import sealed
from spikewright.train.schedule import SCHEDULES
from spikewright.train.settings import Presentation, TrainSettings
from tests.data import test_data_cifar as cifar
from tests.data import test_data_mnist as mnist
from tests.fuzz.damage import write_images
from tests.fuzz.draw import KINDS, toml, value
from tests.fuzz.forked import call
from tests.fuzz.reporting import Report, complaint, flags
from tests.train.support import experiment

Builder = Callable[..., Any]
BASE = {
    "train": ["data.name=synthetic", "data.size=12", "train.steps=2", "train.epochs=1", "train.batch_size=6"],
    "continual": ["data.name=synthetic", "data.size=12", "train.steps=2", "train.epochs=1", "train.batch_size=6"],
    "reason": ["data.name=family", "data.trees=1", "train.epochs=1", "train.limit_batches=1", "train.negatives=2"],
}
BASE["train"] += ["model.hidden=[8]"]
BASE["continual"] += ["scenario.tasks=2", "model.hidden=[8]"]
BASE["reason"] += ["data.generations=3", "data.children=2", "model.width=4", "train.batch_size=2"]
SMALL: dict[str, Any] = {"width": 0.0625, "channels": [4], "layers": [4, "P", 4], "hidden": [8]}
"""Arguments that keep a network small."""
WIDE = ("alexnet", "cifarnet", "conv5", "conv9", "vgg", "dvs", "lenet", "stream")
"""Models that halve their images so often that those need 32 pixels a side."""
FITTING: dict[str, list[Any]] = {
    "width": [0.03125, 0.0625, 0.1],
    "free": [[], ["readout"]],
    "hidden": [[8], [4, 4], [1]],
    "channels": [[4], [4, 8]],
    "layers": [[4, "P", 4], [4]],
    "last_epoch": [-1],
    "dropout": [0.0, 0.2],
    "base_lr": [0.001],
    "max_lr": [0.01, 0.1],
    "T_max": [1, 2],
    "side": [8, 16, 32],
    "others": [[], ["synthetic"]],
    "limit_train": [6, 12, None],
    "limit_test": [6, 12, None],
    "progress": [None],
    "maximize": [False],
    "differentiable": [False],
    "capturable": [False],
    "betas": [[0.9, 0.99], [0.5, 0.9]],
    "etas": [[0.5, 1.2]],
    "milestones": [[1], [1, 2]],
    "batch_first": [False],
    "verify": [False],
    "size": [12, 20],
    "scale_fn": [None],
    "tasks": [2, 4],
    "adjust_lr_fn": [None, "original", "match_rms_adamw"],
    "optimizer.adafactor.eps": [[1e-30, 0.001], [1e-16, 0.01]],
    "loss.criterion.cross_entropy.weight": [None],
    "size_average": [None],
    "reduce": [None],
    "timed": [False],
}
"""Fitting values that neither a type nor a docstring tells, by key or by whole label."""
NEEDS = {
    ("train", "optimizer", "muon"): {"model": "mlp"},
    ("train", "schedule", "cycliclr"): {"optimizer": "adam"},
    ("train", "schedule", "onecyclelr"): {"optimizer": "adam"},
}
"""Further required keys: Muon takes networks of matrices only, and these schedules change momenta."""
SAFE: dict[str, tuple[list[Any], list[Any]]] = {
    "train.workers": ([0, 1], [-1, "two", 1.5, None]),
    "train.weights": ([None], ["nowhere", "", 3, "."]),
    "train.device": (["cpu", "auto"], ["cuda", "cpu:7", "", "meta", 1, "xyz", "cuda:99"]),
    "data.dir": ([None], ["nowhere", ".", 3, ""]),
    "train.tensorboard": ([False], [True, 1, "yes"]),
    "train.steps": ([1, 2, 3], [0, -1, 2.0, "two", None, 10**30, 2**63]),
    "train.epochs": ([1, 2], [0, -1, 1.0, "two", None, float("nan")]),
    "rule.hlop.lateral_steps": ([1, 3], [0, -1, None, 1.5, "x", 10**30]),
}
"""Values of keys whose larger values start processes, or are long by right: those that fit, and others."""


@dataclass(frozen=True)
class Key:
    """An argument of a component: its place, the name of the component, and what builds it."""

    place: str
    owner: str
    key: str
    builder: Builder
    default: Any

    @property
    def path(self) -> str:
        return f"{self.place}.{self.key}"

    @property
    def label(self) -> str:
        return f"{self.place}.{self.owner}.{self.key}" if self.owner else self.path


def of_choices(place: str, choices: Mapping[str, Builder]) -> list[Key]:
    found = [(n, b, k, p) for n, b in choices.items() for k, p in c.options(b).items() if k not in c.NESTED]
    return [Key(place, name, key, builder, p.default) for name, builder, key, p in found]


def of_settings(place: str, kind: type) -> list[Key]:
    return [Key(place, "", field.name, kind, field.default) for field in fields(kind)]


NESTED: dict[str, tuple[Mapping[str, Builder], list[str]]] = {
    "neuron.surrogate": (c.SURROGATES, []),
    "loss.criterion": (c.CRITERIA, []),
    "rule.solver": (c.SOLVERS, ["rule.name=ide", "model.name=mlp_f"]),
    "rule.spatial": (c.SPATIAL, ["rule.name=ottt"]),
    "rule.local": (c.LOCAL, ["rule.name=opzo"]),
}
"""Components in components, and what makes room for them."""
FILES: dict[str, Callable[[Path], Any]] = {
    "cifar10": cifar.fill10,
    "cifar100": cifar.fill100,
    "mnist": mnist.fill,
    "fashion_mnist": mnist.fill,
    "folder": lambda folder: write_images(folder, ("png",)),
}
"""Writers of small data sets by name."""
DATA = {name: registry.loader(name) for name in registry.names()}


@cache
def keys(command: str) -> list[Key]:
    """All keys of a command."""
    if command == "reason":
        found = of_settings("train", GraphSettings) + of_choices("optimizer", c.OPTIMIZERS)
        return found + of_choices("model", graphs.MODELS) + of_choices("data", {"family": family})
    found = of_settings("train", TrainSettings) + of_settings("data", Presentation)
    sections = {"rule": c.RULES, "neuron": c.NEURONS, "loss": c.LOSSES, "schedule": SCHEDULES, "data": DATA}
    if command == "continual":
        found = of_settings("continual", ContinualSettings) + of_choices("scenario", SCENARIOS)
        return found + of_choices("rule", {n: b for n, b in c.RULES.items() if "rule" in c.options(b)})
    sections |= {"model": c.MODELS, "optimizer": c.OPTIMIZERS}
    for place, choices in sections.items():
        found += of_choices(place, choices)
    for place, (choices, _) in NESTED.items():
        found += of_choices(place, choices)
    return found


@dataclass
class Drawn:
    """A configuration: command, overrides in order, kinds of what was drawn, its paths and values, and its keys."""

    command: str
    overrides: list[str]
    kinds: list[str]
    given: dict[str, Any]
    labels: list[str]

    @property
    def arguments(self) -> list[str]:
        pairs = [part for override in self.overrides for part in ("--set", override)]
        return [self.command, *pairs, "--quiet", "--out", "run"]


def configuration(draw: random.Random, counts: Counter[tuple[str, str]]) -> Drawn:
    """Draw a configuration around the keys that were drawn least."""
    command = draw.choices(["train", "continual", "reason"], [6, 1, 2.5])[0]
    drawn = Drawn(command, list(BASE[command]), [], {}, [])
    names: dict[str, str] = {}
    own = [key for key in keys(command)]
    draw.shuffle(own)
    own.sort(key=lambda key: counts[command, key.label])
    bad = draw.choices([0, 1, 2], [5, 4, 1])[0]
    taken, most = list[Key](), draw.choice([3, 4, 5])
    for key in own:
        if len(taken) == most:
            break
        top = key.place.partition(".")[0]
        room = NESTED.get(key.place, ({}, []))[1]
        wanted = {key.place: key.owner} if key.owner else {}
        wanted |= NEEDS.get((command, key.place, key.owner), {})
        wanted |= dict(cast("tuple[str, str]", tuple(r.replace(".name", "").split("="))) for r in room)
        if any(names.get(place, name) != name for place, name in wanted.items()):
            continue
        if top in names and key.place == top and names[top] != key.owner and key.owner:
            continue
        names |= wanted
        taken.append(key)
    _name(drawn, draw, names)
    for number, key in enumerate(taken):
        counts[command, key.label] += 1
        kind = "fits" if number >= bad else draw.choice(KINDS)
        special, known = SAFE.get(key.label, SAFE.get(key.path)), FITTING.get(key.label, FITTING.get(key.key))
        if type(key.default) is int and not any(type(entry) is int for entry in known or []):
            known = None
        if special:
            known = special[0] if kind == "fits" else [*special[0], *special[1]]
        elif kind != "fits":
            known = None
        given = draw.choice(known or [value(draw, key.builder, key.key, key.default, kind)])
        drawn.overrides.append(f"{key.path}={toml(given)}")
        drawn.kinds.append(kind if not special else "chosen")
        drawn.given[key.path] = given
        drawn.labels.append(key.label)
    return drawn


def _name(drawn: Drawn, draw: random.Random, names: dict[str, str]) -> None:
    """Name the components, and keep the model small."""
    command = drawn.command
    if command == "continual":
        names.setdefault("scenario", draw.choice(["split", "permuted"]))
        names.setdefault("rule", "naive")
    elif command == "train":
        for place, choices in (("rule", c.RULES), ("neuron", c.NEURONS), ("optimizer", c.OPTIMIZERS)):
            if place not in names and draw.random() < 0.3:
                names[place] = draw.choice(list(choices))
    for place, name in names.items():
        if place == "data" and name != "synthetic":
            drawn.overrides = [o for o in drawn.overrides if not o.startswith("data.size")]
            if name in FILES:
                drawn.overrides.append(f"data.dir=../data/{name}")
            if name in FILES and "verify" in c.options(DATA[name]):
                drawn.overrides.append("data.verify=false")
            if name == "digits":
                drawn.overrides += ["data.limit_train=12", "data.limit_test=12"]
        if place == "model" and command != "reason":
            drawn.overrides = [o for o in drawn.overrides if not o.startswith("model.")]
            options = c.options(c.MODELS[name])
            drawn.overrides.insert(0, f"model.name={name}")
            for key, small in SMALL.items():
                if key in options and not (key == "hidden" and not isinstance(options[key].default, tuple)):
                    drawn.overrides.append(f"model.{key}={toml(small)}")
            continue
        if place == "model" and name == "nbfnet":
            drawn.overrides.insert(0, f"model.name={name}")
            continue
        drawn.overrides = [o for o in drawn.overrides if not o.startswith(f"{place}.name=")]
        drawn.overrides.insert(0, f"{place}.name={name}")
        if place == "scenario" and name == "sequence":
            drawn.overrides.remove("scenario.tasks=2")
        builder = {"schedule": SCHEDULES, "optimizer": c.OPTIMIZERS}.get(place, {}).get(name)
        for key, p in (c.options(builder) if builder else {}).items():
            if builder and p.default is p.empty:
                fits = FITTING[key][0] if key in FITTING else value(draw, builder, key, p.default, "fits")
                drawn.overrides.append(f"{place}.{key}={toml(fits)}")
        if place == "schedule" and name == "onecyclelr":
            drawn.overrides.append("schedule.total_steps=4")
    if names.get("optimizer") == "muon" and command == "train":
        drawn.overrides.append("model.bias=false")
    if names.get("data", "synthetic") == "synthetic" and any(part in names.get("model", "") for part in WIDE):
        drawn.overrides.append(f"data.features=[{2 if 'dvs' in names['model'] else 3}, 32, 32]")
    if names.get("rule") in ("gpm", "hlop") and "optimizer" not in names:
        drawn.overrides += ["optimizer.name=sgd", "optimizer.lr=0.01"]
    if "rule" in names and names["rule"] in c.RULES and "rule" in c.options(c.RULES[names["rule"]]):
        drawn.overrides.append(f"rule.rule={draw.choice(['ottt', 'bptt', 'dsr', 'sltt'])}")


def attempt(drawn: Drawn) -> int:
    """Run a configuration in this process, and write down whether the weights moved."""
    sys.modules["spikewright.plots"] = None  # type: ignore[assignment]
    before: list[dict[str, torch.Tensor]] = []
    graded, own = False, set[int]()

    def looked_at(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        nonlocal graded
        parameters = [p for group in optimizer.param_groups for p in group["params"] if id(p) in own]
        graded = graded or any(p.grad is not None and bool(p.grad.any()) for p in parameters)

    original = loop.run

    def watched(job: Any, *args: Any, **given: Any) -> Any:
        model = job.net.module if hasattr(job, "net") else job.parts()["model"]
        own.update(map(id, model.parameters()))
        before.append({name: p.detach().clone() for name, p in model.named_parameters()})
        handle = register_optimizer_step_pre_hook(looked_at)
        result = original(job, *args, **given)
        handle.remove()
        after = dict(model.named_parameters())
        moved = [
            name for name, old in before[0].items() if name in after and not torch.equal(old, after[name].detach())
        ]
        Path("moved.json").write_text(json.dumps({"moved": moved, "graded": graded}))
        return result

    loop.run = watched
    return main(drawn.arguments)


def strict(path: Path) -> Any:
    """Read JSON without NaN and infinity."""

    def refuse(text: str) -> NoReturn:
        raise ValueError(f"{path.name} holds {text}, which is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def finite(tree: Any, path: str = "") -> str | None:
    """The path of the first tensor that is not finite."""
    if isinstance(tree, torch.Tensor):
        return path if tree.is_floating_point() and not torch.isfinite(tree).all() else None
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    return next((found for key, entry in items if (found := finite(entry, f"{path}.{key}"))), None)


def checked(folder: Path, drawn: Drawn) -> str | None:
    """Say what is wrong with a run that claims to have succeeded."""
    run = folder / "run"
    try:
        result, config = strict(run / "result.json"), strict(run / "config.json")
    except (OSError, ValueError) as error:
        return f"result: {error}"
    losses = [row.get("train_loss") for row in result.get("history") or [] if isinstance(row, dict)]
    if not losses and drawn.command != "continual":
        return "result: no history"
    if any(loss is None or not math.isfinite(loss) for loss in losses):
        return f"result: losses {losses}"
    with (run / "log.csv").open(newline="") as file:
        logged = [row["train_loss"] for row in csv.DictReader(file)]
    if logged != [str(loss) for loss in losses]:
        return f"log.csv: losses {logged}, but {losses} in the result"
    epochs = config["train"]["epochs"] * (result["tasks"] if drawn.command == "continual" else 1)
    if not (len(losses) == epochs or result["stopped_early"]):
        return f"result: {len(losses)} epochs, but {epochs} were asked for"
    if sealed(result, result["history"]) != result:
        return "result: its digest is not that of its contents"
    state = load(run / "last.safetensors")
    if where := finite(state["parts"].get("model", {})):
        return f"weights: {where} is not finite"
    for path, given in drawn.given.items():
        if problem := recorded(config, path, given):
            return problem
    seen = json.loads((folder / "moved.json").read_text())
    if seen["graded"] and not seen["moved"] and trains(drawn):
        return "weights: there were gradients, but none has moved"
    return None


def recorded(config: Any, path: str, given: Any) -> str | None:
    """Say how a key is missing from `config.json`."""
    table = config
    for part in path.split("."):
        if not isinstance(table, dict) or part not in table:
            return f"config: {path} = {given!r} is not recorded"
        table = cast("dict[str, Any]", table)[part]
    if isinstance(given, float) and not math.isfinite(given):
        return None if table is None else f"config: {path} = {given!r} is recorded as {table!r}"
    same = table == given or (given == "none" and table is None) or (given is None and table == "none")
    if isinstance(table, dict) and isinstance(given, str | dict):
        same = True
    return None if same else f"config: {path} = {given!r} is recorded as {table!r}"


def trains(drawn: Drawn) -> bool:
    """Whether the weights have to move: nothing that scales a step was drawn at an edge."""
    rate = ("optimizer.", "schedule.", "train.clip", "neuron.", "rule.", "loss.", "train.amp")
    pairs = zip(drawn.given, drawn.kinds, strict=True)
    return not any(path.startswith(rate) and kind != "fits" for path, kind in pairs)


def _tell(
    counts: Counter[tuple[str, str]], trained: set[tuple[str, str]], refusals: dict[tuple[str, str], str]
) -> None:
    """Print the keys that were drawn least, and those that were never part of a run that trained."""
    every = [(command, key.label) for command in BASE for key in keys(command)]
    least = sorted(every, key=lambda key: counts[key])[:3]
    print(f"{len(every)} keys; drawn least: " + ", ".join(f"{key[0]} {key[1]} x{counts[key]}" for key in least))
    refused = [key for key in every if key not in trained]
    print(f"{len(refused)} keys were set in no run that trained; values that should fit were refused last because of:")
    print("\n".join(f"    {' '.join(key)}: {refusals.get(key)}" for key in refused))


def main_() -> int:
    given = flags("Train random configurations.", 300)
    torch.set_num_threads(1)
    experiment()  # loads what torch loads late

    draw, counts = random.Random(given.seed), Counter[tuple[str, str]]()
    trained, refusals = set[tuple[str, str]](), dict[tuple[str, str], str]()
    report, root = Report(given.count), Path(tempfile.mkdtemp(prefix="fuzz"))
    for name, fill in FILES.items():
        (root / "data" / name).mkdir(parents=True)
        fill(root / "data" / name)
    numbers = range(given.count) if given.only is None else range(given.only + 1)
    for number in numbers:
        drawn = configuration(draw, counts)
        if given.only is not None and number != given.only:
            continue
        folder = root / str(number)
        folder.mkdir()
        ended = call(lambda drawn=drawn: attempt(drawn), folder)
        if given.only is not None:
            print(json.dumps(drawn.arguments), ended)
        violation = complaint(drawn.command, ended)
        outcome = f"{drawn.command}: " + ("trained" if ended.status == 0 else "refused")
        huge = {"huge", "outside"} & set(drawn.kinds)
        if violation and huge and (ended.stopped or ended.out_of_memory):
            violation, outcome = None, f"{drawn.command}: too large for the limits"
        elif violation is None and ended.status == 0:
            try:
                violation = checked(folder, drawn)
            except Exception as error:
                violation = f"check: {type(error).__name__}: {error}"
        if violation is None and ended.status == 0 and '"graded": false' in (folder / "moved.json").read_text():
            outcome += ", all gradients were 0"
            sys.stderr.write(f"all gradients were 0 in trial {number}: {json.dumps(drawn.arguments)}\n")
        if violation is None and ended.status == 0 and ended.err.strip():
            outcome += " (with a warning)"
        own = {(drawn.command, label) for label in drawn.labels}
        if violation is None and ended.status == 0:
            trained |= own
        elif not {*drawn.kinds} - {"fits", "chosen"}:
            refusals |= dict.fromkeys(own, ended.err.strip()[:400])
        report.add(number, outcome, violation, json.dumps([a for a in drawn.arguments if a != "--set"])[:1500])
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)
    if given.only is None:
        _tell(counts, trained, refusals)
    return report.close()


if __name__ == "__main__":
    sys.exit(main_())
