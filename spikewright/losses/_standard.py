"""The default loss of a rule."""

from spikewright.losses._base import LossOf
from spikewright.losses.on_rate import OnRate
from spikewright.losses.per_step import PerStep


def standard_loss(loss_of: LossOf) -> type[PerStep] | type[OnRate]:
    """Return the class of the default loss of a rule: `OnRate` if the rule needs rates, otherwise `PerStep`.

    Args:
        loss_of: What the loss of the rule may be: "any", "steps" (a sum over steps), or "rate" (a function of the mean
            output).
    """
    return OnRate if loss_of == "rate" else PerStep
