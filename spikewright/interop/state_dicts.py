"""State dicts of models of other libraries, loaded into the module here that has the same structure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from spikewright._util.arguments import shown
from spikewright._util.ranges import check_choice, check_instance
from spikewright._util.text import aligned, kind_of
from spikewright.errors import ConfigError, NetworkError
from spikewright.interop.stored_checks import check_first, check_together
from spikewright.interop.stored_constants import LIBRARIES, STORED, UNSTORED, Library, converted
from spikewright.interop.stored_loading import Plan, planned
from spikewright.interop.stored_names import Groups, matched
from spikewright.interop.stored_undo import all_or_nothing
from spikewright.network import Network
from spikewright.neurons import Neuron


@dataclass(frozen=True)
class LoadedRow:
    """One entry of a state dict.

    Attributes:
        theirs: Its name there.
        ours: Name of the parameter, buffer or constant here; "" if it is not loaded.
        how: Relation of both, in words.
    """

    theirs: str
    ours: str
    how: str


@dataclass(frozen=True)
class Loaded:
    """What was loaded from a state dict of another library.

    Attributes:
        rows: One per entry, in the order of the state dict.
        unstored: What the numbers do not say, so that the neurons have to be made with it.
        neurons: Neurons here of which the state dict says nothing, by name.
    """

    rows: tuple[LoadedRow, ...]
    unstored: str
    neurons: tuple[str, ...]

    def table(self) -> str:
        """Return the rows as aligned text, and below them what is not stored."""
        text = aligned([("theirs", "here", ""), *((row.theirs, row.ours or "-", row.how) for row in self.rows)])
        untold = f"nothing is stored of {', '.join(self.neurons)}" if self.neurons else ""
        return "\n".join(part for part in (text, untold, self.unstored) if part)


@torch.no_grad()
def load_state_dict(
    net: Network | nn.Module,
    state_dict: Mapping[str, Tensor],
    *,
    library: Library,
    names: Mapping[str, str] | None = None,
) -> Loaded:
    """Load the state dict of a model of another library into a module of the same structure with neurons from here.

    Weights, biases and statistics of norms are copied by name. Constants of neurons are converted: trained ones into
    the parameter here, others into the neuron. Where the names of modules differ, layers and neurons are matched in
    their order, if their shapes fit one to one. Either all is loaded, or an error is raised and nothing is changed.
    Several values of one constant broadcast over the last axes there, and so they do here: `[n]` becomes `[1, n]`,
    because one axis stands for channels here. A constant that is trained here needs such a shape.
    What a state dict does not say, such as the kind of reset, the neurons have to be made with; `Loaded.unstored`
    names it.

    Args:
        net: The network, or its plain module. It is changed in place.
        state_dict: State dict of the other model. Tensors by name.
        library: Library of the other model: "spikingjelly", "snntorch", "sinabs" or "norse".
        names: Names of modules here by the names of theirs, where neither names nor order fit. Default: None.

    Returns:
        What was loaded, one row per entry.

    Raises:
        ConfigError: `library` is unknown, or an argument is of another kind.
        NetworkError: An entry has no place here, or a parameter here has none there; shapes differ; a constant is out
            of its range here; a neuron here has other constants, which cannot be set because further ones may depend
            on them; or it has what theirs, by all of its entries, does not have.

    Examples:
        >>> import torch, spikewright as sw
        >>> module = torch.nn.Sequential(torch.nn.Linear(1, 1), sw.LIF(reset="late", strict=True))
        >>> theirs = {"0.weight": torch.ones(1, 1), "0.bias": torch.zeros(1), "1.beta": torch.tensor(0.75)}
        >>> print(sw.interop.load_state_dict(module, theirs, library="snntorch").table())  # doctest: +ELLIPSIS
        theirs    here
        0.weight  0.weight  copied
        0.bias    0.bias    copied
        1.beta    1         leak = beta, within [0, 1]
        inhibition and state_quant (no equal here), reset_delay (True, the default, is reset='late' here; ...
        >>> module[1].tau
        4.0
    """
    check_choice("load_state_dict", "library", library, LIBRARIES)
    check_instance("load_state_dict", "net", net, nn.Module, "nn.Sequential(nn.Linear(4, 8), sw.LIF())")
    if not isinstance(state_dict, Mapping) or not all(isinstance(value, Tensor) for value in state_dict.values()):
        raise ConfigError(
            f"load_state_dict was given {type(state_dict).__name__}, and not tensors by name. Give model.state_dict(), "
            "or what torch.load(path, weights_only=True) returns; a checkpoint of more has it under a key."
        )
    _check_values(state_dict)
    _check_names(names)
    module = net.module if isinstance(net, Network) else net
    _check_known_sizes(module)
    places = matched(module, Groups.of(state_dict, STORED[library]), names or {})
    loading = _Loading(module, library)
    for prefix, place in places.items():
        entries = {key.rpartition(".")[2]: key for key in state_dict if key.rpartition(".")[0] == prefix}
        loading.add(prefix, place, {leaf: (key, state_dict[key]) for leaf, key in entries.items()})
    rows = tuple(loading.rows[key] for key in state_dict)
    _check_filled(module, {row.ours for row in rows} | {row.ours + "." for row in rows if row.ours})
    all_or_nothing(module, [*loading.plans, partial(_gather, module)])
    told = {row.ours for row in rows}
    untold = [name for name, part in module.named_modules() if isinstance(part, Neuron) and name not in told]
    return Loaded(rows, UNSTORED[library], tuple(untold))


class _Loading:
    """Rows of entries, and what loads them.

    Args:
        module: The module here.
        library: Library of the other model.
    """

    def __init__(self, module: nn.Module, library: Library) -> None:
        self.module = module
        self.library: Library = library
        self.rows: dict[str, LoadedRow] = {}
        self.plans: list[Plan] = []

    def add(self, prefix: str, place: str, entries: Mapping[str, tuple[str, Tensor]]) -> None:
        """Add the entries of one module of theirs, by their names in it, with their names in the state dict."""
        part = self.module.get_submodule(place)
        if isinstance(part, Neuron):
            self._neuron(prefix, place, part, entries)
            return
        for leaf, (key, value) in entries.items():
            self._copied(place, part, leaf, key, value)

    def _neuron(self, prefix: str, place: str, neuron: Neuron, entries: Mapping[str, tuple[str, Tensor]]) -> None:
        known = STORED[self.library]
        for leaf, (key, _) in entries.items():
            if leaf not in known:
                raise NetworkError(
                    f"'{key}' of the state dict belongs to '{place}', which is {type(neuron).__name__} here, but what "
                    f"it stands for is not known of {self.library}; known are {', '.join(known) or 'no constants'}. "
                    "Use a neuron here that has it, and take the entry out of the state dict when it was made with its "
                    "value."
                )
        values = {leaf: value.detach().double().cpu() for leaf, (_, value) in entries.items()}
        found = converted(self.library, values)
        check_together(place, neuron, prefix, self.library, found)
        follows = any(stored.kind == "gain" for stored, _ in found.values())
        for leaf, (stored, value) in found.items():
            key = entries[leaf][0]
            self.plans.append(planned(place, neuron, key, stored.kind, value, follows))
            self.rows[key] = LoadedRow(key, "" if stored.kind == "state" else place, stored.equation)

    def _copied(self, place: str, part: nn.Module, leaf: str, key: str, value: Tensor) -> None:
        own = {**part._parameters, **part._buffers}.get(leaf)
        name = f"{place}.{leaf}" if place else leaf
        if own is None:
            raise NetworkError(
                f"'{key}' of the state dict has no place: '{place}' is {type(part).__name__} here, without '{leaf}'. "
                "Build the same layers, with bias=False where theirs has none, or give names={theirs: ours}."
            )
        if own.shape != value.shape:
            raise NetworkError(
                f"'{key}' of the state dict is {list(value.shape)}, but '{name}' here is {list(own.shape)}. Build the "
                "layer with the sizes of theirs."
            )
        if leaf == "bias":
            check_first(self.module, place, key, value, self.library)
        self.plans.append(partial(own.copy_, value))
        self.rows[key] = LoadedRow(key, name, "copied")


def _gather(module: nn.Module) -> None:
    """Move constants that were loaded to where the module is."""
    device = next((p.device for p in module.parameters()), None)
    for part in module.modules():
        if isinstance(part, Neuron) and device is not None:
            part.to(device)


def _check_values(state_dict: Mapping[str, Tensor]) -> None:
    for key, value in state_dict.items():
        if value.is_meta or value.is_complex() or value.layout != torch.strided:
            found = "without values (meta)" if value.is_meta else f"{value.dtype}, {value.layout}"
            raise ConfigError(
                f"load_state_dict was given '{key}' {found}, but parameters here are dense real numbers. Give "
                "tensors with values, such as those of torch.load(path, weights_only=True, map_location='cpu')."
            )


def _check_names(names: object) -> None:
    if names is None:
        return
    if not isinstance(names, Mapping) or not all(isinstance(text, str) for pair in names.items() for text in pair):
        raise ConfigError(
            f"load_state_dict(names={shown(names)}) was given {kind_of(names)}, but names says which module here each "
            "module of theirs is, as texts. Give a dictionary such as names={'fc1': '0'}."
        )


def _check_known_sizes(module: nn.Module) -> None:
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if nn.parameter.is_lazy(value):
            raise NetworkError(
                f"load_state_dict was given a module whose '{name}' has no size yet, so that nothing can be copied "
                "into it. Run the network on one input first, or use layers with sizes."
            )


def _check_filled(module: nn.Module, filled: Iterable[str]) -> None:
    """Raise `NetworkError` if a parameter or buffer here gets nothing; those of neurons are their own constants."""
    neurons = {name for name, part in module.named_modules() if isinstance(part, Neuron)}
    empty = [name for name in module.state_dict() if name not in filled and name.rpartition(".")[0] not in neurons]
    if empty:
        raise NetworkError(
            f"The state dict has nothing for {', '.join(map(repr, empty))}, which would stay as they were made. Leave "
            "these layers or biases out, or give names={theirs: ours} where modules are called otherwise."
        )
