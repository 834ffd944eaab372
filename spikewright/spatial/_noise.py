"""Noise that is a function of seed, sequence, step and layer, so that the order of drawing does not matter."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from spikewright._util.randomness import keyed_generator
from spikewright._util.ranges import check_choice, check_flag, check_seed, check_within
from spikewright._util.share import current_share

Distribution = Literal["gaussian", "rademacher", "sphere"]
Position = Literal["post", "pre"]


class Noise(nn.Module):
    """Noise that perturbs neurons; its state is the number of sequences so far.

    Args:
        owner: Name of the class that takes the arguments, for messages.
        alpha: Size of the noise.  > 0.
        distribution: Distribution of the noise, of variance 1 before `alpha`: "gaussian", "rademacher" (plus or minus
            1), or "sphere" (uniform on a sphere, for each sample and layer).
        position: "post" adds noise to what neurons emit, so that the layers behind see it; "pre" adds it to the
            current, so that spikes stay binary.
        antithetic: If True, the second step of every pair takes the noise of the first with the opposite sign.
        seed: Seed of all draws.  From 0 to 2**63 - 1.

    Raises:
        ConfigError: `alpha` is not positive; `seed` is not a whole number of at least 0; `antithetic` is not a bool;
            `distribution` or `position` is unknown.
    """

    count: Tensor

    def __init__(
        self,
        owner: str,
        alpha: float,
        distribution: Distribution,
        position: Position,
        antithetic: bool,
        seed: int,
    ) -> None:
        super().__init__()
        check_within(owner, "alpha", alpha, "(0, inf)", "without noise no feedback can be estimated")
        check_flag(owner, antithetic=antithetic)
        check_seed(owner, seed)
        check_choice(owner, "distribution", distribution, get_args(Distribution))
        check_choice(owner, "position", position, get_args(Position))
        self.alpha, self.distribution, self.position, self.antithetic, self.seed = (
            alpha,
            distribution,
            position,
            antithetic,
            seed,
        )
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def begin(self) -> int:
        """Return the number of the sequence that begins."""
        self.count += 1
        return int(self.count)

    def draw(self, like: Tensor, site: str, count: int, step: int) -> Tensor:
        """Return the noise of one step of one layer, multiplied by `alpha`.

        Args:
            like: What is perturbed, `[batch, *feature]`.
            site: Name of the layer of neurons.
            count: Number of the sequence, from `begin`.
            step: Index of the step in the sequence.
        """
        drawn, sign = (step // 2, 1 - 2 * (step % 2)) if self.antithetic else (step, 1)
        share = current_share()
        rank, rows = (_rank(), len(like)) if share is None else (0, share.rows(len(like)))
        generator = keyed_generator(self.seed, site, rank, count, drawn, device=like.device)
        # Not `empty_like`: what is drawn must not depend on how memory is laid out.
        kind = torch.promote_types(like.dtype, torch.float32)
        z = self._fill(torch.empty(rows, *like.shape[1:], dtype=kind, device=like.device), generator)
        if share is not None and share.divided:
            z = share.own(z).clone()  # without the memory of the others
        return z if sign > 0 else z.neg_()

    def _fill(self, z: Tensor, generator: torch.Generator) -> Tensor:
        if self.distribution == "rademacher":
            bits = torch.empty(z.shape, dtype=torch.int8, device=z.device).random_(0, 2, generator=generator)
            return z.copy_(bits).mul_(2 * self.alpha).sub_(self.alpha)
        z.normal_(0, self.alpha, generator=generator)
        if self.distribution == "sphere":
            flat = z.flatten(1)
            z *= (self.alpha * flat.shape[1] ** 0.5 / flat.norm(dim=1)).view(-1, *[1] * (z.dim() - 1))
        return z

    def extra_repr(self) -> str:
        names = ("alpha", "distribution", "position", "antithetic", "seed")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)


class Draws:
    """The noise of one sequence, and of the current chunk by layer.

    Args:
        noise: Source of the noise.
    """

    def __init__(self, noise: Noise) -> None:
        self._noise, self._count = noise, noise.begin()
        self._start = 0
        self._chunk: dict[str, list[Tensor]] = {}
        self._last: dict[str, tuple[int, Tensor]] = {}

    def begin_chunk(self, start: int) -> None:
        """Forget the last chunk; the next begins at the step `start`."""
        self._start, self._chunk = start, {}

    def draw(self, site: str, like: Tensor) -> Tensor:
        """Return the noise of the next steps at a layer, of the shape of `like`, `[time, batch, *feature]`."""
        kept = self._chunk.setdefault(site, [])
        first = self._start + sum(len(part) for part in kept)
        kept.append(one_block([self._step(site, x.detach(), first + k) for k, x in enumerate(like)]))
        return kept[-1].to(like.dtype)

    @property
    def chunk(self) -> dict[str, Tensor]:
        """The noise of the chunk, by layer, `[time, batch, *feature]`."""
        return {site: joined(parts) for site, parts in self._chunk.items()}

    def _step(self, site: str, like: Tensor, step: int) -> Tensor:
        before, drawn = self._last.get(site, (-1, like))
        opposite = self._noise.antithetic and step % 2 == 1 and before == step - 1
        z = -drawn if opposite else self._noise.draw(like, site, self._count, step)
        self._last[site] = step, z
        return z


def one_block(steps: Sequence[Tensor]) -> Tensor:
    """Return steps in one tensor, `[time, *]`; a single one without a copy."""
    return steps[0].unsqueeze(0) if len(steps) == 1 else torch.stack(list(steps))


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Return chunks as one along time; a single one without a copy."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _rank() -> int:
    """Return the rank of this process: without a share, each perturbs its samples by noise of its own."""
    alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
    return 0 if alone else torch.distributed.get_rank()
