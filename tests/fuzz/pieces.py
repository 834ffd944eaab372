"""Random networks, rules, inputs and targets, and what must be true of what becomes of them."""

import inspect
import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.train import components as c
from tests.fuzz.draw import KINDS, value

Draw = random.Random
STEPS, SAMPLES, FEATURES, CLASSES = 3, 4, 6, 3


class Broken(Exception):
    """A promise that a call did not keep."""


def promise(kept: object, what: str) -> None:
    if not kept:
        raise Broken(what)


def given(draw: Draw, builder: Callable[..., Any], odd: float = 0.3) -> dict[str, Any]:
    """Some arguments of a constructor: those that it needs, and a few more."""
    chosen: dict[str, Any] = {}
    for key, parameter in c.options(builder).items():
        needed = parameter.default is inspect.Parameter.empty
        if key in c.NESTED:
            choices = c.NESTED[key]
            if needed or draw.random() < 0.2:
                chosen[key] = built(draw, choices, odd)
        elif needed or draw.random() < 0.25:
            kind = draw.choice(KINDS) if draw.random() < odd else "fits"
            chosen[key] = value(draw, builder, key, parameter.default, kind)
            if isinstance(chosen[key], list) and draw.random() < 0.8:
                chosen[key] = tuple(chosen[key])
    return chosen


def built(draw: Draw, choices: Mapping[str, Callable[..., Any]], odd: float) -> Any:
    """A component with some arguments."""
    builder = choices[draw.choice(list(choices))]
    if builder.__module__.startswith("torch."):
        return builder()
    return builder(**(given(draw, builder, odd) if draw.random() < 0.5 else needs(draw, builder)))


def needs(draw: Draw, builder: Callable[..., Any]) -> dict[str, Any]:
    """The arguments that a constructor has no default for."""
    found: dict[str, Any] = {}
    for key, parameter in c.options(builder).items():
        if parameter.default is inspect.Parameter.empty:
            default = {"criterion": nn.CrossEntropyLoss, "rule": sw.rules.OTTT}
            found[key] = default[key]() if key in default else value(draw, builder, key, parameter.default, "fits")
    return found


def inputs(draw: Draw, odd: float) -> Any:
    """A sequence `[time, batch, features]`, or what should not be taken for one."""
    good = torch.rand(draw.choice([1, STEPS]), draw.choice([1, SAMPLES]), FEATURES)
    if draw.random() > odd:
        return draw.choice([good, (good > 0.5).float(), good.requires_grad_(), good.transpose(0, 1).contiguous()])
    return draw.choice([
        lambda: good[0], lambda: good[0, 0], lambda: good[None], lambda: good[:0], lambda: good[:, :0],
        lambda: good[..., :0], lambda: good[..., :2], lambda: torch.tensor(1.0), lambda: good.double(),
        lambda: good.half(), lambda: good.bfloat16(), lambda: good.long(), lambda: good.bool(), lambda: good.byte(),
        lambda: good.to(torch.complex64), lambda: good * float("nan"), lambda: good / 0, lambda: good * 1e30,
        lambda: good.to("meta"), lambda: good.tolist(), lambda: good.detach().numpy(), lambda: None, lambda: "x",
        lambda: {"x": good}, lambda: (good, good), lambda: [good], lambda: (), lambda: good.to_sparse(),
        lambda: good[:1].expand(STEPS, -1, -1), lambda: good.flip(0)[..., ::2].repeat(1, 1, 2), lambda: 3,
        lambda: -good, lambda: torch.zeros(0), lambda: nn.Parameter(good.detach()),
    ])()  # fmt: skip


def targets(draw: Draw, odd: float, x: Any) -> Any:
    """Classes of samples, or what should not be taken for them."""
    number = x.shape[1] if isinstance(x, Tensor) and x.dim() > 1 else SAMPLES
    good = torch.arange(number) % CLASSES
    if draw.random() > odd:
        return good
    return draw.choice([
        lambda: good[:-1], lambda: good - 1, lambda: good + CLASSES, lambda: good.float(), lambda: good.int(),
        lambda: good.bool(), lambda: good.byte(), lambda: good[:, None], lambda: good[None],
        lambda: good.expand(STEPS, -1), lambda: nn.functional.one_hot(good, CLASSES).float(), lambda: None,
        lambda: good.tolist(), lambda: good.numpy(), lambda: good.to("meta"), lambda: good[:0], lambda: "y",
        lambda: good.float() * float("nan"), lambda: good * 0 + 10**12, lambda: good.to(torch.complex64), lambda: 1,
        lambda: (good,), lambda: torch.full_like(good, -100),
    ])()  # fmt: skip


def neuron(draw: Draw, odd: float) -> nn.Module:
    return built(draw, c.NEURONS, odd) if draw.random() < 0.6 else sw.LIF()


def module(draw: Draw, odd: float) -> nn.Module:
    """A network for `inputs`."""
    inner: list[nn.Module] = [nn.Linear(FEATURES, 5), neuron(draw, odd)]
    extra = [nn.Linear(5, 5), nn.Dropout(0.2), sw.layers.Scale(), nn.Identity(), nn.LayerNorm(5), nn.BatchNorm1d(5)]
    extra += [sw.layers.SharedDropout(0.2), sw.layers.StepDropout(0.2), sw.layers.PerStepBatchNorm1d(5), sw.LIF()]
    inner += draw.sample(extra, draw.randint(0, 2))
    if draw.random() < 0.3:
        inner += [nn.Linear(5, 5), neuron(draw, odd)]
    return nn.Sequential(*inner, nn.Linear(5, CLASSES))


def plain(x: Any) -> bool:
    """Whether a sequence is one that has to be learned from without trouble."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.device.type == "meta" or x.is_sparse:
        return False
    return bool(x.isfinite().all()) and float(x.detach().abs().amax() if x.numel() else 0) < 10


def check_update(update: Any, x: Any, net: Any) -> None:
    if not plain(x):
        return
    promise(bool(torch.as_tensor(update.loss).isfinite()), f"the loss is {update.loss}")
    promise(update.output.shape[-1] == CLASSES, f"the output has shape {list(update.output.shape)}")
    promise(update.output.shape[-2] == x.shape[1], f"an output {list(update.output.shape)} of {list(x.shape)}")
    for name, p in net.named_parameters():
        promise(p.grad is None or bool(p.grad.isfinite().all()), f"the gradient of {name} is not finite")
        promise(p.grad is None or p.grad.shape == p.shape, f"the gradient of {name} has another shape")


def parts(draw: Draw, odd: float) -> tuple[Any, Any, Any, Any, Any]:
    net = sw.Network(module(draw, odd))
    rule = built(draw, c.RULES, odd)
    x = inputs(draw, odd)
    return net, rule, x, targets(draw, odd, x), built(draw, c.LOSSES, odd)
