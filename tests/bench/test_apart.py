"""Memory measured in a fresh process."""

import pytest
import torch

from spikewright.bench.apart import IsolatedStep, measure_apart
from spikewright.bench.contenders import Step
from spikewright.bench.measure import ChildFailed
from spikewright.bench.settings import BenchSettings
from spikewright.bench.task import Task
from spikewright.bench.workloads._memory import table
from tests.bench.fakes import Fake, Hungry, Keeping, Nothing

QUICK = BenchSettings(quick=True)


@pytest.mark.long
def test_the_peak_is_that_of_the_step_whatever_the_parent_holds() -> None:
    held = torch.ones(300 * 2**20 // 4)
    hungry, nothing = (
        measure_apart(IsolatedStep(Fake("fake", kind), 4, QUICK)).peak_bytes for kind in (Fleeting, Nothing)
    )
    assert hungry is not None and nothing is not None
    assert 195 * 2**20 < hungry < 230 * 2**20
    assert nothing < 10 * 2**20
    assert len(held)


class Fleeting(Hungry):
    """Is hungry only at the real length, not in the step before."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.short = len(task.x) == 1

    def run(self) -> torch.Tensor:
        return torch.zeros(1) if self.short else super().run()


class Broken(Step):
    def run(self) -> torch.Tensor:
        raise ValueError("does not do it")


class Dying(Step):
    def run(self) -> torch.Tensor:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(1)


@pytest.mark.long
def test_saved_bytes_are_counted() -> None:
    assert measure_apart(IsolatedStep(Fake("keeping", Keeping), 2, QUICK)).saved_bytes == 4000


@pytest.mark.long
def test_a_process_that_fails_or_is_killed_becomes_a_line() -> None:
    found = table([Fake("broken", Broken), Fake("dying", Dying), Fake("fine", Nothing)], QUICK, lambda line: None)
    assert found.left_out["broken"] == "ValueError: does not do it"
    assert "ended by signal 9" in found.left_out["dying"]
    assert list(found.results) == ["fine"]
    assert set(found.results["fine"]["saved_bytes"]) == {"4"}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.long
def test_the_process_has_the_threads_of_this_one(threads: int) -> None:
    torch.set_num_threads(threads)
    with pytest.raises(ChildFailed, match=f"ValueError: {threads} threads"):
        measure_apart(IsolatedStep(Fake("counting", Counting), 2, QUICK))


class Counting(Step):
    def run(self) -> torch.Tensor:
        raise ValueError(f"{torch.get_num_threads()} threads")
