"""Records the inputs of weights while a rule learns, and projects what gradients are taken at."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from spikewright._util.leaves import leaves
from spikewright.errors import IncompatibleRule
from spikewright.network.hooks import Hooks
from spikewright.network.wiring import module_name
from spikewright.rules.continual.subspaces.mean_input import MeanInput
from spikewright.rules.continual.subspaces.projected_rows import ProjectedRows
from spikewright.rules.continual.subspaces.rows import Rows
from spikewright.rules.continual.subspaces.subspace import Subspace
from spikewright.synapses.operations import Linear, Operation
from spikewright.synapses.synapse import SynapticInput
from spikewright.temporal import SiteState, is_static

Observe = Literal["mean", "steps"]
Form = Literal["auto", "inputs", "gradient"]


class InputRecorder:
    """Wraps the hooks of a rule during one update: records the inputs of weights, and projects their gradients.

    Args:
        subspaces: Subspaces of the protected weights, by the name of their module.
        weights: The protected weights that learn, by the same names.
        owners: By the name of every module that has one of them, the name it is stored under.
        observe: What rows are: "mean", the mean over time of what weight gradients are taken at; or "steps", what is
            transmitted and what gradients are taken at, at every step.
        form: "inputs" projects what gradients are taken at, "gradient" leaves projection to the owner of the finished
            gradient, "auto" takes the one with fewer multiplications.
        per_sample: Number of rows of every sample that a gradient is taken at, at a linear layer of vectors.  At least
            1.
        whole: If True, keep all rows.
    """

    def __init__(
        self,
        subspaces: Mapping[str, Subspace],
        weights: Mapping[str, nn.Parameter],
        owners: Mapping[str, str],
        observe: Observe,
        form: Form,
        per_sample: int,
        whole: bool,
    ) -> None:
        self._subspaces, self._weights, self._owners = subspaces, weights, owners
        self._observe, self._form, self._per_sample, self._whole = observe, form, per_sample, whole
        self._rows: dict[str, Rows] = {}
        self._means: dict[str, MeanInput] = {}
        self._projected: dict[str, ProjectedRows] = {}
        self._projected_inputs: dict[str, bool] = {}

    @property
    def projected_inputs(self) -> set[str]:
        """Names of the weights whose gradients are already projected."""
        return {name for name, done in self._projected_inputs.items() if done}

    def __call__(self, hooks: Hooks) -> Hooks:
        """Return hooks that call those of a rule and record."""
        return _RecordingHooks(self, hooks)

    def see(self, site: str, operation: Operation, arrival: SynapticInput, weight: Tensor) -> SynapticInput:
        """Record the input of a layer; return it, with a projection for its gradient if inputs are projected."""
        name = self._owners.get(module_name(site), "")
        if not torch.is_grad_enabled():
            return arrival
        if name not in self._weights:
            self._check_apart(site, weight)
            return arrival
        if weight is not self._weights[name]:
            raise IncompatibleRule(
                f"'{name}' computes its weight from parameters (weight standardisation, or another parametrisation). A "
                "step of these that is orthogonal to old inputs is not a step of the weight that is. Use plain layers, "
                f"or leave '{name}' unprotected with free=('{name}',)."
            )
        subspace = self._subspaces[name]
        if len(subspace.new):
            self._take_down(site, name, operation, arrival, weight)
        if name not in self._projected_inputs:  # the same at all calls
            self._projected_inputs[name] = bool(len(subspace.old)) and self._projects_inputs(
                operation, arrival.value, weight
            )
        if not self._projected_inputs[name]:
            return arrival
        if not (isinstance(operation, Linear) and subspace.lateral.linear):
            return replace(arrival, project=subspace.project)
        projected = self._projection(site, subspace, _factor(arrival))
        if site in self._means:
            self._means[site].follow(projected, len(arrival.value))
        return replace(arrival, project=projected)

    def _check_apart(self, site: str, weight: Tensor) -> None:
        """Raise `IncompatibleRule` if the weight of an unprotected layer is computed from a protected one."""
        found = {id(leaf) for leaf in leaves(weight)}
        for name, kept in self._weights.items():
            if id(kept) in found:
                raise IncompatibleRule(
                    f"'{module_name(site)}' is not protected, but its weight is computed from that of '{name}', which "
                    "is, and its inputs, along which that would change, are not seen. Give it a weight of its "
                    f"own, freeze that of '{name}' (requires_grad_(False)), or leave '{name}' unprotected "
                    f"too, with free=('{name}', ...)."
                )

    def arrived(self) -> dict[str, Rows]:
        """Return the inputs of each weight since the last call."""
        for site, mean in self._means.items():
            self._of(self._owners[module_name(site)], mean.weight).add(mean.patches, projected=mean.projected)
        rows, self._rows, self._means = self._rows, {}, {}
        return rows

    def _take_down(self, site: str, name: str, operation: Operation, arrival: SynapticInput, weight: Tensor) -> None:
        with torch.no_grad():
            value, factor = arrival.value.detach(), _factor(arrival)
            if self._observe == "mean":
                self._means.setdefault(site, MeanInput(operation, weight)).add(factor)
                return
            rows = self._of(name, weight)
            for x in (value,) if arrival.presynaptic is None else (value, factor):
                once = x[:1] if is_static(x) else x
                rows.add(operation.patches(once.flatten(0, 1), weight), len(x) // len(once))

    def _projection(self, site: str, subspace: Subspace, x: Tensor) -> ProjectedRows:
        """Return what projects `x`: what did so at the last call, if this is the same step once more."""
        x = x[:1] if is_static(x) else x
        projected = self._projected.get(site)
        if projected is None or not projected.serves(x):
            projected = self._projected[site] = ProjectedRows(subspace, x)
        return projected

    def _of(self, name: str, weight: Tensor) -> Rows:
        return self._rows.setdefault(name, Rows(weight[0].numel(), self._whole))

    def _projects_inputs(self, operation: Operation, value: Tensor, weight: Tensor) -> bool:
        if self._form != "auto":
            return self._form == "inputs"
        if self._whole:
            return True
        exact = not torch.is_autocast_enabled(value.device.type)  # finished gradients are in full precision
        vectors = value[0].numel() // weight.shape[1]
        return exact and isinstance(operation, Linear) and vectors * self._per_sample < len(weight)


def _factor(arrival: SynapticInput) -> Tensor:
    """Return what the weight gradient is taken at, without graph."""
    return (arrival.value if arrival.presynaptic is None else arrival.presynaptic).detach()


class _RecordingHooks(Hooks):
    """Hooks of a rule, with a recorder at every weight."""

    def __init__(self, recorder: InputRecorder, hooks: Hooks) -> None:
        self._recorder, self._hooks = recorder, hooks
        self.on_current, self.on_spikes, self.on_output = hooks.on_current, hooks.on_spikes, hooks.on_output
        self.on_layer, self.on_scan = hooks.on_layer, hooks.on_scan

    def on_weight(
        self, site: str, operation: Operation, x: Tensor, weight: Tensor, carried: SiteState
    ) -> tuple[SynapticInput, SiteState]:
        arrival, carried = self._hooks.on_weight(site, operation, x, weight, carried)
        return self._recorder.see(site, operation, arrival, weight), carried
