"""Runs that are killed, continued, and perhaps killed again end like runs that were not, to the last bit.

python -m tests.fuzz.kills --count 300
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import spikewright
from spikewright.cli.__main__ import main
from spikewright.train import log
from spikewright.train.checkpoint import load
from tests.fuzz.forked import Ended, call
from tests.fuzz.reporting import Report, complaint, flags
from tests.train.support import experiment, history, same

ROOT = str(Path(spikewright.__file__).parent)
MOMENTS = ("batch", "call", "sync", "half", "rename", "renamed")
"""After a batch; at a call of any function of the library; before, or half way through, the writing of a file; before
and after it gets its name."""
PER_RUN = 6
"""Kills of one configuration."""
LIMIT = 60.0


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Watch:
    """Counts moments, and kills this process at one of them."""

    moment: str = ""
    at: int = 0
    share: float = 0.0
    counts: Counter[str] = field(default_factory=Counter[str])

    def reached(self, moment: str) -> bool:
        self.counts[moment] += 1
        return moment == self.moment and self.counts[moment] == self.at

    def start(self) -> None:
        batch, fsync, replace = log.Silent.batch, os.fsync, Path.replace

        def told(*args: Any) -> None:
            batch(*args)
            if self.reached("batch"):
                _kill()

        def synced(handle: int) -> None:
            if self.reached("sync"):
                _kill()
            if self.reached("half"):
                os.ftruncate(handle, int(self.share * os.fstat(handle).st_size))
                _kill()
            fsync(handle)

        def renamed(path: Path, target: Path) -> Path:
            if self.reached("rename"):
                _kill()
            new = replace(path, target)
            if self.reached("renamed"):
                _kill()
            return new

        log.Silent.batch = told  # type: ignore[method-assign, assignment]
        os.fsync = synced
        Path.replace = renamed  # type: ignore[method-assign]
        if self.moment in ("", "call"):
            sys.setprofile(self._called)

    def _called(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(ROOT) and self.reached("call"):
            _kill()


def sets(*overrides: str) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


RULES = """
ottt ottt:online=true sltt:k=2 bptt dsr opzo opzo:online=true ide spide hlop:ottt ewc:bptt replay:sltt
ottt:spatial=dkp ottt:spatial=zo
""".split()
AROUND = ["naive:ottt", "hlop:dsr", "hlop:ottt:online=true", "gpm:bptt", "ewc:ottt", "lwf:dsr", "replay:sltt:k=1"]
MODELS = [
    ["model.name=mlp", "model.hidden=[8]"],
    ["model.name=vgg", "model.layers=[4, 'P', 4]", "model.dropout=0.3"],
    ["model.name=conv", "model.channels=[4]", "model.hidden=8", "model.norm=batch"],
]
EQUILIBRIUM = ["model.name=mlp_f", "model.hidden=[8]"]
SGD = ["optimizer.name=sgd", "optimizer.lr=0.05", "optimizer.momentum=0.9"]
OPTIMIZERS = [SGD, ["optimizer.name=adam"], ["optimizer.name=radam"], ["optimizer.name=asgd"], ["optimizer.name=rprop"]]
SCHEDULES = [
    ["schedule.warmup=0.5"],
    ["schedule.name=constant"],
    ["schedule.name=reducelronplateau", "schedule.patience=0", "schedule.threshold=1.0"],
    ["schedule.name=cosineannealingwarmrestarts", "schedule.T_0=1"],
    ["schedule.name=onecyclelr", "schedule.max_lr=0.1", "schedule.total_steps=9"],
    ["schedule.name=steplr", "schedule.step_size=1"],
]


def shared(draw: random.Random) -> list[str]:
    """What every loop reads."""
    chosen = [f"train.seed={draw.randrange(100)}", f"train.accumulate={draw.choice([1, 1, 2, 3])}"]
    chosen.append(f"train.checkpoint_every={draw.choice(['none', 1, 2, 3])}")
    chosen.append(f"train.workers={draw.choice([0, 0, 0, 1])}")
    chosen.append(f"train.amp={draw.choice(['off', 'off', 'off', 'bfloat16', 'float16'])}")
    chosen.append(f"train.evaluate_every={draw.choice([1, 1, 2])}")
    chosen += draw.choice([[], ["train.patience=1"], ["train.clip_norm=0.5"]])
    return chosen


def arguments(draw: random.Random) -> list[str]:
    """A command without its folder."""
    command = draw.choices(["train", "continual", "reason"], [5, 3, 2])[0]
    if command == "reason":
        small = ["data.name=family", "data.trees=1", "data.generations=3", "model.width=4", "train.negatives=4"]
        small += ["train.limit_batches=5", "train.batch_size=4", "train.epochs=2"]
        model = draw.choice([["model.name=grsnn"], ["model.name=grsnn+"], ["model.name=nbfnet"]])
        return [command, *sets(*model, *small, *draw.choice(OPTIMIZERS), *shared(draw))]
    data = ["data.name=synthetic", f"data.size={draw.choice([24, 31])}", "train.steps=3", "train.epochs=2"]
    data += ["train.batch_size=5", f"data.encoding={draw.choice(['direct', 'direct', 'poisson'])}"]
    data += draw.choice([[], ["data.augment=crop"], ["data.augment=shift"]])
    if command == "train":
        rule = draw.choice(RULES)
        model = EQUILIBRIUM if rule in ("ide", "spide") else draw.choice(MODELS)
        optimizer = SGD if rule.startswith("hlop") else draw.choice(OPTIMIZERS)
        extra = draw.choice([[], ["data.validation=0.25"], ["train.certify_every=2"]])
        options = sets(*data, *model, *optimizer, *draw.choice(SCHEDULES), *extra, *shared(draw))
        return [command, "--rule", rule, *options]
    rule = draw.choice(AROUND)
    scenario = draw.choice([["split", "scenario.heads=true"], ["split", "scenario.heads=false"], ["permuted"]])
    tasks = [f"scenario.name={scenario[0]}", *scenario[1:], "scenario.tasks=2"]
    between = ["continual.probe_every=2", "continual.rehearse_samples=2", "continual.probe_dense=2"]
    tasks += draw.choice([[], *([key] for key in between)])
    optimizer = SGD[:2] if rule[:4] in ("hlop", "gpm:") else draw.choice(OPTIMIZERS)
    model = draw.choice(MODELS[:1] * 2 + MODELS[1:])
    return [command, "--rule", rule, *sets(*data, *model, *optimizer, *tasks, *shared(draw))]


def started(words: list[str], watch: Watch, counted: Path | None = None) -> Callable[[], int]:
    """A command, watched, in this process."""

    def work() -> int:
        sys.modules["spikewright.plots"] = None  # type: ignore[assignment]
        watch.start()
        status = main([*words, "--quiet"])
        sys.setprofile(None)
        if counted is not None:
            counted.write_text(json.dumps(watch.counts))
        return status

    return work


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: timeless(entry)
            for key, entry in value.items()
            if not str(key).startswith(("seconds", "versions", "digest"))
        }
    return [timeless(entry) for entry in value] if isinstance(value, list) else value


def difference(run: Path, whole: Path) -> str | None:
    """Say how two finished runs differ."""
    left, right = (sorted(str(p.relative_to(at)) for p in at.rglob("*")) for at in (run, whole))
    if left != right:
        return f"files: {sorted(set(left) ^ set(right))}"
    for name in ("last", "best"):
        one, other = (timeless(load(at / f"{name}.safetensors")) for at in (run, whole))
        if not same(one, other):
            return f"{name}.safetensors differs at {where(one, other)}"
    for name in ("result", "config"):
        one, other = (timeless(json.loads((at / f"{name}.json").read_text())) for at in (run, whole))
        if not same(one, other):
            return f"{name}.json differs at {where(one, other)}"
    if (whole / "log.csv").exists() and not same(history(run), history(whole)):
        return "log.csv differs"
    if (whole / "alignment.csv").exists():
        one, other = ((at / "alignment.csv").read_bytes() for at in (run, whole))
        return None if one == other else "alignment.csv differs"
    return None


def where(one: Any, other: Any, path: str = "") -> str:
    """The first place where two trees differ, and how."""
    if isinstance(one, dict) and isinstance(other, dict) and set(one) != set(other):
        return f"{path}: keys {sorted(map(str, set(one) ^ set(other)))}"
    if isinstance(one, dict) and isinstance(other, dict) and list(one) != list(other):
        return f"{path}: order of keys {list(one)} and {list(other)}"
    if isinstance(one, dict) and isinstance(other, dict) and list(one) == list(other):
        return next(where(one[k], other[k], f"{path}.{k}") for k in one if not same(one[k], other[k]))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return next(where(a, b, f"{path}.{n}") for n, (a, b) in pairs if not same(a, b))
    return f"{path}: {str(one)[:80]} and {str(other)[:80]}"


@dataclass
class Trial:
    """Kills of one configuration."""

    root: Path
    words: list[str]
    counts: dict[str, int]

    def planned(self, draw: random.Random) -> Watch:
        moment = draw.choice(MOMENTS)
        return Watch(moment, draw.randint(1, max(1, self.counts.get(moment, 1))), draw.random())

    def of(self, draw: random.Random, done: Counter[str]) -> tuple[str, str | None, str]:
        """Kill a run, and go on until it ends: outcome, violation, and what reproduces it."""
        run, command = self.root / "run", self.words[0]
        shutil.rmtree(run, ignore_errors=True)
        words, plans = [*self.words, "--out", str(run)], list[str]()
        kills = draw.choice([1, 1, 1, 2, 3])
        while True:
            watch = self.planned(draw) if len(plans) < kills else Watch("never")
            if watch.moment != "never":
                plans.append(f"{watch.moment} {watch.at}" + (f" of {watch.share:.2f}" * (watch.moment == "half")))
            ended = call(started(words, watch), self.root, LIMIT, 2 * LIMIT)
            if ended.status == -signal.SIGKILL and watch.moment != "never":
                done[f"{command}, {watch.moment}"] += 1
                words = [command, "--resume", str(run)] if run.exists() else words
                continue
            if (
                ended.status == 2 and "config.json" in ended.err and not (run / "config.json").exists()
            ):  # so it says to begin one without --resume
                words = [*self.words, "--out", str(run)]
                if plans[-1] != "anew":
                    plans.append("anew")
                    kills = len(plans)
                    continue
            break
        about = f"{json.dumps([w for w in self.words if w != '--set'])} killed at {plans}"
        if violation := self._problem(command, ended):
            return "", violation, about
        return f"{command}: as if it had not been killed", difference(run, self.root / "whole"), about

    def _problem(self, command: str, ended: Ended) -> str | None:
        found = complaint(command, ended)
        if found is None and ended.status != 0:
            found = f"refused: {ended.err[:400]}"
        return found


def main_() -> int:
    given = flags("Kill runs, continue them, and compare them with runs that were not killed.", 12)
    torch.set_num_threads(1)
    experiment()  # loads what torch loads late
    report, done, refused = Report(given.count), Counter[str](), Counter[str]()
    root, number, configuration = Path(tempfile.mkdtemp(prefix="kills")), 0, 0
    while number < given.count:
        draw = random.Random(f"{given.seed} {configuration}")
        configuration += 1
        at = root / str(configuration)
        at.mkdir()
        words = arguments(draw)
        counted = at / "counts.json"
        ended = call(started([*words, "--out", str(at / "whole")], Watch(), counted), at, LIMIT, 2 * LIMIT)
        if ended.status != 0:
            refused[ended.err[:150]] += 1
            if found := complaint(words[0], ended):
                report.add(number, "", f"uninterrupted: {found}", json.dumps(words))
            shutil.rmtree(at)
            continue
        trial = Trial(at, words, json.loads(counted.read_text()))
        for _ in range(min(PER_RUN, given.count - number)):
            if given.only is None or given.only == number:
                report.add(number, *trial.of(draw, done))
            else:
                trial.planned(draw)
            number += 1
        shutil.rmtree(at, ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)
    print(f"{sum(done.values())} kills of {configuration - sum(refused.values())} configurations")
    for what, times in sorted(done.items()):
        print(f"{times:6} {what}")
    for what, times in refused.most_common():
        print(f"{times:6} configurations refused: {what}")
    return report.close()


if __name__ == "__main__":
    sys.exit(main_())
