"""The way of the data: calls of the library in one update, and how often they go from one file to another.

    python benchmarks/hops.py --rule ottt --list

Counts calls of functions of the library (not of torch) by one update after the first, on a net of three linear layers.
A change of file is a call whose file is not that of the call before it.
"""

import argparse
import sys
from collections import Counter
from itertools import groupby, pairwise
from pathlib import Path
from types import FrameType

import torch
from torch import nn

import spikewright as sw

ROOT = Path(sw.__file__).parent
RULES = {
    "bptt": sw.rules.BPTT,
    "sltt": sw.rules.SLTT,
    "ottt": sw.rules.OTTT,
    "opzo": sw.rules.OPZO,
    "dsr": sw.rules.DSR,
}


def calls_of(rule: str, steps: int) -> list[tuple[str, str]]:
    """Return file and function of every call of the library in the third update."""
    torch.manual_seed(0)
    layers = [nn.Linear(16, 32), sw.LIF(), nn.Linear(32, 32), sw.LIF(), nn.Linear(32, 4)]
    net, learner = sw.Network(nn.Sequential(*layers)), RULES[rule]()
    x, y = torch.rand(steps, 8, 16), torch.randint(4, (8,))
    loss = (sw.losses.OnRate if rule == "dsr" else sw.losses.PerStep)(nn.CrossEntropyLoss())
    found: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(ROOT)):
            found.append((str(Path(code.co_filename).relative_to(ROOT)), code.co_qualname))

    for number in range(3):
        sys.setprofile(note if number == 2 else None)
        for _ in learner.updates(net, x, y, loss):
            pass
        sys.setprofile(None)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rule", choices=RULES, default="ottt")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--list", action="store_true", help="print the way, a line for every stay in a file")
    parser.add_argument("--top", type=int, default=0, help="print the functions that are called most")
    options = parser.parse_args()
    calls = calls_of(options.rule, options.steps)
    files = [file for file, _ in calls]
    changes = sum(a != b for a, b in pairwise(files))
    for file, stay in groupby(calls, lambda call: call[0]) if options.list else ():
        print(f"{file:36} {' '.join(name for _, name in stay)}")
    for (file, name), count in Counter(calls).most_common(options.top):
        print(f"{count:5} {file}: {name}")
    print(f"{options.rule}: {len(calls)} calls in {len(set(files))} files, {changes} changes of file")


if __name__ == "__main__":
    main()
