"""Training loops of others over several processes: the share of a batch, and gradients before a step."""

from collections.abc import Iterable

import torch
from torch import distributed, nn

from spikewright._util.collectives import collect
from spikewright._util.randomness import keyed_generator
from spikewright._util.ranges import check_count
from spikewright._util.share import Share
from spikewright.errors import ConfigError, InputError
from spikewright.train import distributed as own
from spikewright.train.distributed import Ranks


def present_ranks() -> Ranks:
    """Return the position of this process in the group that torch is in; a single process without one."""
    if distributed.is_available() and distributed.is_initialized():
        return Ranks(distributed.get_rank(), distributed.get_world_size())
    return Ranks()


def average_gradients(*modules: nn.Module) -> None:
    """Replace every gradient of some modules by its mean over the processes of the group; nothing in one process.

    A rule calls the backward pass itself, past the hooks by which `DistributedDataParallel` averages gradients, so that
    without this call every process would go its own way, without an error. Call it after every update, before the
    optimizer steps. The mean is the gradient of the whole batch if all processes have as many samples and the loss is a
    mean over samples; a `Share` from `batch_share` serves every loss, and rules that learn by themselves too.

    Args:
        *modules: The network, and the rule if it has parameters; in the same order in all processes. A parameter that
            has a gradient in some processes only counts as 0 in the others.

    Raises:
        ConfigError: An argument is no module.
        ProcessLost: Another process has ended.

    Examples:
        >>> import torch, spikewright as sw
        >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF()))
        >>> loss = sw.losses.PerStep(torch.nn.MSELoss())
        >>> for update in sw.rules.SLTT().updates(net, torch.rand(3, 2, 4), torch.rand(2, 8), loss):
        ...     sw.train.average_gradients(net)  # then optimizer.step() and optimizer.zero_grad()
    """
    for module in modules:
        if not isinstance(module, nn.Module):
            raise ConfigError(
                f"average_gradients was given {type(module).__name__}, but it averages the gradients of modules. Give "
                "the network, and the rule if it has parameters: average_gradients(net, rule)."
            )
    own.average_gradients(_parameters(modules), present_ranks())


def batch_share(samples: int, index: int = 0, seed: int = 0) -> Share | None:
    """Return the share of this process in a batch, for `Rule.updates`; `None` in one process.

    With it the loss is that of the samples of all processes, and the gradients of all add up to its gradient: add them
    up by `spikewright.train.distributed.sum_gradients(parameters, share)` before every optimizer step. Random numbers
    of noise, dropout and rules are drawn for the whole batch, the same in all processes.

    Args:
        samples: Number of samples that this process has. At least 1. All processes call it together.
        index: Number of the batch, at least 0, so that every batch draws other random numbers. Default: 0.
        seed: Seed of the random numbers, at least 0. Default: 0.

    Raises:
        ConfigError: A number is out of its range.
        InputError: The processes have numbers of samples that differ by more than one,
            or not in falling order.
        ProcessLost: Another process has ended.

    Examples:
        >>> import spikewright as sw
        >>> print(sw.train.batch_share(32))  # in a single process
        None
    """
    check_count("batch_share", "samples", samples, "a batch has at least one sample", least=1)
    check_count("batch_share", "index", index, "batches are numbered from 0", least=0)
    check_count("batch_share", "seed", seed, "a seed is not negative", least=0)
    ranks = present_ranks()
    if ranks.world == 1:
        return None
    found = [int(each) for each in collect(torch.tensor([samples]), [1] * ranks.world)]
    share = Share(sum(found), ranks.rank, ranks.world, keyed_generator(seed, "draws", index))
    if share.parts != found:
        raise InputError(
            f"The {ranks.world} processes share a batch, but they have {found} samples, by rank, which differ by more "
            "than one or are not in falling order, so that which samples belong together is not known. Give all the "
            "same number: a DistributedSampler, and drop_last=True in the loader."
        )
    return share


def _parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Return the parameters of modules, each once."""
    return list(dict.fromkeys(p for module in modules for p in module.parameters()))
