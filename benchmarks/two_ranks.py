"""Weights that two processes reach by the commands, beside those of one process, in float64.

python benchmarks/two_ranks.py [--only train continual reason] [--updates 20]

Every run takes batches that two processes cannot divide evenly, a last batch that is not full, gradient accumulation
and clipping.  Printed is the largest difference of a weight, relative to the largest weight of its tensor.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from spikewright.cli.__main__ import main as command
from spikewright.train.checkpoint import load

ONLINE = "ottt:online=true"
RULES = {
    "bptt": "bptt", "bptt, checkpoint": "bptt:checkpoint=true", "sltt": "sltt", "sltt, k": "sltt:k=1", "ottt": "ottt",
    "ottt, online": ONLINE, "ottt, FA": "ottt:spatial=fa", "ottt, DFA": "ottt:spatial=dfa",
    "ottt, DKP": "ottt:spatial=dkp", "ottt, ZO": "ottt:spatial=zo", "ottt, local": "ottt:local=true", "opzo": "opzo",
    "opzo, local": "opzo:local=true", "dsr": "dsr", "ide": "ide", "spide": "spide",
}  # fmt: skip
NEURONS = {"dsr": "dsrif", "ide": "if", "spide": "if"}
BASE = ["--set", "data.size=43", "--batch-size", "9", "--set", "train.clip_norm=0.5", "--set", "train.accumulate=2"]
TRAIN = ["train", "--data", "synthetic", "--steps", "3", *BASE]
VARIANTS = {
    "summed criterion": ["loss.criterion.reduction=sum", "optimizer.lr=0.01"],
    "ignored labels": ["loss.criterion.ignore_index=1"],
    "mean output": ["loss.name=on_rate"],
    "validation data": ["data.validation=0.2"],
    "noisy neurons": ["neuron.noise=0.2"],
    "workers": ["train.workers=1"],
}
Cases = Iterator[tuple[str, list[str]]]


def runs(commands: list[str], updates: int) -> Cases:
    """Return names of runs with their commands."""
    if "train" in commands:
        yield from training(max(1, updates // 3))
    if "continual" in commands:
        for rule in ("naive:bptt", "hlop:opzo", "hlop:dsr", "gpm:ottt", "ewc:bptt", "lwf:bptt", "replay:sltt"):
            yield f"continual {rule}", continual(rule, updates)
    if "reason" in commands:
        for model in ("grsnn", "grsnn+", "nbfnet"):
            yield f"reason {model}", reason(model, updates)


def training(epochs: int) -> Cases:
    mlp = ["--model", "mlp", "--set", "model.hidden=[16,16]", "--epochs", str(epochs)]
    for name, rule in RULES.items():
        every = ["--set", "train.accumulate=1"] if rule == ONLINE else []
        yield f"train {name}", [*TRAIN, *mlp, "--rule", rule, "--neuron", NEURONS.get(rule, "lif"), *every]
    for name, keys in VARIANTS.items():
        yield f"train bptt, {name}", [*TRAIN, *mlp, "--rule", "bptt", *(f for key in keys for f in ("--set", key))]
    conv = [
        "--model",
        "conv",
        "--set",
        "model.channels=[4]",
        "--set",
        "model.hidden=8",
        "--set",
        "model.bias=false",
        "--epochs",
        str(epochs),
    ]
    for rule in ("bptt", "ottt", "sltt"):
        joint = ["--set", "model.norm=batch", "--set", "train.sync_batch_norm=true"]
        yield f"train {rule}, batch norm over all processes", [*TRAIN, *conv, "--rule", rule, *joint]
    vgg = ["--model", "vgg", "--set", "model.layers=[4,'P',4]", "--set", "model.dropout=0.3", "--epochs", str(epochs)]
    yield "train ottt, dropout", [*TRAIN, *vgg, "--rule", "ottt"]


def continual(rule: str, updates: int) -> list[str]:
    plain = ["--set", "optimizer.name=sgd"] if rule.startswith(("hlop", "gpm")) else []
    neuron = ["--set", "neuron.name=dsrif"] if rule.endswith("dsr") else []
    tasks = [
        "--set",
        "scenario.name=split",
        "--set",
        "scenario.tasks=2",
        "--set",
        "model.hidden=[16,16]",
        "--epochs",
        str(updates // 4),
    ]
    data = ["--set", "data.name=synthetic", "--set", "model.name=mlp"]
    return ["continual", *data, "--steps", "3", *BASE, *tasks, *plain, *neuron, "--rule", rule]


def reason(model: str, updates: int) -> list[str]:
    family = "--data family --epochs 1 --batch-size 5 --set data.trees=2 --set data.generations=3"
    steps = "" if model == "nbfnet" else "--set model.steps=5"
    small = f"--set model.width=4 {steps} --set train.limit_batches={2 * updates} --set train.accumulate=2"
    return ["reason", *family.split(), *small.split(), "--model", model]


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(commands: list[list[str]], ports: list[int], rank: int, world: int) -> subprocess.Popen[str]:
    """Start a process that runs commands one after the other, as one of several or alone."""
    order = ["--child", str(rank), str(world), json.dumps(list(zip(ports, commands, strict=True)))]
    return subprocess.Popen([sys.executable, __file__, *order], text=True)


def child(rank: str, world: str, jobs: str) -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    for free, arguments in json.loads(jobs):
        if int(world) > 1:
            os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1"}
            os.environ["MASTER_PORT"] = str(free)
        command(arguments)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return {k: v for k, v in load(run / "last.safetensors")["parts"]["model"].items() if v.is_floating_point()}


def difference(left: Path, right: Path) -> float:
    """Return the largest difference of a weight relative to the largest weight of its tensor."""
    one, other = weights(left), weights(right)
    assert all(weight.dtype == torch.float64 for weight in one.values())
    return max(float((one[k] - other[k]).abs().max() / one[k].abs().max().clamp_min(1e-30)) for k in one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["train", "continual", "reason"])
    parser.add_argument("--updates", type=int, default=20)
    options = parser.parse_args()
    began, root = time.perf_counter(), Path(tempfile.mkdtemp(prefix="ranks"))
    cases = dict(runs(options.only, options.updates))
    folders = {world: [root / str(world) / str(n) for n in range(len(cases))] for world in (1, 2)}
    ports = [port() for _ in cases]
    for world, out in folders.items():
        orders = [[*c, "--quiet", "--out", str(folder)] for c, folder in zip(cases.values(), out, strict=True)]
        for process in [start(orders, ports, rank, world) for rank in range(world)]:
            process.wait()
    for name, one, two in zip(cases, folders[1], folders[2], strict=True):
        if not ((one / "result.json").exists() and (two / "result.json").exists()):
            print(f"{name:45} failed")
            continue
        updates = load(one / "last.safetensors")["progress"]["batches"]
        print(f"{name:45} {updates:4} batches  {difference(one, two):.1e}")
    print(f"{root}: {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
