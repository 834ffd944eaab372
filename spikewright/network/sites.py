"""The places of a module that matter to a run, by name."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import MethodType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import AlphaDropout, FeatureAlphaDropout, _DropoutNd
from torch.nn.utils.parametrize import ParametrizationList

from spikewright._util.returned import described, wrong
from spikewright.errors import NetworkError, ShapeError
from spikewright.layers.delay import SynapticDelay
from spikewright.layers.feedback import Feedback
from spikewright.layers.own_forward import PLAIN, has_own_forward
from spikewright.layers.recurrent import Recurrent
from spikewright.network.foreign import check_foreign
from spikewright.network.form import Form, Inputs, is_several, packed
from spikewright.network.patched_forwards import unpatched
from spikewright.neurons import Dynamics, Neuron
from spikewright.temporal import Temporal


@dataclass(frozen=True)
class Sites:
    """What a run answers for.

    Attributes:
        module: The whole.
        temporal: Modules that see time: neurons, dropout, batch norm, feedback; by name.
        synapses: Recognised parametric layers: linear and convolution layers and their subclasses; by name.
        sources: The module whose output each feedback connection sends back, by the connection's name.
        parametrizations: What computes each parametrized weight; by name.
        identities: Of all modules.
        containers: Names of modules of a run that hold other ones.
        inputs: Form of several tensors that the module takes, which come packed as one; `None` for one tensor.
    """

    module: nn.Module
    temporal: dict[str, nn.Module]
    synapses: dict[str, nn.Module]
    sources: dict[str, nn.Module]
    parametrizations: dict[str, nn.Module]
    identities: frozenset[int]
    containers: frozenset[str]
    inputs: Inputs | None = None

    def call(self, x: Tensor) -> tuple[Tensor, Form | None]:
        """Return what the module makes of rows `[rows, *feature]`, packed if it is several tensors, and its form.

        Raises:
            NetworkError: It returns something else, or not a row for every row.
        """
        module = self.module
        output: Any = module(x) if self.inputs is None else self.inputs.call(module, x)
        form = None
        if is_several(output):
            try:
                output, form = packed("the output", output, 1, "[rows]")
            except ShapeError as error:
                raise NetworkError(f"{type(module).__name__}.forward returned several tensors, but {error}") from error
        if isinstance(output, Tensor) and output.dim() and len(output) == len(x):
            return output, form
        found = list(output.shape) if isinstance(output, Tensor) else described(output)
        raise NetworkError(
            f"{type(module).__name__}.forward returned {found} for {len(x)} rows (steps and samples, folded). A "
            "network returns a tensor, or a tuple, list or dictionary of tensors, and keeps the first axis. Select "
            "such an output inside forward, and do not reduce over the batch."
        )

    @property
    def whole_sequence(self) -> dict[str, nn.Module]:
        """Modules whose training statistics need all steps at once, by name."""
        temporal = self.temporal.items()
        return {name: m for name, m in temporal if isinstance(m, Temporal) and m.whole_sequence and m.training}

    @property
    def recurrent(self) -> bool:
        """Whether some connection needs the last step's output, so that steps run one by one."""
        return bool(self.sources)


def find_sites(module: nn.Module, inputs: Inputs | None = None) -> Sites:
    """Find the sites of a module.

    Args:
        module: The module.
        inputs: Form of several tensors that it takes.  Default: None, one tensor.

    Raises:
        NetworkError: There is no neuron in it, or a part of it cannot be run over time.
    """
    if type(module).__name__ == "OptimizedModule":
        raise NetworkError(
            "Network was given a compiled module. Its neurons are answered for while it runs, which would force a new "
            "compilation at every call. Pass the plain module, and compile the stateless blocks inside it instead."
        )
    named = dict(module.named_modules())
    for name, m in named.items():
        check_name(name, m)
        check_foreign(name, m)
        check_forward(name, m)
    if not any(isinstance(m, Neuron) for m in named.values()):
        raise NetworkError(
            f"Network was given {type(module).__name__} with no spiking neuron in it, so there is nothing to run over "
            "time. Put spikewright.LIF() or spikewright.IF() where the activations are."
        )
    for name, m in named.items():
        if isinstance(m, AlphaDropout | FeatureAlphaDropout):
            raise NetworkError(
                f"'{name}' is {type(m).__name__}, which is not a multiplication by a mask, so one mask cannot be kept "
                "for the sequence. Use nn.Dropout or spikewright.layers.StepDropout."
            )
    temporal: dict[str, nn.Module] = {
        name: m for name, m in named.items() if isinstance(m, Temporal | _BatchNorm | _DropoutNd)
    }
    synapses: dict[str, nn.Module] = {name: m for name, m in named.items() if isinstance(m, nn.Linear | _ConvNd)}
    return Sites(
        module=module,
        temporal=temporal,
        synapses=synapses,
        sources={name: _source(named, name, m) for name, m in named.items() if isinstance(m, Feedback)},
        parametrizations={name: m for name, m in named.items() if isinstance(m, ParametrizationList)},
        identities=frozenset(map(id, named.values())),
        containers=_containers({**temporal, **synapses}),
        inputs=inputs,
    )


_BESIDE_SCAN = {m.forward for m in (nn.Module, Neuron, SynapticDelay, Feedback, Recurrent)} | PLAIN
"""Forwards that say nothing about what happens in a run."""


def check_name(name: str, module: nn.Module) -> None:
    """Raise `NetworkError` if the name of a module reads as that of a repeated call."""
    if "#" in name:
        raise NetworkError(
            f"'{name}' ({type(module).__name__}) has a '#' in its name, which stands for repeated calls of a module "
            "('lif#2'). Use another name."
        )


def check_forward(name: str, module: nn.Module) -> None:
    """Raise `NetworkError` if a module has a forward that a run would never call, because it calls its scan.

    Args:
        name: Of the module.
        module: A part of a network.
    """
    if not isinstance(module, Temporal):
        return
    forward = unpatched(module)
    if has_own_forward(module, forward, default=True):  # which is run, once
        return
    if isinstance(forward, MethodType) and forward.__func__ in _BESIDE_SCAN:
        return
    replaced = getattr(forward, "__func__", None) is not type(module).forward
    found = "whose forward was replaced" if replaced else "which has a forward of its own"
    raise NetworkError(
        f"'{name}' is {type(module).__name__}, a module with a scan, {found}. A run hands whole chunks of time to the "
        "scan and would never call that forward. Put what it does into scan, or into a module in front of it or "
        "behind it."
    )


def check_dynamics(sites: Sites) -> None:
    """Raise `ExtensionError` if a custom neuron declares something else than `Dynamics`."""
    for module in sites.temporal.values():
        if isinstance(module, Neuron) and not isinstance(module.dynamics, Dynamics):
            raise wrong(module, "dynamics", "a spikewright.Dynamics", module.dynamics)


def _containers(named: dict[str, nn.Module]) -> frozenset[str]:
    known = {id(m) for m in named.values()}
    return frozenset(name for name, m in named.items() if any(id(inner) in known for inner in _inner(m)))


def _inner(module: nn.Module) -> Iterator[nn.Module]:
    return (m for child in module.children() for m in child.modules())


def _source(named: dict[str, nn.Module], name: str, feedback: Feedback) -> nn.Module:
    source = feedback.source
    if isinstance(source, str) and source in named:
        return named[source]
    if isinstance(source, nn.Module) and any(source is m for m in named.values()):
        return source
    shown = f"'{source}'" if isinstance(source, str) else type(source).__name__
    raise NetworkError(
        f"Feedback '{name}' takes its signal from {shown}, but the network has no such module. Give the module itself, "
        "or its name as in named_modules()."
    )
