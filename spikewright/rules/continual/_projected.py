"""The base of rules that keep gradients orthogonal to the inputs of earlier tasks."""

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor, nn

from spikewright._util.ranges import check_choice
from spikewright.errors import IncompatibleRule
from spikewright.metrics.operations import Operations
from spikewright.network import Network
from spikewright.network.form import Input
from spikewright.network.sites import Sites
from spikewright.network.wiring import Wiring, module_name
from spikewright.rules._base import Rule, Update
from spikewright.rules._batch import Batch
from spikewright.rules._check import check_network
from spikewright.rules._cost import Cost, Done, is_bias
from spikewright.rules.continual._around import ContinualRule, is_in
from spikewright.rules.continual._kept import Aside, Subspaces
from spikewright.rules.continual._protected import owners, protected_weights
from spikewright.rules.continual.subspaces import Lateral, Rows, Subspace
from spikewright.rules.continual.subspaces.input_recorder import Form, InputRecorder, Observe


class ProjectedRule(ContinualRule):
    """Base of rules that keep the gradients of another rule orthogonal to the inputs that weights had in earlier tasks.

    From the second task on nothing but protected weights may change: `freeze` makes it so, and learning is refused
    otherwise.  The steps of the optimizer have to stay in the span of the gradients: `check_optimizer` checks that.  A
    subclass implements `learn_rows` and `end_task`.

    Args:
        rule: The rule that finds the gradients, a `Rule` that is not continual itself.
        free: Names of modules that are not protected, such as heads that serve one task; a name includes the modules
            inside.
        observe: What rows are learned from: "mean", the mean over time of what weight gradients are taken at; or
            "steps", what is transmitted, and what gradients are taken at, at every step.  Default: "mean".
        project: What is projected: "inputs", what weight gradients are taken at; "gradient", finished gradients; or
            "auto", whichever takes fewer multiplications.  Default: "auto".
        lateral: Neurons that the rows lead to, a `spikewright.rules.continual.subspaces.Lateral`: linear, or signed
            bursts.  Default: Lateral(), linear.

    Raises:
        ConfigError: `observe` or `project` is unknown; `rule` is a continual rule itself.
        IncompatibleRule: `project="inputs"` with a rule that finds its gradients by itself.
    """

    def __init__(
        self,
        rule: Rule,
        free: Collection[str],
        observe: Observe = "mean",
        project: Form = "auto",
        lateral: Lateral = Lateral(),  # noqa: B008  (a frozen value)
    ) -> None:
        super().__init__(rule, True, free)
        check_choice(type(self).__name__, "observe", observe, get_args(Observe))
        check_choice(type(self).__name__, "project", project, get_args(Form))
        if rule.traits.gradients == "own" and project == "inputs":
            raise IncompatibleRule(
                f"{type(self).__name__}(project='inputs') projects what weight gradients are taken at, but {rule} "
                "finds its gradients by itself, not in the backward pass of the layers. Use project='gradient'."
            )
        self.traits = replace(self.traits, by_layer=True)
        self.observe: Observe = observe
        self.project: Form = project
        self.lateral = lateral
        self.subspaces = Subspaces(lateral)

    @abstractmethod
    def learn_rows(self, arrived: Mapping[str, Rows]) -> None:
        """Learn from the inputs of weights in one update.

        Args:
            arrived: Rows of input, by the name of the weight's module.
        """

    def prepare(self, net: Network, x: Input) -> None:
        check_network(type(self).__name__, net)
        net, x = net.given(x)
        if not len(self.subspaces):
            for name, weight in self.protected(net, x).items():
                self.subspaces.add(name, weight[0].numel(), weight)
        super().prepare(net, x)

    def protected(self, net: Network, x: Tensor) -> dict[str, nn.Parameter]:
        """Return the weights that subspaces protect, by the name of their module, the first if several share it.

        Args:
            net: The network.
            x: Input, `[time, batch, *feature]`, of any length.
        """
        wiring = net.wiring(x)
        return {name: weight for weight, name in _first(self._weights(wiring, wiring.sites)).items()}

    def owners(self, sites: Sites) -> dict[str, str]:
        """Return, for every module that has a protected weight, the name of that weight's subspace.

        Args:
            sites: Layers of the network.
        """
        return owners(self.subspaces.by_name(), sites)

    def _weights(self, wiring: Wiring, sites: Sites) -> dict[str, nn.Parameter]:
        """Return the protected weight of every module that has one."""
        return protected_weights(type(self).__name__, wiring, sites, self.free)

    def _held(self, sites: Sites) -> Iterator[str]:
        kept = {id(sites.synapses[name].weight) for name in self.owners(sites)}
        for name, parameter in sites.module.named_parameters():
            if id(parameter) not in kept and not is_in(name.rpartition(".")[0], self.free):
                yield name

    def check_task(self, wiring: Wiring, sites: Sites) -> None:
        super().check_task(wiring, sites)
        self._weights(wiring, sites)

    def check_optimizer(self, optimizer: torch.optim.Optimizer, task: int | None = None) -> None:
        """Raise `IncompatibleRule` unless the steps of an optimizer stay in the span of the gradients.

        Call it when a task begins: momentum of an earlier task would continue along directions that are now protected.

        Args:
            optimizer: The optimizer as it is when the task begins.
            task: Number of the task.  At least 1.  Default: None, the current one.
        """
        task = int(self.task) if task is None else task
        if task < 2:
            return
        name, reason = type(optimizer).__name__, ""
        if not isinstance(optimizer, torch.optim.SGD):
            reason = "scales the entries of a gradient by themselves"
        elif any(group["weight_decay"] for group in optimizer.param_groups):
            reason = "shrinks weights in all directions by weight decay"
        elif any("momentum_buffer" in state for state in optimizer.state.values()):
            reason = "carries momentum of an earlier task"
        if reason:
            raise IncompatibleRule(
                f"{type(self).__name__} keeps the gradients of task {task} orthogonal to the inputs of earlier ones, "
                f"but {name} {reason}, and so moves what has been learned there. Make a new torch.optim.SGD without "
                "weight decay for every task."
            )

    def learn(self, batch: Batch) -> Iterator[Update]:
        x, sites = batch.x, batch.wiring.sites
        modules = self.owners(sites)
        kept = {name: sites.synapses[name].weight for name in dict.fromkeys(modules.values())}
        weights = {name: w for name, w in kept.items() if isinstance(w, nn.Parameter) and w.requires_grad}
        recorder = InputRecorder(
            self.subspaces.by_name(),
            weights,
            modules,
            observe=self.observe,
            form="gradient" if self.traits.gradients == "own" else self.project,
            per_sample=self.traits.gradient_rows or len(x),
            whole=not self.lateral.linear,
        )
        grads = Aside(weights, self.subspaces)
        try:
            for update in self.rule.learn(replace(batch, around=recorder)):
                grads.bring_back(recorder.projected_inputs)
                self.learn_rows(recorder.arrived())
                yield update
                grads = Aside(weights, self.subspaces)
        finally:
            grads.bring_back(weights)

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        layers = {module_name(synapse.name) for synapse in wiring.synapse_of(parameter)}  # several may share a weight
        closed = parameter.endswith("weight") and any(
            n in self.subspaces and len(self.subspaces[n].old) for n in layers
        )
        return not closed and super().exact(parameter, wiring, steps)

    def cost(self, done: Done) -> Cost | None:
        inner, own, synapses = self.rule.cost(done), 0.0, done.wiring.synapses
        for site, work in done.work.items():
            if done.learns(site) and (subspace := self._subspace_at(site, done.wiring)) is not None:
                products = subspace.products + self.products(subspace)
                own += work.dense / synapses[site].weight[0] * products
        return None if inner is None else inner + Cost(Operations(0, own), 0)

    def _subspace_at(self, site: str, wiring: Wiring) -> Subspace | None:
        """Return the subspace of the weight of a layer, stored under its name or that of a layer that shares it."""
        mine, kept = wiring.synapses[site].parameters, self.subspaces.by_name()
        for other, synapse in wiring.synapses.items():
            shared = [name for name in synapse.parameters if name in mine and not is_bias(name)]
            if shared and module_name(other) in kept:
                return kept[module_name(other)]
        return None

    def products(self, subspace: Subspace) -> int:
        """Return the number of multiplications that learning takes per entry of a row, at most.

        Args:
            subspace: The rows of one weight.
        """
        return 0

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, observe={self.observe!r}, project={self.project!r}"


def _first(weights: Mapping[str, nn.Parameter]) -> dict[nn.Parameter, str]:
    """Return for every weight the name of the first module that has it."""
    first: dict[nn.Parameter, str] = {}
    for name, weight in weights.items():
        first.setdefault(weight, name)
    return first
