"""Commands that read damaged files: each says so in one line, or ends as with the sound file.

    python -m tests.fuzz.damaged_files --count 3000

What is read without a checksum (images, triples, recipes) may change what is learned, never how a command ends.
"""

import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from dataclasses import replace as replace_in
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from spikewright.cli.__main__ import main
from spikewright.train import log
from spikewright.train.checkpoint import load
from tests.data import test_data_cifar as cifar
from tests.data import test_data_mnist as mnist
from tests.fuzz.damage import replace, write_images
from tests.fuzz.forked import Ended, call
from tests.fuzz.kills import sets, timeless, where
from tests.fuzz.reporting import Report, complaint, flags
from tests.graph.data.test_citation import write as write_citation
from tests.graph.data.writing import write as write_triples
from tests.train.support import experiment, same

TINY = """
data.name=synthetic data.size=12 train.steps=2 train.epochs=2 train.batch_size=4 model.hidden=[4]
train.checkpoint_every=1
""".split()
TASKS = ("scenario.name=split", "scenario.tasks=2")
GRAPH = """
data.name=family data.trees=1 data.generations=3 model.width=2 train.limit_batches=3 train.epochs=2 train.batch_size=2
train.negatives=2 train.checkpoint_every=1
""".split()
COMPARED = [*sets(*TINY), "--rules", "bptt,ottt", "--seeds", "1"]
USER = ["--rule", "sltt", *sets("data.batch_first=true", "train.epochs=1")]
NEW = ["--quiet", "--out", "new"]
LEARN = ["train", *sets("train.steps=1", "train.epochs=1", "train.batch_size=2", "model.hidden=[2]"), *NEW]
SMALL = ["model.width=2", "train.epochs=1", "train.negatives=2", "train.limit_batches=1", "optimizer.lr=0.01"]
REASON = ["reason", *sets(*SMALL), *NEW]
RUN_FILES = ("last.safetensors", "best.safetensors", "config.json", "result.json", "log.csv", "run.lock")
TRIPLES = {
    "train": "".join(f"n{i}\tknows\tn{(i * 5 + 1) % 9}\nn{i}\tlikes\tn{(i * 2 + 1) % 9}\n" for i in range(9)),
    "valid": "n0\tknows\tn2\n",
    "test": "n1\tlikes\tn5\nn2\tknows\tn8\n",
}
RECIPE = """# Läuft.
rule = "sltt"
[data]
name = "synthetic"
size = 12
[model]
name = "mlp"
hidden = [4]
[optimizer]
name = "sgd"
lr = 0.1
[train]
steps = 2
epochs = 1
batch_size = 6
"""
CODE = """\"\"\"A network and a loader of a user.\"\"\"
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import spikewright as sw


class Net(nn.Module):
    def __init__(self, shape, classes, neuron, width=3):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(shape[0], width), neuron(), nn.Linear(width, classes))

    def forward(self, x):
        return self.layers(x)


def make(count=6):
    x = torch.arange(count * 2 * 4).reshape(count, 2, 4) % 7 / 7
    loader = DataLoader(TensorDataset(x, torch.arange(count) % 2), batch_size=3)
    return {"train": loader, "shape": (4,), "classes": 2}
"""
OTHER = {"train": "x\tlikes\ty\ny\tknows\tz\nz\tlikes\ty\n", "valid": "z\tlikes\tx\n", "test": "x\tknows\ty\n"}


@dataclass(frozen=True)
class Target:
    """Files that commands read, and whether a sound ending has to be that of the sound files."""

    folder: str
    commands: tuple[list[str], ...]
    files: tuple[str, ...] = ()
    same: bool = True


def resumed(command: str, run: str) -> list[str]:
    return [command, "--resume", run, "--quiet", "--json", "new.json"]


def learn(data: str, folder: str) -> list[str]:
    return [*LEARN, "--data", data, "--data-dir", folder, *sets("data.verify=false")]


TARGETS = [
    Target("run", (
        resumed("train", "run"),
        ["evaluate", "run", "--quiet", "--json", "new.json"],
        ["evaluate", "run", "--checkpoint", "best", "--quiet", "--json", "new.json"],
        ["certify", "run", "--quiet", "--json", "new.json"],
        ["plan", "run", "--quiet", "--json", "new.json"],
        ["plot", "run", "--out", "new"],
        ["train", "run", "--quiet", "--out", "new"],
        ["train", *sets("train.weights=run", *TINY), "--quiet", "--out", "new"],
    ), RUN_FILES),
    Target("run", (
        ["train", "run/config.json", "--quiet", "--out", "new"],
        ["plan", "run/config.json", "--quiet", "--json", "new.json"],
    ), ("config.json",), same=False),
    Target("run", (
        ["train", *sets("train.weights=run/best.safetensors", *TINY), "--quiet", "--out", "new"],
    ), ("best.safetensors",)),
    Target("graph", (
        ["reason", *sets("train.weights=graph", *GRAPH), "--quiet", "--out", "new"],
    ), ("last.safetensors",)),
    Target("tasks", (
        ["continual", *sets("train.weights=tasks", *TINY, *TASKS), "--quiet", "--out", "new"],
    ), ("last.safetensors",)),
    Target("compared", (
        ["compare", *COMPARED, "--out", "compared", "--quiet", "--json", "new.json"],
    ), (*RUN_FILES, "compare.json")),
    Target("code", (
        ["train", "--model", "code/mine.py:Net", "--data", "code/mine.py:make", *USER, *NEW],
    ), ("mine.py",), same=False),
    Target("cut", (resumed("train", "cut"),), RUN_FILES),
    Target("tasks", (resumed("continual", "tasks"),), RUN_FILES),
    Target("cut_tasks", (resumed("continual", "cut_tasks"),), RUN_FILES),
    Target("graph", (
        resumed("reason", "graph"),
        ["explain", "graph", *"--quiet --answers 1 --top 2 --beams 2 --length 2 --json new.json".split()],
    ), RUN_FILES),
    Target("cut_graph", (resumed("reason", "cut_graph"),), RUN_FILES),
    Target("recipe", (["train", "recipe/a.toml", "--quiet", "--out", "new"],), same=False),
    Target("images", ([*LEARN, "--data", "folder", "--data-dir", "images"],), same=False),
    Target("formats", ([*LEARN, "--data", "folder", "--data-dir", "formats"],), same=False),
    Target("mnist", (learn("mnist", "mnist"),), same=False),
    Target("packed", (learn("mnist", "packed"),), same=False),
    Target("cifar10", (learn("cifar10", "cifar10"),), same=False),
    Target("cifar100", (learn("cifar100", "cifar100"),), same=False),
    Target("triples", ([*REASON, "--data", "folder", "--data-dir", "triples"],), same=False),
    Target("triples_gz", ([*REASON, "--data", "folder", "--data-dir", "triples_gz"],), same=False),
    Target("inductive", (
        [*REASON, "--data", "inductive", "--data-dir", "inductive", *sets("data.split=a")],
    ), same=False),
    Target("cora", ([*REASON, "--data", "cora", "--data-dir", "cora"],), same=False),
]  # fmt: skip


def make(root: Path) -> None:
    """Write sound files of every kind; in a child, as it trains."""
    tiny = sets(*TINY)
    for name, words in (
        ("run", ["train", *tiny]),
        ("tasks", ["continual", *tiny, *sets(*TASKS)]),
        ("graph", ["reason", *sets(*GRAPH)]),
    ):
        for cut in (False, True):
            folder = f"cut_{name}".replace("cut_run", "cut") if cut else name
            ended = call(lambda w=words, c=cut, f=folder: _train([*w, "--quiet", "--out", f], c), root, 60, 200)
            assert ended.status == (-signal.SIGKILL if cut else 0), ended
    ended = call(lambda: run(["compare", *COMPARED, "--out", "compared", "--quiet"]), root, 60, 200)
    assert ended.status == 0, ended
    (root / "code").mkdir()
    (root / "code" / "mine.py").write_text(CODE)
    write_images(root / "formats", ("bmp", "gif", "ppm", "tiff", "webp"))
    for seed, name in enumerate(
        ["train/dog/1", "train/cat/2", "train/cat/1", "train/dog/2", "test/dog/1", "test/cat/1"]
    ):
        path = root / "images" / f"{name}.{'png' if seed % 2 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = bytes(random.Random(seed).randbytes(6 * 6 * 3))
        Image.frombytes("RGB", (6, 6), pixels).save(path)
    (root / "recipe").mkdir()
    (root / "recipe" / "a.toml").write_text(RECIPE, encoding="utf-8")
    for name in ("mnist", "packed", "cora", "cifar10", "cifar100"):
        (root / name).mkdir()
    mnist.fill(root / "mnist")
    mnist.fill(root / "packed", "{part}-{kind}-idx{axes}-ubyte.gz")
    cifar.fill10(root / "cifar10")
    cifar.fill100(root / "cifar100")
    write_triples(root / "triples", TRIPLES)
    write_triples(root / "triples_gz", TRIPLES, packed=True)
    write_triples(root / "inductive" / "a", TRIPLES)
    write_triples(root / "inductive" / "a_ind", OTHER)
    write_citation(root / "cora")


def _train(words: list[str], cut: bool) -> int:
    """Train, and be killed in the second epoch if asked for."""
    sys.modules["spikewright.plots"] = None  # type: ignore[assignment]

    def told(self: log.Silent, epoch: int, batch: int, means: Any) -> None:
        if epoch == 1 and batch == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    if cut:
        log.Silent.batch = told  # type: ignore[method-assign]
    return main(words)


def run(words: list[str]) -> int:
    """A command, without figures after training."""
    if words[0] in ("train", "continual", "reason", "compare"):
        sys.modules["spikewright.plots"] = None  # type: ignore[assignment]
    return main(words)


def outcome(folder: Path, words: list[str]) -> Any:
    """What a command left: its result, and the weights of the run it trained."""
    found: dict[str, Any] = {}
    if (folder / "new.json").exists():
        found["json"] = timeless(json.loads((folder / "new.json").read_text()))
    trained = words[words.index("--resume") + 1] if "--resume" in words else "new"
    if (path := folder / trained / "last.safetensors").is_file():
        found["weights"] = load(path)["parts"].get("model")
        found["result"] = timeless(json.loads((folder / trained / "result.json").read_text()))
    if words[0] == "compare":
        runs = sorted(path for path in (folder / "compared").iterdir() if path.is_dir())
        found["runs"] = [timeless(json.loads((path / "result.json").read_text())) for path in runs]
    if words[0] == "plot":
        found["files"] = sorted(p.name for p in (folder / "new").iterdir())
    return found


@dataclass
class Trial:
    """One damaged file, and a command that reads it."""

    root: Path
    target: Target
    words: list[str]
    file: Path
    kind: str
    about: str = ""

    def judge(self, ended: Ended, sound: Any, folder: Path) -> tuple[str, str | None]:
        if self.file.suffix == ".tiff":  # libtiff tells of damage too, past Python
            lines = [line for line in ended.err.splitlines(True) if not re.match(r"[A-Z]\w+: ", line)]
            ended = replace_in(ended, err="".join(lines))
        found = complaint(self.words[0], ended)
        name = self.file.suffix or self.file.name
        if found is not None and found.startswith("traceback") and 'mine.py", line' in ended.err:
            return f"{self.words[0]}: an error of the user's own code", None
        if found is not None:
            return "", f"{self.words[0]}, {name}: {found}"
        if ended.status:
            return f"{self.words[0]}: refused", None
        try:
            left = outcome(folder, self.words)
        except Exception as error:
            return "", f"{self.words[0]}, {name}: it ended well, but {type(error).__name__}: {error}"
        whole = self.kind == "swapped" and self.words[0] != "compare" and "--resume" not in self.words
        if not self.target.same or whole:  # the sound file of another run is as good as the one that was there
            return f"{self.words[0]}: read", None
        if same(left, sound):
            return f"{self.words[0]}: as with the sound file", None
        return "", f"{self.words[0]}, {self.file.name}: another result: {where(left, sound)}"


def main_() -> int:
    given = flags("Read damaged files.", 60)
    torch.set_num_threads(1)
    experiment()  # loads what torch loads late
    root = Path(tempfile.mkdtemp(prefix="damage"))
    base = root / "base"
    base.mkdir()
    make(base)
    sound: dict[str, Any] = {}
    for target in TARGETS:
        for words in target.commands:
            folder = root / "sound"
            shutil.copytree(base / target.folder, folder / target.folder)
            ended = call(lambda w=words: run(w), folder, 30, 100)
            assert ended.status == 0 and (words[0] == "plot" or "formats" in words or not ended.err.strip()), (
                words,
                ended,
            )
            sound[" ".join(words)] = outcome(folder, words)
            shutil.rmtree(folder)
    others = [path for path in base.rglob("*") if path.is_file()]
    report = Report(given.count)
    for number in range(given.count):
        draw = random.Random(f"{given.seed} {number}")
        target = draw.choice(TARGETS)
        words = draw.choice(target.commands)
        if given.only is not None and number != given.only:
            continue
        folder = root / str(number)
        shutil.copytree(base / target.folder, folder / target.folder)
        files = sorted(p for p in (folder / target.folder).rglob("*") if p.is_file())
        file = draw.choice([p for p in files if not target.files or p.name in target.files])
        kind = replace(draw, file, others)
        ended = call(lambda w=words: run(w), folder, 15, 100)
        trial = Trial(root, target, words, file, kind)
        ending, violation = trial.judge(ended, sound[" ".join(words)], folder)
        if given.only is not None:
            print(words, file, kind, ended)
        about = f"--seed {given.seed} --only {number}: {kind} in {file.relative_to(folder)}; {' '.join(words)}"
        report.add(number, ending, violation, about)
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)
    return report.close()


if __name__ == "__main__":
    sys.exit(main_())
