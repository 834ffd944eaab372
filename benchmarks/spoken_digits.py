"""Accuracy, time and memory of learning rules on spoken digits, by feed-forward, recurrent and delayed networks.

The data are the 3,000 recordings of the Free Spoken Digit Dataset, in DATA_DIR. Networks learn from the recordings with
index 5 to 49 and are measured once, after the last epoch, on those with index 0 to 4; --leave-out measures on a speaker
whom they never heard. --validate learns from index 10 to 49 and measures on 5 to 9, which is how settings were chosen;
then no file of the test part is read into a network. Every run has a process of its own; its peak is what the process
grew by while it trained. OPZO refuses lengths of sequences, so it learns from zeros behind their ends as from silence.

python benchmarks/spoken_digits.py DATA_DIR [--nets ff,recurrent,delay] [--rules bptt,bptt-rate,sltt,ottt,ottt-online]
    [--seeds 3] [--epochs 25] [--coding analog] [--bank mel] [--leave-out NAME | --validate] [--json]
"""

import argparse
import ctypes
import json
import multiprocessing
import statistics
import time
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

import spikewright as sw
from spikewright.data import Sequences, bucketed
from spikewright.sound import (
    Analog,
    Coding,
    DeltaCode,
    Encoder,
    GammatoneBank,
    LatencyCode,
    LevelCrossingCode,
    MelBank,
    Normalisation,
    spoken_digits,
)

CODINGS: dict[str, Coding] = {
    "analog": Analog(),
    "delta": DeltaCode(0.5),
    "delta-one": DeltaCode(0.5, max_spikes=1),
    "level": LevelCrossingCode((-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)),
    "latency": LatencyCode(8),
}
RULES = {
    "bptt": sw.rules.BPTT,
    "bptt-rate": sw.rules.BPTT,
    "sltt": sw.rules.SLTT,
    "ottt": sw.rules.OTTT,
    "ottt-online": lambda: sw.rules.OTTT(online=True),
    "opzo": lambda: sw.rules.OPZO(momentum=0.999),
    "eprop": sw.rules.EProp,
}


@dataclass(frozen=True)
class Run:
    """Settings of one run."""

    net: str
    rule: str
    seed: int
    data_dir: str
    leave_out: str | None
    validate: bool
    coding: str
    bank: str
    bands: int
    step: float
    context: int
    norm: str
    hidden: int
    layers: int
    tau: float
    dropout: float
    epochs: int
    lr: float
    online_lr: float
    batch: int


def parts(run: Run) -> tuple[Sequences, Sequences]:
    """Return the sequences to learn from and to measure on, flat at every step."""
    kind = {"mel": MelBank, "gammatone": GammatoneBank}[run.bank]
    bank = kind(8000, bands=run.bands, window=2 * run.step, step=run.step)
    to = "unit" if run.coding == "latency" else "standard"
    normalisation = Normalisation(
        to, over="training" if run.norm == "training" else "recording", by_band=run.norm != "recording"
    )
    encoder = Encoder(bank, normalisation=normalisation, coding=CODINGS[run.coding], context=run.context)
    data = spoken_digits(run.data_dir, encoder, run.leave_out)
    if not run.validate:
        return data.train, data.test
    index = torch.tensor([int(name.rpartition("_")[2].removesuffix(".wav")) for name in data.train_files])
    return tuple(data.train.subset(mask.nonzero().flatten()) for mask in (index >= 10, index < 10))  # type: ignore[return-value]


def network(run: Run, feature: int) -> sw.Network:
    layers, width = list[nn.Module](), feature
    for _ in range(run.layers):
        if run.net == "delay" and layers:
            layers.append(sw.SynapticDelay(width, max_delay=8))
        layers.append(nn.Linear(width, run.hidden))
        if run.net == "recurrent":
            layers.append(sw.Recurrent(sw.LIF(run.tau), nn.Linear(run.hidden, run.hidden, bias=False)))
            nn.init.orthogonal_(layers[-1].transform.weight, 0.3)  # type: ignore[union-attr]
        else:
            layers.append(sw.LIF(run.tau))
        layers.append(nn.Dropout(run.dropout))
        width = run.hidden
    if run.net == "delay":
        layers.append(sw.SynapticDelay(width, max_delay=8))
    return sw.Network(nn.Sequential(*layers, nn.Linear(width, 10)))


def accuracy(run: Run, net: sw.Network, data: Sequences) -> float:
    """Return the share of sequences whose outputs, summed over their own steps, are largest at their class."""
    net.eval()
    right = 0
    with torch.no_grad():
        for chosen in data.steps.argsort(stable=True).split(100):
            x, lengths = data.batch(chosen)
            output, _ = net.run(x.flatten(2), lengths=None if run.rule == "opzo" else lengths)
            right += int((output.sum(0).argmax(1) == data.labels[chosen]).sum())
    return right / len(data)


def resident(name: str) -> int:
    """Return the KiB that this process holds ("VmRSS"), or held at most since that was asked ("VmHWM"); Linux only."""
    if name == "VmRSS":
        ctypes.CDLL(None).malloc_trim(0)  # what reading the data left behind
        Path("/proc/self/clear_refs").write_text("5")
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith(name))


def trained(run: Run) -> dict[str, Any]:
    """Train and measure one network."""
    torch.set_num_threads(1)
    torch.manual_seed(run.seed)
    train, test = parts(run)
    net, rule = network(run, train.size), RULES[run.rule]()
    criterion = nn.CrossEntropyLoss()
    loss = sw.losses.OnRate(criterion) if run.rule == "bptt-rate" else sw.losses.PerStep(criterion)
    rate = run.online_lr if run.rule == "ottt-online" else run.lr
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.01)
    per_epoch = -(-len(train) // run.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=per_epoch * run.epochs, pct_start=0.15)
    order, times, rates = torch.Generator().manual_seed(run.seed), list[float](), dict[str, float]()
    before = resident("VmRSS")
    for _ in range(run.epochs):
        net.train()
        for chosen in bucketed(train.steps, run.batch, order):
            x, lengths = train.batch(chosen)
            own = None if run.rule == "opzo" else lengths
            began = time.perf_counter()
            for update in rule.updates(net, x.flatten(2), train.labels[chosen], loss, lengths=own):
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                rates = {site: float(value) for site, value in update.rates.items()}
            times.append(time.perf_counter() - began)
            schedule.step()
    peak = (resident("VmHWM") - before) / 1024
    found = {"accuracy": accuracy(run, net, test), "training": accuracy(run, net, train), "measured on": len(test)}
    cost = {"step, ms": 1e3 * statistics.median(times), "peak, MiB": peak}
    return {**asdict(run), **found, **cost, "rates": rates, "density": train.density}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir")
    parser.add_argument("--nets", default="ff,recurrent,delay")
    parser.add_argument("--rules", default="bptt,bptt-rate,sltt,ottt,ottt-online")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--leave-out")
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--coding", default="analog", choices=CODINGS)
    parser.add_argument("--bank", default="mel", choices=("mel", "gammatone"))
    parser.add_argument("--bands", type=int, default=40)
    parser.add_argument("--step", type=float, default=0.016)
    parser.add_argument("--context", type=int, default=4)
    parser.add_argument("--norm", default="recording", choices=("recording", "recording-band", "training"))
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--tau", type=float, default=4.0)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--online-lr", type=float, default=2e-4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="print one object a run, and no table")
    options = vars(parser.parse_args())
    nets, rules, seeds, as_json = (options.pop(name) for name in ("nets", "rules", "seeds", "json"))
    if not as_json:
        print(
            f"{'network':10} {'rule':12} {'accuracy, %':>16} {'step, ms':>9} {'peak, MiB':>10} {'seconds':>8}",
            flush=True,
        )
    for net, rule in product(nets.split(","), rules.split(",")):
        found, began = list[dict[str, Any]](), time.perf_counter()
        for seed in range(seeds):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found.append(pool.apply(trained, (Run(net=net, rule=rule, seed=seed, **options),)))
            if as_json:
                print(json.dumps(found[-1]), flush=True)
        if not as_json:
            shares = [100 * each["accuracy"] for each in found]
            spread = f" +- {statistics.stdev(shares):.2f}" if seeds > 1 else ""
            step, peak = (statistics.mean(each[name] for each in found) for name in ("step, ms", "peak, MiB"))
            row = f"{net:10} {rule:12} {f'{statistics.mean(shares):.2f}{spread}':>16} {step:9.1f} {peak:10.1f}"
            print(f"{row} {time.perf_counter() - began:8.1f}", flush=True)


if __name__ == "__main__":
    main()
