"""Data-parallel training: processes share every batch and add up finished gradients; rank 0 writes.

Start the processes with `torchrun --nproc_per_node=N -m spikewright train ...`. Adding up finished gradients, instead
of hooks in the backward pass, works for every rule, however many backward passes an update takes.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, distributed, nn

from spikewright._util.collectives import add_up, together
from spikewright._util.randomness import keyed_generator
from spikewright._util.real_numbers import as_real, is_continuous, real_type
from spikewright._util.share import Share
from spikewright.errors import NetworkError
from spikewright.train._join import Ranks as Ranks
from spikewright.train._join import join as join
from spikewright.train._join import leave as leave


def sum_gradients(parameters: Iterable[nn.Parameter], share: Share) -> None:
    """Replace every `.grad` by the gradient of the whole batch, after an update with this share.

    It is the sum over processes, or their mean where each had the whole batch. Does nothing for a single process.

    Args:
        parameters: All parameters that may have a gradient, in the same order in all processes. One that has a gradient
            in some processes only gets it in all.
        share: `Share` of the batch.
    """
    if share.world > 1:
        _reduce(parameters, 1 if share.divided else share.world)


def average_gradients(parameters: Iterable[nn.Parameter], ranks: Ranks) -> None:
    """Replace every `.grad` by its mean over processes. Does nothing for a single process.

    Args:
        parameters: All parameters that may have a gradient, in the same order in all processes. One that has a gradient
            in some processes only counts as 0 in the others.
        ranks: `Ranks` of this process.
    """
    if ranks.world > 1:
        _reduce(parameters, ranks.world)


def _reduce(parameters: Iterable[nn.Parameter], divisor: int) -> None:
    """Add up gradients over processes and divide them, by one operation for each type of number and device."""
    groups: dict[tuple[torch.device, torch.dtype], list[nn.Parameter]] = {}
    for p in parameters:
        groups.setdefault((p.device, real_type(p.dtype)), []).append(p)
    for group in groups.values():
        present = torch.tensor([p.grad is not None for p in group]).to(as_real(group[0].detach()))
        parts = [present, *(_flat(p) for p in group)]
        flat = add_up(torch.cat(parts))
        present, *sums = flat.split([len(part) for part in parts])
        for p, found, part in zip(group, present.tolist(), sums):
            if not found:
                continue
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            as_real(p.grad).copy_((part / divisor).view_as(as_real(p.grad)))


def _flat(p: nn.Parameter) -> Tensor:
    """Return the gradient of a parameter as real numbers in a row, zeros if there is none."""
    if p.grad is None:
        return as_real(torch.zeros_like(p)).flatten()
    p.grad = p.grad.resolve_conj()  # makes the real view of a complex gradient writable
    return as_real(p.grad).flatten()


def average_buffers(rule: nn.Module, ranks: Ranks) -> None:
    """Replace every floating-point or complex buffer of a rule by its mean over processes.

    Args:
        rule: Module whose buffers are averaged in place.
        ranks: `Ranks` of this process.
    """
    if ranks.world > 1:
        for buffer in rule.buffers():
            if is_continuous(buffer):
                add_up(buffer)
                buffer /= ranks.world


def copy_buffers(module: nn.Module, ranks: Ranks) -> None:
    """Give every process the buffers of process 0, in place.

    Running statistics of batch norm differ between processes that normalise by their own samples. What process 0 writes
    to a checkpoint is then what all go on with, in a resumed run and in one that was not interrupted.

    Args:
        module: The network.
        ranks: `Ranks` of this process.
    """
    if ranks.world > 1:
        with together("take over what process 0 has"):
            for buffer in module.buffers():
                distributed.broadcast(as_real(buffer), 0)


def check_alike(module: nn.Module, ranks: Ranks) -> None:
    """Raise an error unless all processes have the same parameters and buffers, by name and value.

    Args:
        module: The network, or a rule.
        ranks: `Ranks` of this process.

    Raises:
        NetworkError: They differ; the message names the first that does.
    """
    own = {
        name: sha256(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, value in module.state_dict().items()
        if isinstance(value, Tensor)
    }
    for rank, other in enumerate(_all(own, ranks)):
        for name in dict.fromkeys([*own, *other]):
            if own.get(name) != other.get(name):
                raise NetworkError(
                    f"Process {ranks.rank} and process {rank} were to learn together, but '{name}' is not the same in "
                    "both, so that their gradients do not add up to one. Build network and rule in the same way in all "
                    "processes, from the same seed, and seed_process after that."
                )


def seed_process(seed: int, ranks: Ranks) -> None:
    """Seed the global generators of torch, so that each of several processes draws numbers of its own.

    Call it when network and rule have been built, in the same way in all processes. Does nothing for a single process.

    Args:
        seed: Seed of the run, at least 0.
        ranks: `Ranks` of this process.
    """
    if ranks.world > 1:
        torch.manual_seed(keyed_generator(seed, "process", ranks.rank).initial_seed() % 2**63)


def random_states(ranks: Ranks, device: torch.device) -> list[dict[str, Tensor]]:
    """Return the states of the global generators of all processes, in their order.

    Args:
        ranks: `Ranks` of this process.
        device: Device of the run; the state of its generator is kept beside that of the CPU.
    """
    own = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    return _all(own, ranks)


def restore_random_state(states: Sequence[dict[str, Tensor]], ranks: Ranks, device: torch.device) -> None:
    """Put the global generators of this process back into a state of `random_states`.

    Args:
        states: States of all processes, in their order.
        ranks: `Ranks` of this process.
        device: Device of the run.
    """
    own = states[ranks.rank]
    torch.set_rng_state(own["cpu"])
    if "cuda" in own and device.type == "cuda":
        torch.cuda.set_rng_state(own["cuda"], device)


def total(values: Tensor, ranks: Ranks) -> Tensor:
    """Return the sum of a tensor over processes."""
    return add_up(values) if ranks.world > 1 else values


def _all(own: Any, ranks: Ranks) -> list[Any]:
    """Return what all processes have, in their order."""
    found = [own] * ranks.world
    if ranks.world > 1:
        with together("tell each other what they have"):
            distributed.all_gather_object(found, own)
    return found
