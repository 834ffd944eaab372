"""Whether claims of exactness hold on networks that are drawn at random, odd ones, for every rule.

Every network is also run step by step by a program written apart from the library, which BPTT has to equal.  A failure
is printed with the recipe of the network, cut down to the constructs that it needs; `tests.odd.draw.build` draws it
again.  Ends with 1 if there is one.  `--defects` puts known defects back, one at a time, and prints after how many
networks each is found: among those of its own family, and among as many networks of all kinds as `--networks` says.

python benchmarks/odd_networks.py [--networks 300] [--seed 0] [--rule NAME ...] [--json FILE] [--defects]
"""

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.odd.check import PROMISING, RULES, Verdict, check, shrunk
from tests.odd.constructs import CONSTRUCTS
from tests.odd.defects import DEFECTS, search
from tests.odd.draw import Recipe, Sample, draw_networks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rule", action="append", choices=list(RULES), metavar="NAME", help=f"of {', '.join(RULES)}")
    parser.add_argument("--json", type=Path, help="write the report here too")
    parser.add_argument("--defects", action="store_true", help="put each known defect back, by itself")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.defects:
        return look_for_defects(options.seed, options.networks)
    tally = Tally(options.rule or list(RULES))
    try:
        for number, sample in enumerate(draw_networks(options.networks, options.seed), 1):
            tally.add(sample)
            if number % 10 == 0 or number == options.networks:
                failed = sum(len(found) for found in tally.failures.values())
                print(f"{number}/{options.networks} networks, {failed} failures", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("Stopped; this is what has been found so far.", file=sys.stderr)
    tally.print()
    if options.json:
        options.json.write_text(json.dumps(tally.report(), indent=1))
    return 1 if tally.failures else 0


@dataclass
class Count:
    """What came of one rule."""

    networks: int = 0
    refused: int = 0
    failed: int = 0
    rows: int = 0
    silent: int = 0
    equal: int = 0
    claimed: int = 0
    claimed_equal: int = 0
    broken: int = 0
    seconds: float = 0.0

    @property
    def recall(self) -> float | None:
        """Share of the rows equal to BPTT that are claimed."""
        return self.claimed_equal / self.equal if self.equal else None

    def add(self, verdict: Verdict, seconds: float) -> None:
        rows = verdict.rows
        self.networks += 1
        self.refused += bool(verdict.refused)
        self.failed += not verdict.ok
        self.rows += len(rows)
        self.silent += sum(row.vanishing for row in rows)
        self.equal += sum(row.equal for row in rows)
        self.claimed += sum(row.claimed for row in rows)
        self.claimed_equal += sum(row.claimed and row.equal for row in rows)
        self.broken += sum(row.broken for row in rows)
        self.seconds += seconds


@dataclass
class Failure:
    """One network on which one rule fails."""

    rule: str
    recipe: Recipe
    drawn: Recipe
    what: str


@dataclass
class Tally:
    """What came of all rules on all networks."""

    rules: list[str]
    counts: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    constructs: Counter[str] = field(default_factory=Counter)
    failures: dict[tuple[str, tuple[str, ...]], list[Failure]] = field(default_factory=lambda: defaultdict(list))
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    networks: int = 0
    rates: list[float] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        self.networks += 1
        self.constructs.update(sample.recipe.constructs)
        self.rates.extend(sample.rates.values())
        needed: list[Recipe] = []
        for rule in self.rules:
            began = time.perf_counter()
            verdict = check(sample, rule)
            self.counts[rule].add(verdict, time.perf_counter() - began)
            if verdict.refused:
                self.refusals[rule, _without_names(verdict.refused)] += 1
            if not verdict.ok:
                recipe = shrunk(verdict, needed)
                if recipe not in needed:
                    needed.append(recipe)
                kind, what = _shown(verdict)
                self.failures[kind, recipe.constructs].append(Failure(rule, recipe, sample.recipe, what))

    def print(self) -> None:
        print(f"{self.networks} networks, every construct in this share of them:")
        for name in sorted(CONSTRUCTS, key=lambda name: self.constructs[name]):
            print(f"  {name:30} {self.constructs[name] / self.networks:5.1%}")
        dead = sum(not 0.05 <= rate <= 0.95 for rate in self.rates)
        print(
            f"layers in which fewer than 5 or more than 95 % of neurons fire in a step: {dead} of {len(self.rates)}\n"
        )
        head = "networks refused failed   rows silent  equal claimed broken recall  ms"
        print(f"{'rule':26} {head}")
        for rule in self.rules:
            c = self.counts[rule]
            recall = "-" if c.recall is None else f"{c.recall:.0%}"
            print(
                f"{rule:26} {c.networks:8} {c.refused:7} {c.failed:6} {c.rows:6} {c.silent:6} {c.equal:6} "
                f"{c.claimed:7} {c.broken:6} {recall:>6} {1e3 * c.seconds / c.networks:3.0f}"
            )
        low = [rule for rule in PROMISING if rule in self.rules and (self.counts[rule].recall or 0) < 0.6]
        print(f"rules that claim less than 60 % of what is equal: {', '.join(low) or 'none'}\n")
        self._print_failures()

    def _print_failures(self) -> None:
        print(f"failures by the constructs that they need: {len(self.failures) or 'none'}")
        for (kind, constructs), found in sorted(self.failures.items(), key=lambda item: -len(item[1])):
            rules = Counter(failure.rule for failure in found)
            print(f"\n{len(found)} times, {kind}: {', '.join(constructs) or 'nothing odd'}")
            print("  rules: " + ", ".join(f"{rule} ({n})" for rule, n in rules.most_common()))
            print(f"  {found[0].rule}: {found[0].what}\n  {found[0].recipe}\n  drawn as {found[0].drawn}")

    def report(self) -> dict[str, object]:
        """Return all of it as plain values."""
        return {
            "networks": self.networks,
            "constructs": {name: self.constructs[name] / self.networks for name in CONSTRUCTS},
            "rules": {rule: {**vars(count), "recall": count.recall} for rule, count in self.counts.items()},
            "refusals": [[*key, count] for key, count in self.refusals.most_common()],
            "failures": [
                {"kind": kind, "constructs": constructs, "found": [[f.rule, f.what, str(f.recipe)] for f in found]}
                for (kind, constructs), found in self.failures.items()
            ],
        }


def _shown(verdict: Verdict) -> tuple[str, str]:
    """Return what kind of failure there is, and its figures."""
    if verdict.crashed:
        return "crashed", verdict.crashed[:150]
    if verdict.broken:
        return "broken promise", ", ".join(f"{row.site} off by {row.error:.2g}" for row in verdict.broken)
    if verdict.marks:
        return "left a mark", ", ".join(verdict.marks)
    return "traced although it says not", ", ".join(verdict.traced)


def _without_names(message: str) -> str:
    """Return the start of a message, the same for all networks in which it names other parts."""
    kept = message.split("'")[::2]
    return "'...'".join(kept)[:120]


def look_for_defects(seed: int, anything: int) -> int:
    """Print where each known defect is found: not as the code is, and in the first networks once it is put back.

    Args:
        seed: The first seed of the networks that are drawn.
        anything: How many networks to look at whose constructs are drawn, beside those of the family of each defect.
    """
    missed = 0
    print(f"{'defect':48} {'as it is':10} {'put back':28} {'put back, any network':28} shown by")
    for name, defect in DEFECTS.items():
        there = search(defect, seed)
        with pytest.MonkeyPatch.context() as patch:
            defect.plant(patch)
            found, among = search(defect, seed), search(defect, seed, anything, anything=True)
        missed += there is not None or found is None
        shown = "" if found is None else _shown(found[1])[1][:70]
        print(f"{name:48} {_where(there):10} {_where(found):28} {_where(among):28} {shown}", flush=True)
    print(f"{len(DEFECTS)} defects, {missed} there as it is, or not found when put back")
    return 1 if missed else 0


def _where(found: tuple[int, Verdict] | None) -> str:
    return "no" if found is None else f"{found[0]}, {found[1].rule}"


if __name__ == "__main__":
    sys.exit(main())
