"""Joining the group of processes that share the work, and leaving it."""

import os
import time
import warnings
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from spikewright.errors import ConfigError, ProcessLost

_PATIENCE = 10.0
"""Seconds after which a process says whom it waits for."""


@dataclass(frozen=True)
class Ranks:
    """Position of this process in a group.

    Attributes:
        rank: Number of this process, from 0. Default: 0.
        world: Number of processes, at least 1. Default: 1.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """True for the process that writes, rank 0."""
        return self.rank == 0


def join(timeout: float = 300.0) -> Ranks:
    """Join the process group that torchrun announces in the environment, and return the `Ranks` of this process.

    Uses Gloo, and NCCL for tensors on a GPU. Without `WORLD_SIZE`, returns a single process and joins nothing.

    Args:
        timeout: Seconds to wait for the other processes, > 0. Default: 300.0.

    Raises:
        ProcessLost: Some processes did not join in time; the message names them.
        ConfigError: The environment does not say where to meet.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Ranks()
    if not distributed.is_initialized():
        ranks = Ranks(int(_setting("RANK")), world)
        store = _met(ranks, f"{_setting('MASTER_ADDR')}:{_setting('MASTER_PORT')}", time.monotonic() + timeout)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"  # counts are added up on the CPU
        distributed.init_process_group(backend, store=store, rank=ranks.rank, world_size=world)
    return Ranks(distributed.get_rank(), world)


def leave() -> None:
    """Leave the process group, if there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _setting(name: str) -> str:
    if name not in os.environ:
        raise ConfigError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} announces several processes, but {name} is not set, without which "
            "they cannot find each other. Start them by torchrun --nproc_per_node=N -m spikewright train ..., or unset "
            "WORLD_SIZE for a single process."
        )
    return os.environ[name]


def _met(ranks: Ranks, address: str, deadline: float) -> Any:
    """Return the store of the group when all processes have entered themselves there."""
    store, told = _store(ranks, address, deadline), time.monotonic() + _PATIENCE
    missing, lost = list(range(ranks.world)), ""
    while missing and not lost:
        try:
            store.set(f"joined {ranks.rank}", "yes")
            missing = [rank for rank in missing if not store.check([f"joined {rank}"])]
        except RuntimeError:
            lost = "; the process that keeps the list has ended"
        found = f"Process {ranks.rank} of {ranks.world} waits at {address} for {_named(missing)}"
        if lost or (missing and time.monotonic() > deadline):
            raise ProcessLost(
                f"{found} in vain: {ranks.world - len(missing)} of {ranks.world} have joined{lost}, and a batch is "
                "shared by all. Look at the output of those that are missing; start as many as WORLD_SIZE says, each "
                "with a RANK of its own and the same MASTER_ADDR and MASTER_PORT, as torchrun does."
            )
        if missing and told is not None and time.monotonic() > told:
            warnings.warn(f"{found}.", UserWarning, stacklevel=3)
            told = None
        time.sleep(0.05 * bool(missing))
    return store


def _named(ranks: list[int]) -> str:
    return f"process{'es' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def _store(ranks: Ranks, address: str, deadline: float) -> Any:
    """Connect to the store of the group, which torchrun or process 0 keeps."""
    by_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    host, _, port = address.rpartition(":")
    try:
        store = distributed.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
            host,
            int(port),
            ranks.world,
            is_master=ranks.first and not by_torchrun,
            timeout=timedelta(seconds=max(1.0, deadline - time.monotonic())),
            wait_for_workers=False,
            multi_tenant=True,
        )
    except (RuntimeError, ValueError) as error:
        raise ProcessLost(
            f"Process {ranks.rank} of {ranks.world} was to meet the others at {address} (MASTER_ADDR:MASTER_PORT), "
            f"which cannot be reached: {str(error).partition(chr(10))[0]} Process 0 has not started, has ended, or is "
            "behind another address. Start it too, and give every process the address that all can reach."
        ) from error
    if by_torchrun:
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return distributed.PrefixStore(f"attempt {attempt}", store)  # pyright: ignore[reportPrivateImportUsage]
    return store
