"""What the scripts of this folder share: flags, progress, counts by outcome, and violations by kind."""

import argparse
import re
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from spikewright import errors
from tests.fuzz.forked import Ended

OURS = [name for name in errors.__all__ if issubclass(getattr(errors, name), errors.SpikewrightError)]


def flags(about: str, count: int) -> argparse.Namespace:
    """Read `--count`, `--seed`, and `--only`, the number of a single trial to repeat."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--count", type=int, default=count, help="Number of trials.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of everything that is drawn.")
    parser.add_argument("--only", type=int, default=None, help="Repeat this trial alone, and show all of it.")
    return parser.parse_args()


def complaint(command: str, ended: Ended) -> str | None:
    """Say what is wrong with the end of a command; None if it succeeded or refused in one line."""
    if ended.stopped is not None:
        return f"stopped: {ended.stopped}"
    if ended.raised:
        return f"traceback: {ended.raised}"
    if ended.status == 0:
        return None
    if ended.status != 2:
        return f"status {ended.status}: {ended.err[-300:]!r}"
    lines = ended.err.splitlines()
    if re.match(rf"spikewright {command}: error: ", ended.err) and len(lines) == 2:
        return None  # a flag that cannot be read
    if not any(re.match(rf"spikewright {command}: ({'|'.join(OURS)}): .", line) for line in lines):
        return f"an error that is not ours: {ended.err[:300]!r}"
    return None if len(lines) == 1 else f"more than one line: {ended.err[:300]!r}"


def kind_of(what: str) -> str:
    """A violation without what differs between its instances."""
    what = re.sub(r"0x[0-9a-f]+|-?\d[\d.e+-]*", "#", what)
    return re.sub(r"'[^']{0,80}'|\"[^\"]{0,80}\"", "'..'", what)[:110]


@dataclass
class Report:
    """Counts by outcome, and violations by kind; each is printed as it is found."""

    count: int
    outcomes: Counter[str] = field(default_factory=Counter[str])
    violations: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list[str]))
    began: float = field(default_factory=time.monotonic)

    def add(self, number: int, outcome: str, violation: str | None = None, reproduce: Any = "") -> None:
        """Count a trial."""
        self.outcomes["violation" if violation else outcome] += 1
        if violation:
            found = self.violations[kind_of(violation)]
            found.append(f"trial {number}: {violation}\n      {reproduce}")
            if len(found) == 1:
                sys.stderr.write(f"VIOLATION {found[0]}\n")
        done = sum(self.outcomes.values())
        if done % max(1, self.count // 20) == 0 or done == self.count:
            took = time.monotonic() - self.began
            sys.stderr.write(f"{done} of {self.count} after {took:.0f} s: {dict(self.outcomes.most_common())}\n")
            sys.stderr.flush()

    def close(self) -> int:
        """Print everything; the exit status."""
        for outcome, number in self.outcomes.most_common():
            print(f"{number:6} {outcome}")
        print(f"{sum(map(len, self.violations.values()))} violations of {len(self.violations)} kinds")
        for kind, found in sorted(self.violations.items(), key=lambda pair: -len(pair[1])):
            print(f"\n{len(found)} x {kind}")
            print("\n".join(f"    {entry}" for entry in found))
        return 1 if self.violations else 0
