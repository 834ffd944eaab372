"""Rules in the trainers of Lightning and transformers: the weights of a plain loop, in one process and in two."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from torch import Tensor

import spikewright
from tests.interop import trained

ROOT = Path(spikewright.__file__).parent.parent
every = pytest.mark.parametrize("library", ["lightning", "transformers"])
Learned = dict[str, Tensor]


@cache
def trained_by(library: str, processes: int = 1, *options: str) -> dict[str, list[Learned]]:
    """Return what every process ends with, by rule."""
    pytest.importorskip(library)
    out, rules = Path(mkdtemp()), list(trained.RULES)
    launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
    program = ["-m", "tests.interop.trained", library, ",".join(rules), str(out), *options]
    done = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), *program], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        rule: [torch.load(out / f"{rule} {rank}.pt", weights_only=True) for rank in range(processes)] for rule in rules
    }


def expected(rule: str) -> Learned:
    made = trained.RULES[rule]()
    return trained.learned(trained.plain(made), made)


def difference(found: Learned, other: Learned) -> float:
    assert found.keys() == other.keys()
    return max((found[name].double() - other[name].double()).abs().max().item() for name in found)


@every
@pytest.mark.parametrize("rule", ["OTTT-A", "OTTT-O", "BPTT"])
def test_one_process_gets_the_weights_of_a_plain_loop(library: str, rule: str) -> None:
    (found,) = trained_by(library)[rule]
    assert difference(found, expected(rule)) == 0.0


@every
@pytest.mark.parametrize("rule", ["OTTT-A", "OTTT-O", "BPTT"])
def test_two_processes_get_the_weights_of_one(library: str, rule: str) -> None:
    first, second = trained_by(library, 2)[rule]
    assert difference(first, second) == 0.0
    assert difference(first, expected(rule)) < 1e-10


@every
def test_a_rule_that_learns_by_itself_is_the_same_in_two_processes(library: str) -> None:
    first, second = trained_by(library, 2)["OPZO"]
    assert any(name.startswith("rule.") for name in first)
    assert difference(first, second) < 1e-12


def test_processes_that_keep_their_own_gradients_drift_apart() -> None:
    first, second = trained_by("lightning", 2, "drift")["OTTT-O"]
    assert difference(first, second) > 1e-3
