"""Errors about modules that cannot be run over time."""

from torch import nn

from spikewright.errors import NetworkError

LOOP = (
    "the forward seems to loop over time. Inside a run, forward sees one step (or several, folded into the batch), and "
    "the run does the loop. Write the forward of one step, give x as [time, batch, *feature], and send the last step's "
    "spikes back with spikewright.Feedback."
)
"""The advice in every message about a loop over time."""
AGAIN = (
    " If several neurons are meant, not several steps: called from one place with one current, they all emit the same, "
    "so call them once."
)
"""More advice, for calls that look like a loop and may be none."""


def shown(name: str, module: nn.Module) -> str:
    """Return how a module is named in a message."""
    kind = type(module).__name__
    return f"'{name}' ({kind})" if name else f"The forward of {kind} itself"


def keeps_state(name: str, module: nn.Module) -> NetworkError:
    """Return the error for a module that returns something else for the same input a second time."""
    return NetworkError(
        f"{shown(name, module)} returned something else when the same input arrived again: it keeps a state between "
        "calls, in an attribute or a buffer. A run can neither carry such a state from chunk to chunk nor reset it. "
        "Use the neurons of this library; write other dynamics as a spikewright.Neuron, whose scan is given its "
        "state; and send spikes of the last step back with spikewright.Feedback, not by keeping them on self."
    )


def set_by_the_first(name: str, module: nn.Module) -> NetworkError:
    """Return the error for a module that the first input sets."""
    return NetworkError(
        f"{shown(name, module)} returned something else for an input when another one had come before it, the first of "
        "all: it sets itself by the first input that it sees (as initialisation from data does). In a run that is a "
        "chunk, steps and samples folded, so other chunks would set it otherwise. Set it before the network is made: "
        "call that layer once, by itself, on what a step of data gives it."
    )


def kept_for_evaluation(name: str, module: nn.Module) -> NetworkError:
    """Return the error for a module that gathers statistics in training and uses them in evaluation."""
    return NetworkError(
        f"{shown(name, module)} gathers something while it trains, in a buffer or an attribute, and computes with it "
        "in evaluation mode (a running mean, a range). A run calls it once per chunk, steps and samples folded, so "
        "other chunks would gather something else. Use nn.BatchNorm*, whose statistics a run gathers step by step; "
        "give nn.InstanceNorm* track_running_stats=False; or gather outside of the network."
    )


def counts_rows(name: str, module: nn.Module, error: Exception) -> NetworkError:
    """Return the error for a module that fails for another number of rows."""
    return NetworkError(
        f"{shown(name, module)} goes by the number of rows: it took some, but of others it said: {error} In a run the "
        "first axis is time and batch, folded together, and chunks have all sizes. Work along other axes."
    )


def mixes_samples(name: str, module: nn.Module) -> NetworkError:
    """Return the error for a module whose output for a sample depends on the other samples, or on its row."""
    return NetworkError(
        f"{shown(name, module)} returned something else for a sample that stood in another row, among other samples, "
        "and more: it mixes the rows of the first axis (statistics, a cumulative sum, attention or recurrence over "
        "it), or goes by their number or order (x.size(0), positions along it). In a run that axis is time and batch, "
        "folded together, so steps and samples would leak into each other, and other chunks would give other results. "
        "Work along other axes, or use nn.BatchNorm*, whose statistics a run takes for each step."
    )


def is_transformed(name: str, module: nn.Module) -> NetworkError:
    """Return the error for a module that is called inside a transform of torch.func, such as vmap."""
    return NetworkError(
        f"{shown(name, module)} was called inside of a transform of torch.func (vmap, grad, ...), which hands it some "
        "of what a run has, and hides the rest. Neurons, norms, dropout and layers have to be given all rows at every "
        "call: write it without the transform, for all rows at once."
    )


def takes_one(name: str, module: nn.Module, found: list[str]) -> NetworkError:
    """Return the error for a neuron, norm or dropout that is not called with one tensor."""
    return NetworkError(
        f"{shown(name, module)} was called with ({', '.join(found)}). In a run it takes one tensor, "
        "[rows, *feature], and returns one; what it carries from step to step is the run's."
    )


def splits_rows(name: str, module: nn.Module, found: int, steps: int, batch: int) -> NetworkError:
    """Return the error for a module that sees time but was not given all rows of a run in one piece."""
    return NetworkError(
        f"{shown(name, module)} was called with {found} rows of a run that has {steps * batch} ({steps} steps of "
        f"{batch} samples, folded). Neurons, norms, dropout and layers have to be given all of them at every call: do "
        "not split, pick or route rows inside forward (chunk, split, a mask); and what does not depend on the input, "
        "such as a table of positions, is given as one for every row (table.expand(len(x), ...)). Or " + LOOP
    )


def loops(name: str, module: nn.Module, found: str, besides: str = "") -> NetworkError:
    """Return the error for a neuron that a loop inside `forward` calls step by step."""
    return NetworkError(f"{shown(name, module)} {found}: {LOOP}{besides}")


def called_twice(name: str, recurrent: nn.Module) -> NetworkError:
    """Return the error for a recurrent layer whose neurons are called several times in a step."""
    return NetworkError(
        f"{shown(name, recurrent)} sends back the spikes of the last step, but its neurons are called twice in a step, "
        "so that there are two outputs to send back. Call it once in forward, and use its neurons nowhere else. "
        "Several layers may share one transform: Recurrent(LIF(), transform) for each."
    )


def not_called(name: str, feedback: nn.Module, source: nn.Module) -> NetworkError:
    """Return the error for a feedback connection that adds a bias at the first step, without a known source."""
    return NetworkError(
        f"{shown(name, feedback)} has first='bias': at the first step it transforms zeros of the shape of what its "
        f"source sends, but a step does not call the source, {type(source).__name__}, so that the shape is not known. "
        "Call the source in forward, or use first='nothing'."
    )
