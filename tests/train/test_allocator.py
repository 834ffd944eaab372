"""Freed memory is kept for the next tensors."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from spikewright._util.allocator import reuse_freed_memory
if sys.argv[1] == "keep" and not reuse_freed_memory():
    print("unsupported")
    sys.exit()
import torch, spikewright.train
for _ in range(3):
    torch.ones(16 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(16 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    if done.stdout.strip() == "unsupported":
        pytest.skip("no glibc here")
    return int(done.stdout)


@pytest.mark.long
def test_a_block_that_was_freed_is_not_faulted_in_again() -> None:
    """64 MiB, five times: with a mapping of its own each time, or from what the process holds."""
    assert faults("plain") > 1000
    assert faults("keep") < 100
