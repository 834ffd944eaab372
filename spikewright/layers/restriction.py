r"""Restrictions that keep the norm of a weight below a bound, as equilibria of networks with feedback need.

With :math:`c` the limit, :math:`\sigma` the largest singular value and :math:`g` a trained scalar, the weight in use is

.. math::
    W = \operatorname{clamp}(g, -c, c) \, w / \sigma(w) \quad \text{or} \quad W = w \, \min(1, c / \lVert w \rVert_F).

Both are parametrizations of torch: the layer keeps its class, and `remove_parametrizations` undoes them.

References:
    Xiao et al., Training Feedback Spiking Neural Networks by Implicit Differentiation on the Equilibrium State,
    NeurIPS 2021, arXiv 2109.14247 (spectral); Xiao et al., SPIDE: A Purely Spike-based Method for Training Feedback
    Spiking Neural Networks, Neural Networks 2023, arXiv 2302.00232 (Frobenius).
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import register_parametrization

from spikewright._util.draws import common_generator
from spikewright._util.ranges import MOST, check_count, check_instance, check_row, check_within
from spikewright._util.real_numbers import real_type
from spikewright.errors import ConfigError
from spikewright.layers.weight_standardization import ScaledWSConv2d, ScaledWSLinear

Layer = TypeVar("Layer", bound=nn.Module)
Size = tuple[int, ...]
Bilinear = Callable[[Tensor, Tensor], Tensor]
"""(weight, input) -> output."""
AT_THE_START = 1_000
"""Most iterations for start vectors u and v; 1e-7 off for a map from 256 channels of 8 x 8 to 96 of 16 x 16."""


def restrict_spectral(layer: Layer, limit: float = 1.0, size: Size | None = None) -> Layer:
    r"""Keep the largest singular value of a layer's weight below a limit, by a parametrization of torch.

    .. math::
        W = \operatorname{clamp}(g, -c, c) \, w / \sigma(w)

    The trained parameters are :math:`w` (`parametrizations.weight.original`, the parameter that was there) and
    :math:`g` (`parametrizations.weight.0.gain`, a new one: make the optimizer afterwards).  :math:`\sigma(w)` comes
    from power iteration and is differentiated at fixed vectors u and v, buffers that start converged.  After a change
    of w, the next use makes one iteration; further uses of the same w make none, so the result does not depend on the
    number of chunks.  Only uses in training mode with gradients on count: evaluation and simulation without a graph
    repeat to the last bit.

    After an update of w the vectors lag behind, and the bound is exceeded by a share of second order in the update, by
    percents or more while another singular value overtakes the one they follow.  `operator_norm` measures the excess,
    and `power_iteration` removes it.

    Args:
        layer: Layer whose weight is initialised; changed in place.  `nn.Linear`, `nn.Conv*d` or `nn.ConvTranspose*d`.
        limit: Bound :math:`c`.  Finite number > 0.  Default: 1.0.
        size: Space of the input, such as `(height, width)`, to bound the gain of the convolution of such inputs, with
            the layer's stride, padding, dilation and groups.  Whole numbers from 1 to 10**6.  Default: None, which
            bounds the weight as a matrix, output channels by all else, as the paper does; the gain of the convolution
            may be several times that.

    Returns:
        The layer.

    Raises:
        ConfigError: The layer has no such weight, the weight is zero or not finite, or `limit` or `size` is out of
            range.

    Differs from the reference code: it iterates in evaluation too, and starts with :math:`g = \sigma(w)` even above the
    limit, where the clamp passes no gradient.  Here g starts at the clamped value, where a gradient passes, and a
    weight within the limit stays as it is.  In both, a g that training moves beyond the limit is moved back by weight
    decay only.

    Reference:
        Xiao et al., Training Feedback Spiking Neural Networks by Implicit Differentiation on the Equilibrium State,
        NeurIPS 2021, arXiv 2109.14247.

    >>> from spikewright.layers import operator_norm, restrict_spectral
    >>> from torch import nn
    >>> layer = restrict_spectral(nn.Linear(4, 4), limit=0.25)
    >>> round(operator_norm(layer), 4)
    0.25
    """
    weight = _weight("restrict_spectral", layer, bounded=True)
    check_within("restrict_spectral", "limit", limit, "(0, inf)", "only a zero weight could keep a bound of 0")
    restriction = SpectralRestriction(weight, limit, *_linear_map("restrict_spectral", layer, size))
    restriction.requires_grad_(any(p.requires_grad for name, p in layer.named_parameters() if name != "bias"))
    register_parametrization(layer, "weight", restriction)
    return layer


def restrict_frobenius(layer: Layer, limit: float = 2.0, probes: int | None = None) -> Layer:
    r"""Keep the Frobenius norm of a layer's weight below a limit, by a parametrization of torch.

    .. math::
        W = w \, \min(1, c / \lVert w \rVert_F)

    No gradient passes through the norm.

    Args:
        layer: Layer; changed in place.  `nn.Linear`, `nn.Conv*d` or `nn.ConvTranspose*d`.
        limit: Bound :math:`c`.  Finite number > 0.  Default: 2.0.
        probes: Number of random vectors v that estimate the norm, as hardware can: the root of the mean of `|v^T w|^2`.
            Whole number from 1 to 10**6.  They are drawn at the first use of a weight that has changed, in training
            mode with gradients on; otherwise the last estimate, a buffer, is used.  The bound then holds up to the
            error of the estimate.  Default: None, the norm itself.

    Returns:
        The layer.

    Raises:
        ConfigError: The layer has no such weight, or `limit` or `probes` is out of range.

    Reference:
        Xiao et al., SPIDE: A Purely Spike-based Method for Training Feedback Spiking Neural Networks, Neural Networks
        2023, arXiv 2302.00232.

    >>> from spikewright.layers import restrict_frobenius
    >>> from torch import nn
    >>> layer = restrict_frobenius(nn.Linear(64, 64), limit=2.0)
    >>> round(layer.weight.norm().item(), 4)
    2.0
    """
    weight = _weight("restrict_frobenius", layer, bounded=True)
    check_within("restrict_frobenius", "limit", limit, "(0, inf)", "only a zero weight could keep a bound of 0")
    if probes is not None:
        check_count("restrict_frobenius", "probes", probes, "so many random vectors estimate the norm", most=MOST)
    register_parametrization(layer, "weight", FrobeniusRestriction(weight, limit, _matrix(layer), probes))
    return layer


def operator_norm(layer: nn.Module, size: Size | None = None, iterations: int = 10_000) -> float:
    """Return the present gain of a layer: the largest factor by which it lengthens a difference of two inputs.

    Power iteration in double precision until it converges.  The estimate comes from below: too few iterations return
    too small a gain.

    Args:
        layer: Layer, restricted or not; not changed.  `nn.Linear`, `nn.Conv*d` or `nn.ConvTranspose*d`.
        size: Space of a convolution's input, such as `(height, width)`.  Whole numbers from 1 to 10**6.  Default: None,
            which measures the weight as a matrix, output channels by all else.
        iterations: Most iterations.  Whole number from 1 to 10**6.  Default: 10000.

    Raises:
        ConfigError: The layer has no such weight, or `size` does not fit it.

    >>> from spikewright.layers import operator_norm
    >>> from torch import nn
    >>> layer = nn.Conv2d(1, 1, 3, padding=1)
    >>> _ = nn.init.ones_(layer.weight)
    >>> round(operator_norm(layer), 3), round(operator_norm(layer, size=(20, 20)), 3)
    (3.0, 8.866)
    """
    check_count("operator_norm", "iterations", iterations, "there is at least one iteration", most=MOST)
    weight = _weight("operator_norm", layer)
    return float(_largest(weight, *_linear_map("operator_norm", layer, size), iterations)[2])


def power_iteration(layer: nn.Module, iterations: int = 100) -> None:
    """Iterate the vectors of `restrict_spectral` on the present weight, so that its bound holds again.

    Args:
        layer: Layer that `restrict_spectral` returned; the singular value that it divides by is changed in place.
        iterations: Number of iterations.  Whole number from 1 to 10**6.  Default: 100.

    Raises:
        ConfigError: The layer is not restricted by `restrict_spectral`.

    >>> from spikewright.layers import operator_norm, power_iteration, restrict_spectral
    >>> from torch import nn
    >>> layer = restrict_spectral(nn.Linear(4, 4), limit=0.25)
    >>> _ = nn.init.normal_(layer.parametrizations.weight.original)
    >>> power_iteration(layer, iterations=1_000)
    >>> round(operator_norm(layer), 4)
    0.25
    """
    check_count("power_iteration", "iterations", iterations, "there is at least one iteration", most=MOST)
    check_instance("power_iteration", "layer", layer, nn.Module, "restrict_spectral(nn.Linear(4, 4))")
    found = [m for m in layer.modules() if isinstance(m, SpectralRestriction)]
    lists: Any = getattr(layer, "parametrizations", {})
    if not found or "weight" not in lists:
        raise ConfigError(
            f"power_iteration was given {type(layer).__name__}, whose weight is not restricted by restrict_spectral, "
            "so there are no vectors to move. Give it a layer that restrict_spectral returned; of a network, each."
        )
    with torch.no_grad():
        weight = lists["weight"].original
        for form in lists["weight"]:
            if isinstance(form, SpectralRestriction):
                for _ in range(iterations):
                    form.iterate(weight)
            weight = form(weight)


class SpectralRestriction(nn.Module):
    """`clamp(gain, -limit, limit) * w / sigma(w)`, for the linear map `apply(w, input)`."""

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, limit: float, apply: Bilinear, shape: Size) -> None:
        super().__init__()
        u, v, sigma = _largest(weight, apply, shape, AT_THE_START)
        if not 0 < sigma < math.inf:
            raise ConfigError(
                f"restrict_spectral was given a weight {list(weight.shape)} of norm {sigma:g}, but it divides by that "
                "norm. Initialise the weight with finite values that are not all zero."
            )
        self.limit, self._linear_map = limit, apply
        self.gain = nn.Parameter(sigma.clamp(max=limit).to(real_type(weight.dtype)))
        self.register_buffer("u", u.to(weight.dtype))
        self.register_buffer("v", v.to(weight.dtype))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight in use."""
        with torch.autocast(weight.device.type, enabled=False):
            if self.training and torch.is_grad_enabled() and not self._has_seen(weight):
                self.iterate(weight)
            # Copies, because the next use may write to the buffers before this one is differentiated.
            sigma = (self.u.clone().conj() * self._linear_map(weight, self.v.clone())).real.sum()
            return self.gain.clamp(-self.limit, self.limit) / sigma * weight

    @torch.no_grad()
    def iterate(self, weight: Tensor) -> None:
        """Take one step of power iteration."""
        with torch.autocast(weight.device.type, enabled=False):
            self.u.copy_(_normed(self._linear_map(weight, self.v))[0])
            self.v.copy_(self._image(weight))

    def _has_seen(self, weight: Tensor) -> bool:
        """True if the last iteration used this weight: then it maps u to v, bit for bit."""
        return torch.equal(self._image(weight), self.v)

    def _image(self, weight: Tensor) -> Tensor:
        return _adjoint(weight.detach(), self._linear_map, self.v, self.u)[0]

    def extra_repr(self) -> str:
        """Return the bound and the shape of the input, for the representation of the module."""
        return f"limit={self.limit}, input={list(self.v.shape)}"


class FrobeniusRestriction(nn.Module):
    """`w * min(1, limit / norm(w))`, with the norm exact or estimated by random vectors.

    An estimate is drawn once for every weight: at its first use in training mode with gradients on.
    """

    norm: Tensor | None

    def __init__(self, weight: Tensor, limit: float, matrix: Callable[[Tensor], Tensor], probes: int | None) -> None:
        super().__init__()
        self.limit, self.probes, self._matrix = limit, probes, matrix
        self.register_buffer("norm", None if probes is None else self._estimate(weight, probes))
        self._drawn_for: Tensor | None = None

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight in use."""
        if self.norm is None or self.probes is None:
            norm = vector_norm(weight.detach())
        else:
            if self.training and torch.is_grad_enabled() and not self._has_seen(weight):
                self.norm.copy_(self._estimate(weight.detach(), self.probes))
                self._drawn_for = weight.detach().clone()
            norm = self.norm
        return weight * (self.limit / norm).clamp(max=1)

    def _has_seen(self, weight: Tensor) -> bool:
        before = self._drawn_for
        same = before is not None and before.device == weight.device and before.dtype == weight.dtype
        return before is not None and same and torch.equal(before, weight)

    def _estimate(self, weight: Tensor, probes: int) -> Tensor:
        rows = self._matrix(weight)
        drawn = rows.new_empty(probes, len(rows)).normal_(generator=common_generator(rows.device))
        with torch.autocast(weight.device.type, enabled=False):
            return vector_norm(drawn @ rows) / math.sqrt(probes)

    def extra_repr(self) -> str:
        """Return the bound and the number of probes, for the representation of the module."""
        return f"limit={self.limit}, probes={self.probes}"


def _iterate(weight: Tensor, apply: Bilinear, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take one step of power iteration from v; return u, v and the gain between them."""
    u, _ = _normed(apply(weight, v))
    return u, *_adjoint(weight, apply, v, u)


def _adjoint(weight: Tensor, apply: Bilinear, v: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Return the adjoint of the map at u, normalised, and its length; v is used for its shape only."""
    with torch.enable_grad():
        v = torch.zeros_like(v).requires_grad_()
        output = apply(weight, v)
    (back,) = torch.autograd.grad(output, v, u)
    return _normed(back)


def _normed(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x normalised, and its length."""
    length = vector_norm(x)
    return x / length.clamp(min=torch.finfo(x.dtype).tiny), length


@torch.inference_mode(False)
def _largest(weight: Tensor, apply: Bilinear, shape: Size, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the largest singular value in double precision; return u, v and the value."""
    kind = torch.complex128 if weight.is_complex() else torch.float64
    weight = weight.to(kind, copy=True)
    # A generator of its own, so that measuring a layer does not change later draws.
    v = torch.randn(shape, dtype=kind, generator=torch.Generator().manual_seed(0)).to(weight.device)
    u, v, sigma = _iterate(weight, apply, v)
    for _ in range(iterations - 1):
        before = sigma
        u, v, sigma = _iterate(weight, apply, v)
        if not sigma - before > 1e-14 * sigma:
            break
    return u, v, sigma


def _weight(caller: str, layer: nn.Module, *, bounded: bool = False) -> Tensor:
    """Return the weight in use, without a graph, after a check that it can be bounded, if that is asked for."""
    if not isinstance(layer, nn.Linear | _ConvNd):
        raise ConfigError(
            f"{caller} was given {type(layer).__name__}, which has no weight that maps an input linearly, so it has "
            "no such norm. Give it an nn.Linear, nn.Conv*d or nn.ConvTranspose*d; of a container, its layers."
        )
    standardized = isinstance(layer, ScaledWSConv2d | ScaledWSLinear)
    if bounded and standardized:
        raise ConfigError(
            f"{caller} was given {type(layer).__name__}, which standardises its weight before use, so a bound on the "
            "weight is none on what it does. Use the plain torch layer."
        )
    with torch.no_grad():
        weight = (layer.effective_weight() if standardized else layer.weight).detach()
    if weight.is_meta:
        raise ConfigError(
            f"{caller} was given {type(layer).__name__}, whose weight has no values (meta), so its norm is not known. "
            "Fill it first: layer.to_empty(device=...), and its initialisation."
        )
    return weight


def _matrix(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the function from the layer's weight to a matrix `[output channel, all else]`."""
    if not isinstance(layer, _ConvNd) or not layer.transposed:
        return lambda weight: weight.flatten(1)
    groups = layer.groups
    return lambda weight: weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flatten(1)


def _linear_map(caller: str, layer: nn.Module, size: Size | None) -> tuple[Bilinear, Size]:
    """Return the linear map of the layer, without bias, and the shape of its input."""
    if size is None:
        matrix = _matrix(layer)
        return lambda weight, x: matrix(weight) @ x, tuple(matrix(_weight(caller, layer)).shape[1:])
    axes = len(layer.kernel_size) if isinstance(layer, _ConvNd) else 0
    for side in check_row(caller, "size", size, "(8, 8)"):
        check_count(caller, "size", side, "inputs have at least one entry along an axis", most=MOST)
    if not isinstance(layer, _ConvNd) or len(size) != axes:
        raise ConfigError(
            f"{caller}(size={size}) asks for the gain on inputs of that size, but those of {type(layer).__name__} have "
            f"{axes} axes of space. Use {f'{axes} numbers of at least 1' if axes else 'size=None'}."
        )
    transposed, around = layer.transposed, layer._reversed_padding_repeated_twice
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padding: Any = layer.padding if transposed else [0] * axes
    options = (layer.stride, padding, layer.dilation, transposed, layer.output_padding, layer.groups)

    def convolve(weight: Tensor, x: Tensor) -> Tensor:
        # Not F.conv2d: a run would intercept it as the operation of the layer.
        return torch.convolution(x if transposed else F.pad(x, around, mode), weight, None, *options)

    shape = (1, layer.in_channels, *size)
    try:
        convolve(layer.weight.detach(), layer.weight.new_zeros(shape))
    except RuntimeError as error:
        raise ConfigError(
            f"{caller}(size={size}) asks for the gain on inputs of that size, which {layer} cannot take: {error}. Give "
            "the size of its inputs."
        ) from error
    return convolve, shape
