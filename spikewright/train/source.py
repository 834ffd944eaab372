"""Where batches come from: worker processes that prepare them, and loaders of users."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.data import DataLoader, IterableDataset

from spikewright._util.digest import digest
from spikewright._util.randomness import keyed_generator
from spikewright._util.returned import described
from spikewright._util.share import Share
from spikewright.errors import CheckpointError, InputError
from spikewright.train.job import Source


def prepared(source: Source, workers: int, device: torch.device) -> Source:
    """Return a source whose batches are prepared by worker processes, if there are any, and lie on a device."""
    return _Workers(source, workers, device) if workers else source


class _Workers:
    """The batches of a source, each prepared by one of several processes, in the same order."""

    def __init__(self, source: Source, workers: int, device: torch.device) -> None:
        self._source, self._workers, self._device = source, workers, device

    def __len__(self) -> int:
        return len(self._source)

    def share(self, epoch: int, index: int, sync_batch_norm: bool = False) -> Share | None:
        return self._source.share(epoch, index, sync_batch_norm)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        # A generator of its own, so that the loader takes no number from the stream that dropout draws from.
        loader = DataLoader(
            _Strided(self._source, epoch, start),
            batch_size=None,
            num_workers=min(self._workers, max(1, len(self) - start)),
            generator=torch.Generator(),
        )
        return (on_device(batch, self._device) for batch in loader)


class _Strided(IterableDataset[Any]):
    """The batches of an epoch; worker w of n makes every n-th of them, from number w on."""

    def __init__(self, source: Source, epoch: int, start: int) -> None:
        self._source, self._epoch, self._start = source, epoch, start

    def __iter__(self) -> Iterator[Any]:
        own = torch.utils.data.get_worker_info()
        first, step = (0, 1) if own is None else (own.id, own.num_workers)
        for index in range(self._start + first, len(self._source), step):
            yield next(self._source.epoch(self._epoch, index))


class LoaderSource:
    """Batches of a user's loader, in an order that depends on seed and epoch alone.

    At the start of an epoch, the generators of the loader and of its sampler, or else the global ones while the loader
    is set up, are seeded from seed and epoch, and `set_epoch` is called where there is one. A resumed epoch skips the
    batches that were learned; the first one is compared with that of the interrupted run.

    Args:
        loader: Iterable of pairs (x, y), such as a `torch.utils.data.DataLoader`.
        seed: Seed of the order, at least 0.
        device: `torch.device` of the batches.
        batch_first: True for inputs `[batch, time, ...]`, which are transposed.
    """

    def __init__(self, loader: Iterable[Any], seed: int, device: torch.device, batch_first: bool) -> None:
        self._loader, self._seed, self._device, self._batch_first = loader, seed, device, batch_first
        self._first = ""

    def __len__(self) -> int:
        if not isinstance(self._loader, Sized):
            raise TypeError("the loader has no length")
        return len(self._loader)

    def share(self, epoch: int, index: int, sync_batch_norm: bool = False) -> Share | None:
        """Return `None`: every process gets the whole batch."""
        return None

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Return an iterator over the batches of an epoch, from number `start` on.

        Raises:
            CheckpointError: A resumed epoch begins with another batch than the interrupted one.
            InputError: The loader yields something else than pairs.
        """
        batches = self._begun(epoch)
        first = next(batches, None)
        if first is not None:
            _check_batch(first)
        if not start:
            self._first = "" if first is None else digest(tensors(first))
            return (self._taken(batch) for batch in chain([] if first is None else [first], batches))
        if first is None or digest(tensors(first)) != self._first:
            raise CheckpointError(
                f"Epoch {epoch + 1} is to go on from batch {start + 1}, but the loader does not repeat the order that "
                "it had: the first batch of the epoch is another one. Let its order depend on the generator of the "
                "loader or of torch, or resume from the end of an epoch (without train.checkpoint_every)."
            )
        return (self._taken(batch) for batch in islice(batches, start - 1, None))

    def state_dict(self) -> dict[str, str]:
        """Return the digest of the first batch of the epoch."""
        return {"first": self._first}

    def load_state_dict(self, state_dict: Mapping[str, str]) -> None:
        """Restore what `state_dict` returned."""
        self._first = state_dict["first"]

    def _begun(self, epoch: int) -> Iterator[Any]:
        key = int(torch.randint(2**62, (), generator=keyed_generator(self._seed, "loader", epoch)))
        for owner in (self._loader, *(getattr(self._loader, name, None) for name in ("sampler", "batch_sampler"))):
            if isinstance(generator := getattr(owner, "generator", None), torch.Generator):
                generator.manual_seed(key)
            if callable(set_epoch := getattr(owner, "set_epoch", None)):
                set_epoch(epoch)
        before, state, numbers = random.getstate(), torch.get_rng_state(), np.random.get_state()
        try:
            random.seed(key)
            np.random.seed(key % 2**32)
            torch.default_generator.manual_seed(key)
            batches = iter(self._loader)
            first = [*islice(batches, 1)]  # a sampler draws its order when the first batch is asked for
            return chain(first, batches)
        finally:
            random.setstate(before)
            torch.set_rng_state(state)
            np.random.set_state(numbers)

    def _taken(self, batch: Any) -> Any:
        _check_batch(batch)
        return on_device((self._steps_first(batch[0]), batch[1]), self._device)

    def _steps_first(self, x: Any) -> Any:
        return tree_map_only(Tensor, lambda t: t.transpose(0, 1), x) if self._batch_first else x


def _check_batch(batch: Any) -> None:
    """Raise `InputError` unless a batch is a pair of inputs `[time, batch, *feature]` and targets, with values."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise InputError(
            f"The loader yields a {type(batch).__name__}"
            f"{f' of {len(batch)} entries' if isinstance(batch, tuple | list) else ''}, but a batch is a pair "
            "(x, y) of inputs and targets. Wrap the loader in a generator of pairs, or give it a collate_fn."
        )
    x = tensors(batch[0])
    if not x or any(part.dim() < 2 for part in x):
        raise InputError(
            f"The loader yields a pair (x, y) whose x is {described(batch[0])}, but inputs are tensors, one or "
            "several, [time, batch, *feature]. Collate samples into a tensor, with a time axis in front."
        )
    if any(part.is_meta or part.layout != torch.strided for part in tensors(batch)):
        raise InputError("The loader yields tensors that are sparse, or have no values (meta). Give dense ones.")


def on_device(value: Any, device: torch.device) -> Any:
    """Return nested tensors on a device."""
    return tree_map_only(Tensor, lambda tensor: tensor.to(device), value)


def tensors(value: Any) -> list[Tensor]:
    """Return nested tensors in order."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def first_tensor(value: Any) -> Tensor:
    """Return the first of nested tensors, whose axes in front are those of all."""
    return tensors(value)[0]


def batch_size(batch: Any) -> int:
    """Return the number of samples of a pair (x, y), whose inputs are `[time, batch, *feature]`."""
    return first_tensor(batch[0]).shape[1]
