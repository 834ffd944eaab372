"""A learning rule in the Trainer of transformers, which is not imported here."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from spikewright._util.ranges import check_flag, check_instance
from spikewright.errors import ConfigError, InputError
from spikewright.interop.stepping import stepped
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.network.form import Input
from spikewright.rules import Rule
from spikewright.rules._check import check_loss, check_network
from spikewright.rules._fitted import fitted
from spikewright.train.group import present_ranks


class TransformersMixin:
    """Trains by a learning rule in `transformers.Trainer`: the optimizer steps at every update, as in a plain loop.

    Put it before `Trainer` among the bases, and give a `Network` as `model`. All updates of a batch are applied within
    `training_step`; the trainer's own step then finds no gradient, and optimizers of torch skip parameters without one.
    `max_grad_norm` clips before every step (the trainer's log of the norm is 0). Schedules and `global_step` count
    batches. With several processes gradients are those of the samples of all. Checkpoints hold the network under the
    names of `net.state_dict()`, and not what a rule keeps in buffers.

    Args:
        *args: Arguments of `Trainer`.
        rule: Learning rule, a `Rule`. Default: None, which is refused.
        loss: The loss, such as `PerStep(nn.CrossEntropyLoss())`. Default: None, which is refused.
        batch_first: True for inputs `[batch, time, *feature]`, which collators of transformers make. Default: False.
        **kwargs: Arguments of `Trainer` by name, such as `model` and `args`.

    Raises:
        ConfigError: The model is no `Network`; `rule` or `loss` is none; or the arguments ask for what cannot be had
            with a rule: accumulation of gradients over batches, float16, several GPUs in one process, or parts of
            parameters in each process (FSDP, DeepSpeed).

    Examples:
        >>> import spikewright as sw
        >>> class Trainer(sw.interop.TransformersMixin, dict):  # transformers.Trainer in place of dict
        ...     pass
        >>> Trainer.__mro__[1].__name__
        'TransformersMixin'
    """

    if TYPE_CHECKING:  # what a Trainer has
        args: Any
        model: Any
        state: Any
        optimizer: Any
        accelerator: Any
        label_names: list[str]

        def _prepare_inputs(self, inputs: Any) -> Any: ...
        def _clip_grad_norm(self, model: Any) -> Any: ...

    def __init__(
        self, *args: Any, rule: Rule | None = None, loss: Loss | None = None, batch_first: bool = False, **kwargs: Any
    ) -> None:
        name = type(self).__name__
        check_instance(name, "rule", rule, Rule, "sw.rules.OTTT()")
        check_loss(name, loss)
        check_flag(name, batch_first=batch_first)
        self.rule, self.loss, self.batch_first = rule, loss, batch_first
        super().__init__(*args, **kwargs)
        self._check()
        self.label_names = self.label_names or ["labels"]  # which the trainer keeps in batches then

    def sequences(self, inputs: Mapping[str, Any]) -> tuple[Input, Input]:
        """Return inputs and targets of a batch; override it for other names than "x" and "labels".

        Args:
            inputs: What the collator made, on the device of the model.
        """
        missing = [name for name in ("x", "labels") if inputs.get(name) is None]
        if missing:
            raise InputError(
                f"{type(self).__name__} was given a batch of {sorted(inputs)}, without {' and '.join(missing)}. Name "
                "the parts of a sample 'x' and 'labels', or override sequences(inputs) to return inputs and targets."
            )
        return inputs["x"], inputs["labels"]

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Learn from one batch, and return its loss, a scalar without graph.

        Args:
            model: The model as the trainer has wrapped it.
            inputs: What the collator made.
            num_items_in_batch: Number of labels of accumulated batches, at least 1; not used. Default: None.
        """
        net, rule, loss = self._parts(model)
        net.train()
        rule.to(self.args.device)
        batch, index = self.sequences(self._prepare_inputs(inputs)), self.state.global_step
        clip = partial(self._clip_grad_norm, model) if self.args.max_grad_norm else None
        total = torch.zeros((), device=self.args.device)
        with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16):
            for update in stepped(
                net, rule, batch, loss, self.optimizer, index=index, clip=clip, batch_first=self.batch_first
            ):
                total += update.loss.to(total)
        return total

    @torch.no_grad()
    def prediction_step(
        self, model: nn.Module, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor, Any, Any]:
        """Return loss, outputs `[batch, time, *output]` and targets of a batch, for evaluation.

        Args:
            model: The model as the trainer has wrapped it.
            inputs: What the collator made.
            prediction_loss_only: True leaves out outputs and targets.
            ignore_keys: Names of outputs to leave out; not used. Default: None.
        """
        net, _, loss = self._parts(model)
        x, y = self.sequences(self._prepare_inputs(inputs))
        net, given = net.given(x, self.batch_first)
        run = net.start(given)
        output = run.advance(given)
        loss, target = fitted(loss, y, run.outputs, self.batch_first)
        value = loss(output, target, len(given))
        if prediction_loss_only:
            return value, None, None
        several = output if run.outputs is None else run.outputs.unpack(output)
        return value, tree_map(lambda part: part.transpose(0, 1), several), y

    def _parts(self, model: nn.Module) -> tuple[Network, Rule, Loss]:
        net = self.accelerator.unwrap_model(model)
        check_network(type(self).__name__, net)
        assert self.rule is not None and self.loss is not None  # the constructor has seen to it
        return net, self.rule, self.loss

    def _check(self) -> None:
        """Raise `ConfigError` for arguments of the trainer that do not go with a rule."""
        name, args = type(self).__name__, self.args
        check_network(name, self.model)
        if args.gradient_accumulation_steps != 1:
            raise ConfigError(
                f"{name} was given gradient_accumulation_steps={args.gradient_accumulation_steps}, but every update of "
                "a rule is a step of the optimizer. Use 1 and a larger batch, or sw.fit(accumulate=...)."
            )
        if args.fp16:
            raise ConfigError(
                f"{name} was given fp16=True, which scales losses, but updates of a rule are clipped and applied here "
                "without the scaler. Use bf16=True, or sw.fit(amp='float16')."
            )
        if args.n_gpu > 1:
            raise ConfigError(
                f"{name} was given {args.n_gpu} GPUs in one process, which nn.DataParallel copies the model to, past "
                "the run of a rule. Start one process for each: torchrun --nproc_per_node."
            )
        kind = str(self.accelerator.distributed_type).rpartition(".")[2]
        if present_ranks().world > 1 and not kind.startswith("MULTI"):
            raise ConfigError(
                f"{name} is trained by {present_ranks().world} processes as {kind}, whose parameters may be parts in "
                "each, so that gradients cannot be added up. Use plain data parallelism: torchrun without fsdp, "
                "deepspeed or parallelism_config."
            )
