"""What a rule declares of itself; the rest of the library reads it here."""

from dataclasses import dataclass
from typing import Literal, get_args

from spikewright._util.ranges import check_choice, check_counts, check_flag
from spikewright.losses import LossOf


@dataclass(frozen=True)
class Traits:
    """The declared properties of a learning rule.

    Attributes:
        loss: What the loss may be: "any"; "steps", a sum of terms that each need one step; or "rate", a function of the
            mean output.
        credit_through_time: True if errors cross time steps.
        gradients: Where weight gradients come from: "layer hook", the backward pass of the layers, where hooks decide
            what they are taken at; or "own", found by the rule itself.
        memory: How the bytes saved for backward grow with the number of steps, for a given chunk: "constant", "root",
            "linear", or "unknown".
        updates: How often `.grad` is ready: "once" per sequence, or at "every step".  Default: "once".
        gradient_rows: Number of times that a weight gradient is taken per sequence and sample.  At least 1.
            Default: None, once per step.
        by_layer: True if the treatment of a parameter depends on the layer it belongs to; parameters of no recognised
            layer get the ordinary gradient of their step.  Default: False.
        whole_sequence: True if all steps run together, whatever the chunk is.  Default: False.
        ragged: True if steps after the end of a sequence, where outputs and losses are 0, change no gradient, so that
            sequences of several lengths can be padded.  Default: False.
        penalty: True if the penalty of a loss on firing rates is added to it and differentiated.  Default: False.
        least_steps: Length of the shortest sequence that can be learned from.  At least 1.  Default: 1.

    Raises:
        ConfigError: A declaration is none of its choices, or out of its range.
    """

    loss: LossOf
    credit_through_time: bool
    gradients: Literal["layer hook", "own"]
    memory: Literal["constant", "root", "linear", "unknown"]
    updates: Literal["once", "every step"] = "once"
    gradient_rows: int | None = None
    by_layer: bool = False
    whole_sequence: bool = False
    ragged: bool = False
    penalty: bool = False
    least_steps: int = 1

    def __post_init__(self) -> None:
        check_choice("Traits", "loss", self.loss, get_args(LossOf))
        check_choice("Traits", "gradients", self.gradients, ("layer hook", "own"))
        check_choice("Traits", "memory", self.memory, ("constant", "root", "linear", "unknown"))
        check_choice("Traits", "updates", self.updates, ("once", "every step"))
        flags = ("credit_through_time", "by_layer", "whole_sequence", "ragged", "penalty")
        check_flag("Traits", **{name: getattr(self, name) for name in flags})
        check_counts("Traits", optional=True, gradient_rows=self.gradient_rows)
        check_counts("Traits", least_steps=self.least_steps)
