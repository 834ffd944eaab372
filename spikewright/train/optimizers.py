"""Optimizers: one for matrices and all else together, and a trial step before training."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from spikewright._util.arguments import shown
from spikewright._util.ranges import check_counts, check_flag, check_numbers
from spikewright._util.text import kind_of
from spikewright.errors import ConfigError


class MuonAdamW(Optimizer):
    """Muon for matrices, AdamW for all other parameters, as one optimizer.

    Muon makes the step of a matrix orthogonal, and takes nothing but matrices.  Here parameters of two axes are its
    group, and all others (biases, norms, convolutions) are the group of AdamW.  Schedules, gradient scaling and
    `state_dict` work as for any optimizer; each group has the key `kind`, "muon" or "adamw".

    Args:
        params: Parameters, or groups of them as dictionaries with the keys `params`, `lr` and `weight_decay`.
        lr: Learning rate of both kinds; a step of Muon is scaled to the size of one of AdamW.  Finite number > 0.
            Default: 0.001.
        weight_decay: Weight decay of both kinds.  Finite number, at least 0.  Default: 0.1.
        momentum: Momentum of Muon.  In [0, 1).  Default: 0.95.
        nesterov: True takes the momentum of Nesterov in Muon.  Default: True.
        ns_steps: Newton-Schulz iterations of Muon.  From 1 to 99.  Default: 5.
        betas: Decays of the moments of AdamW.  Each in [0, 1).  Default: (0.9, 0.999).
        eps: Number added to the denominator of AdamW.  Finite number > 0.  Default: 1e-8.

    Raises:
        ConfigError: An argument is out of its range, or this torch has no Muon.

    Reference:
        Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024; Liu et al., Muon is Scalable for
        LLM Training, arXiv 2502.16982 (the scale of a step).

    >>> import torch
    >>> from spikewright.train import MuonAdamW
    >>> optimizer = MuonAdamW(torch.nn.Linear(4, 3).parameters(), lr=0.01)
    >>> [(group["kind"], len(group["params"])) for group in optimizer.param_groups]
    [('muon', 1), ('adamw', 1)]
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.001,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        check_numbers("MuonAdamW", "(0, inf)", lr=lr, eps=eps)
        check_numbers("MuonAdamW", "[0, inf)", weight_decay=weight_decay)
        check_numbers("MuonAdamW", "[0, 1)", momentum=momentum)
        check_flag("MuonAdamW", nesterov=nesterov)
        check_counts("MuonAdamW", most=99, ns_steps=ns_steps)
        if not isinstance(betas, list | tuple) or len(betas) != 2:
            raise ConfigError(f"MuonAdamW(betas={shown(betas)}): AdamW has two decays. Give two numbers in [0, 1).")
        for beta in betas:
            check_numbers("MuonAdamW", "[0, 1)", betas=beta)
        muon: Callable[..., Optimizer] | None = getattr(torch.optim, "Muon", None)
        if muon is None:
            raise ConfigError(
                f"MuonAdamW was asked for, but torch {torch.__version__} has no torch.optim.Muon. Update torch, or use "
                "AdamW."
            )
        both: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
        scale = "match_rms_adamw"
        self._inner: dict[str, Optimizer] = {}
        made = {
            "muon": lambda group: muon(
                group, **both, momentum=momentum, nesterov=nesterov, ns_steps=ns_steps, adjust_lr_fn=scale
            ),
            "adamw": lambda group: AdamW(group, **both, betas=(betas[0], betas[1]), eps=eps),
        }
        groups: list[dict[str, Any]] = []
        for kind, part in _by_kind(params):
            inner = made[kind]([part])
            self._inner.setdefault(kind, inner)
            groups += [{**group, "kind": kind} for group in inner.param_groups]
        super().__init__(groups, both)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is made of: that of every optimizer, and the two inside."""
        return {**super().__getstate__(), "_inner": self._inner}

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step with both kinds.

        Args:
            closure: Function that computes the loss and its gradients.  Default: None, they are there.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for kind, inner in self._inner.items():
            inner.param_groups = [group for group in self.param_groups if group["kind"] == kind]
            inner.state = self.state
            inner.step()
        return loss


def _by_kind(params: Iterable[Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return groups of parameters of one kind, each with the options it came with."""
    if not isinstance(params, Iterable) or isinstance(params, Tensor | str):
        raise ConfigError(
            f"MuonAdamW was given {kind_of(params)} for its parameters. Give several, such as net.parameters()."
        )
    given = list(params)
    groups = given if given and isinstance(given[0], dict) else [{"params": given}]
    parts: list[tuple[str, dict[str, Any]]] = []
    for group in groups:
        entries = list(group["params"])
        if not entries or not all(isinstance(p, Tensor) for p in entries):
            raise ConfigError(
                "MuonAdamW was given a group of parameters that is empty, or holds something else. Give parameters, "
                "such as net.parameters(), or dictionaries {'params': [...], 'lr': ...}."
            )
        for kind in ("muon", "adamw"):
            own = [p for p in entries if (p.dim() == 2 and not p.is_complex()) == (kind == "muon")]
            if own:
                parts.append((kind, {**group, "params": own}))
    return parts


def check_step(optimizer: Optimizer, make: Callable[[list[nn.Parameter]], Optimizer], asked: str) -> None:
    """Raise `ConfigError` unless an optimizer can take a step, and the step goes down the gradient.

    It is tried on small parameters of the kinds that the optimizer has.

    Args:
        optimizer: The optimizer, which takes no step.
        make: Function that makes another one of its kind.
        asked: Its name and arguments, for the message.
    """
    own = [p for group in optimizer.param_groups for p in group["params"]]
    kinds = dict.fromkeys((p.dtype, p.device, p.dim()) for p in own)
    samples = [nn.Parameter(torch.zeros([2] * axes, dtype=dtype, device=device)) for dtype, device, axes in kinds]
    try:
        trial = make(samples)
        for sample in samples:
            sample.grad = torch.ones_like(sample)
        trial.step()
        moved = [float(sample.detach().real.sum()) for sample in samples]
    except Exception as error:  # optimizers of torch raise any
        raise ConfigError(
            f"{asked} cannot take a step here: {str(error).rstrip('.')}. Leave out what it cannot work with; the "
            "defaults can."
        ) from error
    if not all(move < 0 for move in moved):
        does = "moves no parameter" if all(move == 0 for move in moved) else "does not go down the gradient"
        raise ConfigError(
            f"{asked} {does}, so nothing would be learned: with a gradient of 1, parameters at 0 moved to {moved}. "
            "Give a learning rate above 0, and leave out maximize."
        )
