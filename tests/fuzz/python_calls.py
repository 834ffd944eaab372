"""Random calls of the public Python interface: each does what it promises, or raises an error of the library.

python -m tests.fuzz.python_calls --count 2000
"""

import inspect
import json
import random
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright import data, layers, models
from spikewright.errors import SpikewrightError
from spikewright.train import components as c
from tests.fuzz.draw import KINDS, value
from tests.fuzz.forked import call
from tests.fuzz.further_calls import FURTHER
from tests.fuzz.pieces import (
    CLASSES,
    FEATURES,
    SAMPLES,
    STEPS,
    Draw,
    built,
    check_update,
    given,
    inputs,
    module,
    parts,
    plain,
    promise,
    targets,
)  # fmt: skip
from tests.fuzz.reporting import Report, flags
from tests.train.support import experiment


def run_network(draw: Draw, odd: float, folder: Path) -> None:
    net, x = sw.Network(module(draw, odd)), inputs(draw, odd)
    output, state = net.run(x)
    if plain(x):
        promise(output.shape == (*x.shape[:-1], CLASSES), f"{list(output.shape)} of {list(x.shape)}")
        promise(bool(output.isfinite().all()), "the output is not finite")
        carried: Any = state if draw.random() < 0.7 else draw.choice([{}, {"a": {}}, 3, "s"])
        again, _ = net.run(x, carried)
        promise(again.shape == output.shape, "another shape the second time")
    net.release()


def learn(draw: Draw, odd: float, folder: Path) -> None:
    net, rule, x, y, loss = parts(draw, odd)
    if draw.random() < 0.05:
        net = draw.choice([net.module, None, 3])
    for update in rule.updates(net, x, y, loss):
        check_update(update, x, net)


def certify(draw: Draw, odd: float, folder: Path) -> None:
    net, rule, x, y, loss = parts(draw, odd * 0.3)
    found = sw.certify(net, rule, x, y, loss)
    if plain(x):
        rows = [(r.site, r.relative_error) for r in found.rows if r.exact]
        promise(found.ok, f"a claimed gradient differs: {rule} on {net.module}: {rows}")
    found.table()


def plan(draw: Draw, odd: float, folder: Path) -> None:
    net, rule, x, *_ = parts(draw, odd * 0.3)
    shapes: list[Any] = [
        (STEPS, SAMPLES, FEATURES),
        (1, 1, FEATURES),
        [STEPS, SAMPLES, FEATURES],
        x,
        (),
        (0, 1, 6),
        "abc",
    ]
    shapes += [(-1, 2, 6), (3.0, 4, 6), (3, 4), None, (10**12, 4, 6), (3, 4, 6, 1)]
    budget: Any = draw.choice([None, None, "1 GiB", "16 MB", 10**6, 0, -1, "much", 1.5, float("nan")])
    measure: Any = draw.choice([None, None, (2, 4), (4, 2), (1,), (), (0, 1), ("a", "b"), (2, 2)])
    report: Any = draw.choice([(16, 64), (16,), (), (0,), (-1,), (1.5,), ("x",), (10**15,)])
    if draw.random() < 0.6:
        measure, report, shapes = None, (16,), shapes[:3]
    found = sw.plan(net, rule, draw.choice(shapes), budget, measure, report)
    promise(all(row.saved_bytes >= 0 for row in found.rows), "negative memory")
    found.table()


def energy(draw: Draw, odd: float, folder: Path) -> None:
    net, rule, x, y, loss = parts(draw, odd * 0.3)
    found = sw.energy(net, rule, x, y, loss)
    if plain(x):
        numbers = [v for v in vars(found).values() if isinstance(v, float)]
        promise(all(v == v and v >= 0 for v in numbers), f"energies {numbers}")


def fit(draw: Draw, odd: float, folder: Path) -> None:
    net, rule, x, y, loss = parts(draw, odd * 0.3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    loader: Any = [(x, y)] * 2
    if draw.random() < odd:
        loader = draw.choice([[], [x], None, 3, iter([(x, y)]), [(x, y, x)], {"a": 1}])
    options: dict[str, Any] = {"out": folder / "run", "progress": False}
    for key, p in inspect.signature(sw.fit).parameters.items():
        if p.kind is p.KEYWORD_ONLY and key not in (*options, "validation", "schedule", "metrics", "tensorboard"):
            if draw.random() < 0.15:
                kind = draw.choice(KINDS) if draw.random() < odd else "fits"
                options[key] = value(draw, sw.fit, key, p.default, kind)
    if isinstance(options.get("epochs"), int):
        options["epochs"] = min(options["epochs"], 2)
    result = sw.fit(net, rule, loss, optimizer, loader, **options)
    promise(json.dumps(result, allow_nan=False), "a result that is no JSON")


def lose(draw: Draw, odd: float, folder: Path) -> None:
    loss: Any = built(draw, c.LOSSES, odd)
    output = inputs(draw, odd)
    if isinstance(output, Tensor) and output.dim() == 3 and output.shape[-1] >= CLASSES and not output.is_sparse:
        output = output[..., :CLASSES]
    steps = len(output) if isinstance(output, Tensor) and output.dim() else STEPS
    found = loss(output, targets(draw, odd, output), steps)
    if plain(output) and output.numel():
        promise(found.dim() == 0, f"a loss of shape {list(found.shape)}")


def layer(draw: Draw, odd: float, folder: Path) -> None:
    builder = getattr(layers, draw.choice([n for n in layers.__all__ if inspect.isclass(getattr(layers, n))]))
    made = builder(**given(draw, builder, odd))
    net = sw.Network(nn.Sequential(nn.Linear(FEATURES, 5), sw.LIF(), made, nn.Linear(5, CLASSES)))
    net.run(inputs(draw, odd))


def batches(draw: Draw, odd: float, folder: Path) -> None:
    labels: Any = draw.choice(
        [torch.arange(7) % 3, torch.arange(6), torch.zeros(7), None, torch.arange(7) - 1, [0] * 7]
    )
    images: Any = torch.randint(0, 256, (7, 1, 4, 4), dtype=torch.uint8)
    images = draw.choice([images] * 4 + [images.float(), images[0], images[:0], None, images.to("meta"), images.long()])
    split = data.Split(images, labels)
    options: dict[str, Any] = {"batch_size": 3, "steps": 2, "mean": [0.5], "std": [0.5]}
    for key, p in inspect.signature(data.Batches).parameters.items():
        if key != "split" and draw.random() < 0.2:
            kind = draw.choice(KINDS) if draw.random() < odd else "fits"
            options[key] = value(draw, data.Batches, key, options.get(key, p.default), kind)
    made = data.Batches(split, **options)
    total = 0
    for x, y in made.epoch(draw.choice([0, 0, 1, 5, -1, 10**9]), draw.choice([0, 0, 1, 2, 50, -1])):
        promise(x.shape[1] == len(y), f"{list(x.shape)} for {list(y.shape)}")
        total += len(y)
    promise(total <= 7, f"{total} samples of 7")
    len(made)


def model(draw: Draw, odd: float, folder: Path) -> None:
    name = draw.choice([*models.list_models(), "nothing", "", "MLP"])
    small = {"mlp": {"hidden": [4]}, "conv": {"channels": [2]}}.get(name, {})
    if name in models.list_models():
        builder = models.model_class(name)
        small = {"width": 0.05} if "width" in c.options(builder) else small
        small = {**given(draw, builder, odd), **small}
    shape: Any = draw.choice([(1, 8, 8), (3, 32, 32), (2, 32, 32), (6,), (), (0, 8, 8), None, "x", (1, 8), (1.5, 8, 8)])
    classes: Any = draw.choice([3, 10, 1, 0, -1, None, 2.5])
    made: Any = models.create_model(name, shape, classes, sw.LIF, **small)
    if isinstance(shape, tuple) and made is not None:
        output, _ = sw.Network(made).run(torch.rand(2, 2, *shape))
        promise(bool(output.isfinite().all()), "the output is not finite")


SUBJECTS: dict[str, Callable[[Draw, float, Path], None]] = {
    "run": run_network, "updates": learn, "certify": certify, "plan": plan, "energy": energy, "fit": fit,
    "loss": lose, "layer": layer, "batches": batches, "model": model, **FURTHER,
}  # fmt: skip
COUNT_OF_ARGUMENTS = r"(missing \d+ required|unexpected keyword argument|positional arguments? but|multiple values)"


def attempt(subject: str, seed: str, folder: Path) -> int:
    """Make a call in this process: status 0, or 2 for an error of ours; otherwise what was raised is shown."""
    draw = random.Random(seed)
    torch.manual_seed(draw.randrange(10**6))
    odd = draw.choice([0.0, 0.1, 0.5])
    try:
        SUBJECTS[subject](draw, odd, folder)
    except SpikewrightError:
        if "--only" in sys.argv:
            traceback.print_exc()
        return 2
    except TypeError as error:
        if re.search(COUNT_OF_ARGUMENTS, str(error)):
            return 2
        raise
    return 0


def main_() -> int:
    arguments = flags("Call the Python interface at random.", 200)
    torch.set_num_threads(1)
    experiment()  # loads what torch loads late
    report, root = Report(arguments.count), Path(tempfile.mkdtemp(prefix="calls"))
    names = list(SUBJECTS)
    for number in range(arguments.count):
        if arguments.only is not None and number != arguments.only:
            continue
        seed = f"{arguments.seed} {number}"
        subject = names[number % len(names)]
        folder = root / str(number)
        folder.mkdir()
        ended = call(lambda s=subject, d=seed, f=folder: attempt(s, d, f), folder, 10)
        if arguments.only is not None:
            print(subject, ended.status, ended.stopped, ended.err)
        violation = None
        if ended.stopped or ended.status not in (0, 2):
            places = re.findall(r'File "[^"]*/(spikewright/[^"]+)", line (\d+)', ended.err)
            at = ":".join(places[-1]) if places else ""
            violation = f"{subject}: {ended.stopped or ended.raised or ended.status} [{at}]"
        outcome = f"{subject}: " + ("done" if ended.status == 0 else "refused")
        report.add(number, outcome, violation, f"--seed {arguments.seed} --only {number}")
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)
    return report.close()


if __name__ == "__main__":
    sys.exit(main_())
