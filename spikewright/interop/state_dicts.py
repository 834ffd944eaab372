"""State dicts of models of other libraries, loaded into the module here that has the same structure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from spikewright._util.ranges import check_choice, check_instance
from spikewright._util.text import aligned
from spikewright.errors import ConfigError, NetworkError
from spikewright.interop.stored_constants import LIBRARIES, STORED, UNSTORED, Library, planned
from spikewright.interop.stored_names import Groups, matched
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
        NetworkError: An entry has no place here, or a parameter here has none there; shapes differ; or a neuron here
            has other constants, which cannot be set because further ones may depend on them.

    Examples:
        >>> import torch, spikewright as sw
        >>> module = torch.nn.Sequential(torch.nn.Linear(1, 1), sw.LIF(reset="late", strict=True))
        >>> theirs = {"0.weight": torch.ones(1, 1), "0.bias": torch.zeros(1), "1.beta": torch.tensor(0.75)}
        >>> print(sw.interop.load_state_dict(module, theirs, library="snntorch").table())
        theirs    here
        0.weight  0.weight  copied
        0.bias    0.bias    copied
        1.beta    1         leak = beta, within [0, 1]
        reset_delay and the comparison (fires above the threshold) are not stored
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
    module = net.module if isinstance(net, Network) else net
    places = matched(module, Groups.of(state_dict, STORED[library]), names or {})
    rows, plans, filled = list[LoadedRow](), list[Callable[[], object]](), set[str]()
    for key, value in state_dict.items():
        prefix, _, leaf = key.rpartition(".")
        row, plan = _entry(module, key, value, places[prefix], leaf, library)
        rows.append(row)
        plans.append(plan)
        filled |= {row.ours, row.ours + "." if row.ours else ""}
    _check_filled(module, filled)
    for plan in plans:
        plan()
    told = {row.ours for row in rows}
    untold = [name for name, part in module.named_modules() if isinstance(part, Neuron) and name not in told]
    return Loaded(tuple(rows), UNSTORED[library], tuple(untold))


def _entry(
    module: nn.Module, key: str, value: Tensor, place: str, leaf: str, library: Library
) -> tuple[LoadedRow, Callable[[], object]]:
    """Return the row of an entry, and what loads it."""
    part = module.get_submodule(place)
    if isinstance(part, Neuron):
        stored = STORED[library].get(leaf)
        if stored is None:
            raise NetworkError(
                f"'{key}' of the state dict belongs to '{place}', which is {type(part).__name__} here, but what it "
                f"stands for is not known of {library}; known are {', '.join(STORED[library]) or 'no constants'}. Use "
                "a neuron here that has it, and take the entry out of the state dict when it was made with its value."
            )
        if stored.kind == "state":
            return LoadedRow(key, "", stored.equation), lambda: None
        ours = stored.ours(value.detach().double().cpu())
        return LoadedRow(key, place, stored.equation), planned(place, part, key, stored.kind, ours)
    own = {**part._parameters, **part._buffers}.get(leaf)
    name = f"{place}.{leaf}" if place else leaf
    if own is None:
        raise NetworkError(
            f"'{key}' of the state dict has no place: '{place}' is {type(part).__name__} here, without '{leaf}'. Build "
            "the same layers, with bias=False where theirs has none, or give names={theirs: ours}."
        )
    if own.shape != value.shape:
        raise NetworkError(
            f"'{key}' of the state dict is {list(value.shape)}, but '{name}' here is {list(own.shape)}. Build the "
            "layer with the sizes of theirs."
        )
    return LoadedRow(key, name, "copied"), lambda: cast(Tensor, own).copy_(value)


def _check_filled(module: nn.Module, filled: Iterable[str]) -> None:
    """Raise `NetworkError` if a parameter or buffer here gets nothing; those of neurons are their own constants."""
    neurons = {name for name, part in module.named_modules() if isinstance(part, Neuron)}
    empty = [name for name in module.state_dict() if name not in filled and name.rpartition(".")[0] not in neurons]
    if empty:
        raise NetworkError(
            f"The state dict has nothing for {', '.join(map(repr, empty))}, which would stay as they were made. Leave "
            "these layers or biases out, or give names={theirs: ours} where modules are called otherwise."
        )
