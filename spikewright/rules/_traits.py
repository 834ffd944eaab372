"""What a rule declares of itself, once: everything else in the library reads it here."""

from dataclasses import dataclass
from typing import Literal

from spikewright.losses import LossOf


@dataclass(frozen=True)
class Traits:
    """The declaration of a learning rule.

    Attributes:
        loss: What the loss may be: "any"; "steps", a sum of terms that each need one step; "rate", a function of the
            mean output.
        credit_through_time: Errors cross time steps.
        gradients: Where weight gradients come from: "layer hook", the backward pass of the layers that run with the
            hooks of the batch, so that a hook decides what they are taken at; or "own", found by the rule itself.
        memory: How the bytes kept for backward grow with the number of steps, for a given chunk: "constant", "root",
            "linear", or "unknown".
        updates: How often `.grad` is ready in a sequence: "once", or at "every step".
        grows_with_chunk: The bytes kept for backward grow with the number of steps that run together.
        gradient_rows: How often in a sequence a weight gradient is taken, per sample; `None` is once per step.
        by_layer: What it does to a parameter depends on the layer that the parameter belongs to; parameters of no
            recognised layer get the ordinary gradient of their step.
        whole_sequence: All steps run together, whatever the chunk is.
        least_steps: Length of the shortest sequence that can be learned from.
    """

    loss: LossOf
    credit_through_time: bool
    gradients: Literal["layer hook", "own"]
    memory: Literal["constant", "root", "linear", "unknown"]
    updates: Literal["once", "every step"] = "once"
    grows_with_chunk: bool = True
    gradient_rows: int | None = None
    by_layer: bool = False
    whole_sequence: bool = False
    least_steps: int = 1
