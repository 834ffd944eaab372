"""Versions, hardware and free memory that a benchmark depends on."""

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path

import numpy
import torch

import spikewright
from spikewright.bench.peers import PEERS
from spikewright.kernels import native

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def environment() -> dict[str, str]:
    """Return versions of the libraries, the processor and the number of threads, by name."""
    peers = {peer.distribution: f"{version(peer.distribution) or 'not installed'}" for peer in PEERS}
    for peer in PEERS:
        if peers[peer.distribution] not in ("not installed", peer.written_for):
            peers[peer.distribution] += f" (this benchmark was written for {peer.written_for})"
    return {
        "spikewright": spikewright.__version__
        + (", compiled kernels" if native.available(torch.zeros(1)) else ", without its compiled kernels"),
        "torch": torch.__version__,
        **peers,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} processors",
        "C++ compiler": "found" if compiler() else "none",
    }


def version(distribution: str) -> str | None:
    """Return the version of an installed distribution, or `None`."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def compiler() -> bool:
    """Return whether `torch.compile` finds a C++ compiler."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++", "cl"))


def free_memory() -> int | None:
    """Return the bytes a process can still allocate, or `None` if the system does not tell."""
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    except OSError:
        return None
    free = int(fields["MemAvailable"].split()[0]) * 1024
    for path in map(Path, _LIMITS):
        if path.exists() and (limit := path.read_text().strip()).isdigit():
            free = min(free, int(limit))
    return free


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
