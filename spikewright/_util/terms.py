"""Terms of a criterion: the value that each sample of a batch adds."""

from copy import copy
from typing import TypeGuard

import torch
from torch import Tensor, nn

from spikewright._util.criterion import Criterion, applied
from spikewright._util.real_numbers import real_type
from spikewright.errors import IncompatibleRule


def sample_terms(loss: object, criterion: Criterion, output: Tensor, y: Tensor) -> Tensor:
    """Return the terms of samples whose sum over a step is the value of the criterion there, `[time, batch]`.

    Criteria of torch state their terms (`reduction="none"`); of others the value for a sample alone is taken.  That
    they add up to the value is measured at every call.

    Args:
        loss: Loss that the criterion belongs to, for messages.
        criterion: Criterion of the outputs of a step, `[batch, *feature]`.
        output: Outputs, `[time, batch, *feature]`.
        y: Targets, `[time, batch, ...]`.

    Raises:
        IncompatibleRule: The value is no sum over samples.
    """
    values = torch.stack([applied(loss, criterion, o, t) for o, t in zip(output, y)])
    terms = _stated(criterion, output, y)
    if terms is not None and _add_up(terms, values):
        return terms
    asked = f"{loss} was asked for the loss of each sample, but"
    try:
        alone = _alone(criterion, output, y)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise IncompatibleRule(f"{asked} its criterion does not take one sample alone: {error} {_ADVICE}") from error
    mean = alone / output.shape[1]
    terms = alone if getattr(criterion, "reduction", "mean") == "sum" or not _add_up(mean, values) else mean
    if _add_up(terms, values):
        return terms
    raise IncompatibleRule(
        f"{asked} the value of its criterion is neither the mean nor the sum over samples of what it is for each of "
        f"them alone: it compares samples, or weighs them by the batch. {_ADVICE}"
    )


_ADVICE = (
    "Use a criterion that is a mean over samples (nn.CrossEntropyLoss is one, also with weights or ignored labels); or "
    "sequences of one length, and a rule that needs only the value for the batch, as all do but those with spatial.ZO."
)


def _add_up(terms: Tensor, values: Tensor) -> bool:
    """Return True if terms, `[time, batch]`, add up to values, `[time]`, up to rounding; also if a value is none."""
    found, size = terms.detach().sum(1), terms.detach().abs().sum(1)
    precise = torch.finfo(real_type(values.dtype)).eps ** 0.75
    off = (found - values.detach()).abs() > precise * torch.maximum(size, values.detach().abs())
    return not bool((off & values.detach().isfinite()).any())


def _stated(criterion: Criterion, output: Tensor, y: Tensor) -> Tensor | None:
    """Return the terms that a criterion of torch states, `[time, batch]`; `None` for another one."""
    reduction = getattr(criterion, "reduction", None)
    if not isinstance(criterion, nn.Module) or reduction not in ("mean", "sum", "batchmean"):
        return None
    single, (steps, batch) = copy(criterion), output.shape[:2]
    setattr(single, "reduction", "none")  # noqa: B010  (typed as a module's parameter)
    try:
        each = single(output.flatten(0, 1), y.flatten(0, 1))
    except (RuntimeError, ValueError, TypeError, IndexError):  # it takes them for a whole batch only
        return None
    if not isinstance(each, Tensor) or each.shape[:1] != (steps * batch,):
        return None
    parts: int | Tensor = {"sum": 1, "batchmean": batch, "mean": each.numel() // steps}[reduction]
    if _divides_by_weights(criterion):
        parts = _counted(criterion, output, y).clamp_min(torch.finfo(each.dtype).tiny)
    return each.reshape(steps, batch, -1).sum(2) / parts


def batch_weight(criterion: Criterion, output: Tensor, y: Tensor) -> float:
    """Return the weight of a batch in a mean of a criterion over batches.

    It is what a mean of torch over classes divides by, averaged over steps; for other criteria the number of samples.

    Args:
        criterion: Criterion of the outputs of a step, `[batch, *feature]`.
        output: Outputs, `[time, batch, *feature]`.
        y: Targets, `[time, batch, ...]`, with one step if they are the same for all.
    """
    if not _divides_by_weights(criterion):
        return float(output.shape[1])
    return float(_counted(criterion, output, y).real.mean())


def _divides_by_weights(criterion: Criterion) -> TypeGuard[nn.CrossEntropyLoss | nn.NLLLoss]:
    return isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss) and criterion.reduction == "mean"


def _counted(criterion: nn.CrossEntropyLoss | nn.NLLLoss, output: Tensor, y: Tensor) -> Tensor:
    """Return what a mean of torch divides by at every step, `[time, 1]`: the weights of labels that are not ignored."""
    if y.is_floating_point():
        return output.new_full((len(y), 1), y[0].numel() / output.shape[2])
    kept = y != criterion.ignore_index
    if criterion.weight is None:
        return kept.flatten(1).sum(1, keepdim=True).to(output.dtype)
    weights = criterion.weight[torch.where(kept, y, 0).long()] * kept
    return weights.flatten(1).sum(1, keepdim=True)


def _alone(criterion: Criterion, output: Tensor, y: Tensor) -> Tensor:
    """Return the value of a criterion for each sample alone, `[time, batch]`."""
    rows, targets = output.flatten(0, 1), y.flatten(0, 1)

    def one(o: Tensor, t: Tensor) -> Tensor:
        return criterion(o.unsqueeze(0), t.unsqueeze(0)).reshape(())

    try:
        found = torch.vmap(one)(rows, targets)
    except RuntimeError:  # it looks at values, or has an operation that is not known for many at once
        found = torch.stack([one(o, t) for o, t in zip(rows, targets)])
    return found.view(output.shape[:2])
