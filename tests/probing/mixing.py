"""Modules that combine rows of the first axis, and such that only look as if they did."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as f

from spikewright.layers import StepDropout
from spikewright.neurons import LIF
from tests.core.support import Lambda
from tests.probing.support import F


def of(function: Callable[[Tensor], Tensor]) -> nn.Module:
    """A module without parameters."""
    return Lambda(lambda m, x: function(x))


def statistics(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / (x.std(0) + 1)


def ghost(x: Tensor) -> Tensor:
    """Normalise by the statistics of halves of the batch."""
    return torch.cat([statistics(part) if len(part) > 1 else part - part for part in x.chunk(2)])


def shifted(x: Tensor, by: int) -> Tensor:
    """Mix a channel of the row before, or behind, in, as temporal shift modules do."""
    return torch.cat([x[:, :1].roll(by, 0), x[:, 1:]], 1)


def whitened(x: Tensor) -> Tensor:
    return (x - x.mean(0)) @ torch.linalg.pinv(x.T @ x + torch.eye(x.shape[1]).to(x))


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "cumsum": lambda x: x.cumsum(0),
    "anticausal cumsum": lambda x: x.flip(0).cumsum(0).flip(0),
    "cumprod": lambda x: (1 + 0.1 * x).cumprod(0),
    "cummax": lambda x: x.cummax(0).values,
    "flip": lambda x: x.flip(0),
    "roll": lambda x: x.roll(1, 0),
    "roll back": lambda x: x.roll(-1, 0),
    "sort": lambda x: x.sort(0).values,
    "mean": lambda x: x - x.mean(0),
    "statistics": statistics,
    "largest of all": lambda x: x / (x.abs().max() + 1),
    "norm of all": lambda x: x / (x.norm() + 1),
    "softmax": lambda x: x.softmax(0),
    "logsumexp": lambda x: x - x.logsumexp(0, keepdim=True),
    "normalize": lambda x: f.normalize(x, dim=0),
    "median": lambda x: x - x.median(0).values,
    "quantile": lambda x: (x > x.quantile(0.5, 0)).to(x),
    "top of the batch": lambda x: x * (x - x.flatten().topk(x.numel() // 2).values[-1]).sigmoid(),
    "batch norm": lambda x: f.batch_norm(x, None, None, training=True),
    "ghost norm": ghost,
    "products of rows": lambda x: (x @ x.T).softmax(1) @ x,
    "gram matrix": lambda x: x @ (x.T @ x),
    "distances": lambda x: x * torch.cdist(x, x).sum(1, keepdim=True),
    "differences": lambda x: torch.diff(x, dim=0, prepend=x[:1]),
    "convolution over rows": lambda x: f.conv1d(x.T[:, None], torch.ones(1, 1, 3).to(x), padding=1)[:, 0].T,
    "temporal shift": lambda x: shifted(x, 1),
    "temporal shift back": lambda x: shifted(x, -1),
    "attention": lambda x: f.scaled_dot_product_attention(x[None], x[None], x[None])[0],
    "causal attention": lambda x: f.scaled_dot_product_attention(x[None], x[None], x[None], is_causal=True)[0],
    "pooling over rows": lambda x: f.avg_pool1d(x.T[None], 3, 1, 1)[0].T,
    "fourier": lambda x: torch.fft.fft(x, dim=0).real,
    "first row": lambda x: x + x[:1],
    "last row": lambda x: x + x[-1:],
    "rearranged": lambda x: x.T.reshape(x.shape),
    "whitened": whitened,
    "one at a time": lambda x: torch.stack([x[: i + 1].mean(0) for i in range(len(x))]),
}


class Recurrence(nn.Module):
    def __init__(self, kind: str, both: bool = False) -> None:
        super().__init__()
        self.inner = getattr(nn, kind)(F, F, bidirectional=both)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0][:, :F]


class Attention(nn.Module):
    """Attention over the rows of `[rows, F]`, or of `[rows, 3, 4]`."""

    def __init__(self, axes: int, width: int = F) -> None:
        super().__init__()
        self.axes, self.inner = axes, nn.MultiheadAttention(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.axes == 2 else x.unflatten(1, (3, 4))
        return self.inner(x, x, x, need_weights=False)[0].flatten(1)


class GhostNorm(nn.BatchNorm1d):
    """Statistics of every half of the batch."""

    def forward(self, input: Tensor) -> Tensor:
        return ghost(input) if self.training else super().forward(input)


class OwnNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(F))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * statistics(x)


MODULES: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda function=function: of(function) for name, function in FUNCTIONS.items()},
    "own norm": OwnNorm,
    "MultiheadAttention": lambda: Attention(2),
    "MultiheadAttention of sequences": lambda: Attention(3, 4),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(F, 2, 8, dropout=0.0),
    "Softmax over rows": lambda: nn.Softmax(0),
}


class SqueezeAndExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(3, 2), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (3, 4))
        return (x * self.up(self.down(x.mean(2)).relu()).sigmoid()[:, :, None]).flatten(1)


class FeatureAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (3, 4))
        return self.inner(x, x, x, need_weights=False)[0].flatten(1)


def patches(x: Tensor) -> Tensor:
    """Fold patches into the batch axis, and out of it."""
    return (x.unflatten(1, (3, 4)).flatten(0, 1) * 2).tanh().unflatten(0, (len(x), 3)).flatten(1)


class PatchNeurons(nn.Module):
    """Neurons that see patches, folded into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(4, 4), LIF()

    def forward(self, x: Tensor) -> Tensor:
        return self.lif(self.fc(x.unflatten(1, (3, 4)).flatten(0, 1))).unflatten(0, (len(x), 3)).flatten(1)


def chunked(x: Tensor) -> Tensor:
    """Go through the rows in parts, to save memory."""
    return torch.cat([part.tanh() for part in x.split(2)])


APART: dict[str, Callable[[], nn.Module]] = {
    "attention over features": FeatureAttention,
    "transformer over features": lambda: nn.Sequential(
        nn.Unflatten(1, (3, 4)), nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), nn.Flatten()
    ),
    "GroupNorm": lambda: nn.GroupNorm(3, F),
    "LayerNorm": lambda: nn.LayerNorm(F),
    "InstanceNorm": lambda: nn.Sequential(nn.Unflatten(1, (3, 4)), nn.InstanceNorm1d(3), nn.Flatten()),
    "BatchNorm": lambda: nn.BatchNorm1d(F),
    "BatchNorm without running statistics": lambda: nn.BatchNorm1d(F, track_running_stats=False),
    "Dropout": lambda: nn.Dropout(0.5),
    "StepDropout": lambda: StepDropout(0.5),
    "normalize": lambda: of(lambda x: f.normalize(x, dim=1)),
    "softmax": lambda: of(lambda x: x.softmax(1)),
    "cumsum of features": lambda: of(lambda x: x.cumsum(1)),
    "unfold": lambda: of(lambda x: x.unfold(1, 4, 4).mean(2).repeat(1, 4)),
    "patches": lambda: of(patches),
    "neurons of patches": PatchNeurons,
    "chunked": lambda: of(chunked),
    "row by row": lambda: of(lambda x: torch.stack([row.tanh() for row in x])),
    "squeeze and excite": SqueezeAndExcite,
    "products within rows": lambda: of(lambda x: x @ x.new_ones(F, F)),
    "sorted features": lambda: of(lambda x: x.sort(1).values),
    "there and back": lambda: of(lambda x: x.flip(0).tanh().flip(0)),
}
