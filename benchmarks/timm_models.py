"""Models of timm with spiking neurons as activations, in training mode, beside the same models run step by step.

    pip install timm==1.0.31 torchvision==0.28.0 --no-deps
    python benchmarks/timm_models.py [NAME ...] [--steps 3] [--batch 2] [--side 64]

The reference is written here: T calls of the plain model, whose activations keep their membrane potential between the
calls. Of each model the outputs, the gradients of all parameters and the running statistics of batch norm are compared
in double precision; a figure is the largest difference, relative to the largest value of its tensor for outputs and
statistics, and of all tensors for gradients; spread is the deviation of the outputs from
step to step, relative to their size. Dropout and stochastic depth are off. The exit status is 1 if a model is
off by more than 1e-5; models that are refused are listed with the reason.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.errors import ConfigError, SpikewrightError

TOLERANCE = 1e-5
THRESHOLD = 0.3
"""Of all neurons: low, or those of a model at its initial weights would hardly fire."""
ACTIVATIONS = nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish
MODELS = (
    "resnet18 seresnet18 skresnet18 resnest14d res2net50_14w_8s resnetv2_18 mobilenetv2_100 mobilenetv3_small_050 "
    "mnasnet_small efficientnet_b0 efficientnet_lite0 lcnet_050 tinynet_e ghostnet_100 densenet121 dla34 dpn48b "
    "regnetx_002 regnety_002 cspresnet50 vovnet39a hrnet_w18_small rexnet_100 selecsls42b xception41 vgg11_bn "
    "hgnetv2_b0 repvgg_a0 gernet_s mobilevit_xxs convnext_atto nf_regnet_b0 mixer_s32_224 vit_tiny_patch16_224 "
    "poolformer_s12 edgenext_xx_small"
).split()


class _Fire(torch.autograd.Function):
    """A spike at or above threshold, with the slope of the logistic function of 4x."""

    @staticmethod
    def forward(ctx: Any, above: Tensor) -> Tensor:
        ctx.save_for_backward(above)
        return (above >= 0).to(above.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (above,) = ctx.saved_tensors
        return grads[0] * 4 * torch.sigmoid(4 * above) * torch.sigmoid(-4 * above)


class StepLIF(nn.Module):
    """A leaky neuron that is called once per step and keeps its potentials, one for each of its places in a forward."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.threshold = 1.0
        self.potentials: list[Tensor] = []
        self.fired: list[float] = []
        self.call = 0

    def forward(self, current: Tensor) -> Tensor:
        first = self.call == len(self.potentials)
        potential = current if first else 0.5 * self.potentials[self.call] + current
        spikes: Any = _Fire.apply(potential - self.threshold)
        left = potential - self.threshold * spikes.detach()
        self.potentials[self.call : self.call + 1] = [left]
        self.fired.append(spikes.detach().mean().item())
        self.call += 1
        return spikes


def step_by_step(model: nn.Module, x: Tensor) -> Tensor:
    """Return the outputs of one call per step, `[time, batch, *output]`."""
    outputs = []
    for step in x:
        for module in model.modules():
            if isinstance(module, StepLIF):
                module.call = 0
        outputs.append(model(step))
    return torch.stack(outputs)


def import_timm() -> Any:
    """Import timm, which asks for torchvision, also where torchvision's compiled operators do not load."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor a, Tensor b, float c) -> Tensor")
    import timm

    return timm


def build(create: Callable[..., nn.Module], name: str, side: int, activation: type[nn.Module]) -> nn.Module:
    """Build a model in training mode, in double precision, that drops nothing.

    Activations are given as `act_layer`, as a function where timm passes `inplace` by position; in models that do not
    take them, modules that are one are replaced.
    """
    attempts: list[dict[str, Any]] = [
        {"img_size": side, "act_layer": activation},
        {"act_layer": activation},
        {"act_layer": lambda *_, **__: activation()},
        {},
    ]
    for options in attempts:
        try:
            model = create(name, num_classes=10, **options)
            break
        except (TypeError, ConfigError):
            continue
    else:
        raise TypeError("no way to give it an activation")
    if "act_layer" not in options:
        for module in list(model.modules()):
            for key, child in module.named_children():
                if isinstance(child, ACTIVATIONS):
                    setattr(module, key, activation())
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for key in ("drop_prob", "drop_rate"):
            if isinstance(vars(module).get(key), float):
                setattr(module, key, 0.0)
        if isinstance(module, activation):
            module.threshold = THRESHOLD
    for key, parameter in model.named_parameters():
        if key.endswith("weight") and not parameter.any():  # at which timm starts some heads and branches
            nn.init.normal_(parameter, std=0.3)
    return model.double().train()


def difference(found: Iterable[Tensor], expected: Iterable[Tensor], together: bool = False) -> float:
    """Return the largest difference, relative to the largest value of each tensor (at least 1e-6), or of all."""
    pairs = [(a.double(), b.double()) for a, b in zip(found, expected, strict=True) if b.numel()]
    largest = max((b.abs().max().item() for _, b in pairs), default=1.0) if together else 0.0
    errors = [(a - b).abs().max().item() / (largest or max(b.abs().max().item(), 1e-6)) for a, b in pairs]
    return max(errors, default=0.0)


def gradients(model: nn.Module, output: Tensor) -> list[Tensor]:
    output.square().mean().backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=MODELS, metavar="NAME")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--side", type=int, default=64, help="of the square images")
    options = parser.parse_args()
    create = import_timm().create_model
    off, refused = [], []
    print("| model | neurons | in a norm | rate | spread | outputs | gradients | statistics | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.names:
        began = time.perf_counter()
        torch.manual_seed(0)
        try:
            plain = build(create, name, options.side, StepLIF)
            model = build(create, name, options.side, sw.LIF)
        except (TypeError, RuntimeError, AssertionError) as error:
            refused.append((name, f"timm does not build it so: {error}"))
            continue
        model.load_state_dict(plain.state_dict())
        x = 2 * torch.rand(options.steps, options.batch, 3, options.side, options.side, dtype=torch.float64)
        try:
            expected = step_by_step(plain, x)
        except (RuntimeError, ValueError, AssertionError) as error:
            refused.append((name, f"the plain model cannot run: {error}"))
            continue
        try:
            output = sw.Network(model)(x)
        except SpikewrightError as error:
            refused.append((name, str(error)))
            continue
        errors = (
            difference([output.detach()], [expected.detach()]),
            difference(gradients(model, output), gradients(plain, expected), together=True),
            difference(model.buffers(), plain.buffers()),
        )
        neurons = [m for m in plain.modules() if isinstance(m, StepLIF)]
        norms = [m for m in plain.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        joined = sum(isinstance(inner, StepLIF) for norm in norms for inner in norm.modules())
        fired = [rate for neuron in neurons for rate in neuron.fired]
        spread = (expected.std(0).mean() / expected.abs().mean()).item()
        cells = [name, len(neurons), joined, f"{sum(fired) / max(1, len(fired)):.2f}", f"{spread:.0e}"]
        cells += [f"{error:.0e}" for error in errors]
        print("|", *(f"{cell} |" for cell in cells), f"{time.perf_counter() - began:.0f} |", flush=True)
        if not max(errors) <= TOLERANCE:
            off.append(name)
    for name, reason in refused:
        print(f"refused: {name}: {reason}")
    print(f"off: {', '.join(off) or 'none'}; refused: {len(refused)} of {len(options.names)}")
    sys.exit(bool(off))


if __name__ == "__main__":
    main()
