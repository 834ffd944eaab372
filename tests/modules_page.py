"""Every kind of layer in a small network: the constructors from which the table of `docs/modules.md` is made."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from spikewright import layers as ours
from spikewright import neurons

Make = Callable[[], nn.Module]


class Sequence(nn.Module):
    """Sees features as a sequence of three vectors; hands on one tensor."""

    def __init__(self, inner: nn.Module, memory: bool = False) -> None:
        super().__init__()
        self.inner, self.memory = inner, memory

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (3, 4))
        y = self.inner(x, x) if self.memory else self.inner(x)
        return y[0] if isinstance(y, tuple) else y


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (3, 4))
        return self.inner(x, x, x, need_weights=False)[0]


class HeadsOverRows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


class Whole(nn.Module):
    """A layer that sees numbers as indices."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x > 0.5).long())


class Pair(nn.Module):
    """A layer of two arguments."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x, x.roll(1, 1))
        return y if y.dim() > 1 else y[:, None]


class Cell(nn.Module):
    """A recurrent cell at its resting state."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y[0] if isinstance(y, tuple) else y


class Unpooled(nn.Module):
    def __init__(self, pool: nn.Module, unpool: nn.Module) -> None:
        super().__init__()
        self.pool, self.unpool = pool, unpool

    def forward(self, x: Tensor) -> Tensor:
        return self.unpool(*self.pool(x))


FEATURES, LINE, PLANE, SPACE = (12,), (4, 8), (4, 8, 8), (4, 4, 4, 4)
"""Shapes of samples: without space, and with one, two or three axes of it."""
SHAPES = dict(zip("0123", (FEATURES, LINE, PLANE, SPACE)))


def by_axes(name: str, *args: object, axes: str = "123", **options: object) -> dict[str, tuple[Make, tuple[int, ...]]]:
    """A family such as `Conv1d`, `Conv2d`, `Conv3d`, by name."""
    return {
        f"{name}{d}d": (lambda d=d: getattr(nn, f"{name}{d}d")(*args, **options), SHAPES[d])  # type: ignore[misc]
        for d in axes
    }


def plain(*names: str) -> dict[str, tuple[Make, tuple[int, ...]]]:
    """Layers that need no arguments."""
    return {name: (getattr(nn, name), FEATURES) for name in names}


def flat(**makes: Make) -> dict[str, tuple[Make, tuple[int, ...]]]:
    return {name: (make, FEATURES) for name, make in makes.items()}


def planes(**makes: Make) -> dict[str, tuple[Make, tuple[int, ...]]]:
    return {name: (make, PLANE) for name, make in makes.items()}


ACTIVATIONS = (
    "CELU ELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish PReLU RReLU ReLU ReLU6 SELU "
    "SiLU Sigmoid Softplus Softshrink Softsign Tanh Tanhshrink"
).split()

GROUPS: dict[str, dict[str, tuple[Make, tuple[int, ...]]]] = {
    "Linear": flat(
        Linear=lambda: nn.Linear(12, 12),
        LazyLinear=lambda: nn.LazyLinear(12),
        Bilinear=lambda: Pair(nn.Bilinear(12, 12, 12)),
        Identity=nn.Identity,
        Embedding=lambda: Whole(nn.Embedding(2, 4)),
        EmbeddingBag=lambda: Whole(nn.EmbeddingBag(2, 4)),
    ),
    "Convolutions": by_axes("Conv", 4, 4, 3)
    | by_axes("ConvTranspose", 4, 4, 3)
    | by_axes("LazyConv", 4, 3)
    | by_axes("LazyConvTranspose", 4, 3)
    | planes(Unfold=lambda: nn.Unfold(2), Fold=lambda: nn.Sequential(nn.Unfold(2, stride=2), nn.Fold(8, 2, stride=2))),
    "Pooling": by_axes("AvgPool", 2)
    | by_axes("AdaptiveAvgPool", 2)
    | by_axes("MaxPool", 2)
    | by_axes("AdaptiveMaxPool", 2)
    | by_axes("LPPool", 2, 2)
    | by_axes("FractionalMaxPool", 2, 2, axes="23")
    | planes(MaxUnpool2d=lambda: Unpooled(nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2))),
    "Shapes": by_axes("ZeroPad", 1)
    | by_axes("ConstantPad", 1, 0.5)
    | by_axes("ReflectionPad", 1)
    | by_axes("ReplicationPad", 1)
    | by_axes("CircularPad", 1)
    | planes(
        Flatten=nn.Flatten,
        PixelShuffle=lambda: nn.PixelShuffle(2),
        PixelUnshuffle=lambda: nn.PixelUnshuffle(2),
        ChannelShuffle=lambda: nn.ChannelShuffle(2),
        Upsample=lambda: nn.Upsample(scale_factor=2),
        UpsamplingNearest2d=lambda: nn.UpsamplingNearest2d(scale_factor=2),
        UpsamplingBilinear2d=lambda: nn.UpsamplingBilinear2d(scale_factor=2),
    )
    | flat(Unflatten=lambda: nn.Unflatten(1, (3, 4))),
    "Norms": {"BatchNorm1d": (lambda: nn.BatchNorm1d(12), FEATURES)}
    | by_axes("BatchNorm", 4, axes="23")
    | by_axes("LazyBatchNorm")
    | planes(SyncBatchNorm=lambda: nn.SyncBatchNorm(4))
    | by_axes("InstanceNorm", 4)
    | flat(LayerNorm=lambda: nn.LayerNorm(12), GroupNorm=lambda: nn.GroupNorm(3, 12), RMSNorm=lambda: nn.RMSNorm(12))
    | planes(LocalResponseNorm=lambda: nn.LocalResponseNorm(2), CrossMapLRN2d=lambda: nn.CrossMapLRN2d(2)),
    "Dropout": plain("Dropout", "AlphaDropout", "FeatureAlphaDropout") | by_axes("Dropout"),
    "Activations": plain(*ACTIVATIONS)
    | flat(
        GLU=nn.GLU,
        Threshold=lambda: nn.Threshold(0.1, 0.0),
        Softmax=lambda: nn.Softmax(1),
        Softmin=lambda: nn.Softmin(1),
        LogSoftmax=lambda: nn.LogSoftmax(1),
    )
    | planes(Softmax2d=nn.Softmax2d)
    | {"Softmax(0)": (lambda: nn.Softmax(0), FEATURES)},
    "Attention": {
        "MultiheadAttention(batch_first=True)": (Heads, FEATURES),
        "MultiheadAttention": (HeadsOverRows, FEATURES),
        "TransformerEncoderLayer(batch_first=True)": (
            lambda: Sequence(nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)),
            FEATURES,
        ),
        "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(12, 2, 8, dropout=0.0), FEATURES),
        "TransformerDecoderLayer(batch_first=True)": (
            lambda: Sequence(nn.TransformerDecoderLayer(4, 2, 8, dropout=0.0, batch_first=True), memory=True),
            FEATURES,
        ),
    },
    "Recurrence": {
        "RNN": (lambda: Cell(nn.RNN(12, 12)), FEATURES),
        "LSTM": (lambda: Cell(nn.LSTM(12, 12)), FEATURES),
        "GRU": (lambda: Cell(nn.GRU(12, 12)), FEATURES),
        "GRU(batch_first=True)": (lambda: Sequence(nn.GRU(4, 4, batch_first=True)), FEATURES),
        "RNNCell": (lambda: Cell(nn.RNNCell(12, 12)), FEATURES),
        "LSTMCell": (lambda: Cell(nn.LSTMCell(12, 12)), FEATURES),
        "GRUCell": (lambda: Cell(nn.GRUCell(12, 12)), FEATURES),
    },
    "Distances": flat(
        CosineSimilarity=lambda: Pair(nn.CosineSimilarity()),
        PairwiseDistance=lambda: Pair(nn.PairwiseDistance()),
    ),
    "Of this library: neurons": flat(
        LIF=neurons.LIF,
        IF=neurons.IF,
        AlphaLIF=neurons.AlphaLIF,
        DSRIF=neurons.DSRIF,
        DSRLIF=neurons.DSRLIF,
    ),
    "Of this library: layers": flat(
        PerStepBatchNorm1d=lambda: ours.PerStepBatchNorm1d(12),
        JointBatchNorm1d=lambda: ours.JointBatchNorm1d(12),
        SharedDropout=ours.SharedDropout,
        StepDropout=ours.StepDropout,
        Scale=lambda: ours.Scale(1.5),
        ScaledWSLinear=lambda: ours.ScaledWSLinear(12, 12),
        SynapticDelay=lambda: ours.SynapticDelay(12),
        Recurrent=lambda: ours.Recurrent(neurons.IF(), nn.Linear(12, 12)),
        restrict_spectral=lambda: ours.restrict_spectral(nn.Linear(12, 12)),
        restrict_frobenius=lambda: ours.restrict_frobenius(nn.Linear(12, 12)),
    )
    | planes(
        PerStepBatchNorm2d=lambda: ours.PerStepBatchNorm2d(4),
        JointBatchNorm2d=lambda: ours.JointBatchNorm2d(4),
        ScaledWSConv2d=lambda: ours.ScaledWSConv2d(4, 4, 3),
    ),
    "Weights computed by torch": flat(
        spectral_norm=lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(12, 12)),
        weight_norm=lambda: nn.utils.parametrizations.weight_norm(nn.Linear(12, 12)),
        orthogonal=lambda: nn.utils.parametrizations.orthogonal(nn.Linear(12, 12)),
    ),
}


def network(make: Make, feature: tuple[int, ...]) -> tuple[nn.Module, Tensor]:
    """A layer between neurons, in front of a linear one, and an input."""
    torch.manual_seed(0)
    layer = make()
    kinds = nn.Conv1d, nn.Conv2d, nn.Conv3d
    front = nn.Linear(12, 12) if len(feature) == 1 else kinds[len(feature) - 2](4, 4, 3, padding=1)
    module = nn.Sequential(front, neurons.IF(), layer, nn.Flatten(), nn.LazyLinear(12), neurons.IF(), nn.Linear(12, 4))
    return module, torch.rand(4, 3, *feature)
