"""Which weights subspaces protect, and what would change them unseen."""

from collections.abc import Collection, Iterable, Iterator

from torch import nn

from spikewright._util.real_numbers import check_real
from spikewright.errors import IncompatibleRule
from spikewright.network.sites import Sites
from spikewright.network.wiring import Wiring, module_name
from spikewright.rules.continual._around import is_in


def protected_weights(rule: str, wiring: Wiring, sites: Sites, free: Collection[str]) -> dict[str, nn.Parameter]:
    """Return the protected weight of every module that has one.

    Args:
        rule: Name of the rule.
        wiring: Wiring of the network.
        sites: Layers of the network.
        free: Names of modules that are not protected.

    Raises:
        IncompatibleRule: A weight has no directions to protect, or an input that is not seen.
    """
    called = list(dict.fromkeys(map(module_name, wiring.synapses)))
    weights = {name: synapse_weight(name, sites.synapses[name]) for name in called if not is_in(name, free)}
    names = {id(p): name for name, p in sites.module.named_parameters()}
    free_ones = {id(w): name for name in called if is_in(name, free) for w in _weight(sites.synapses[name])}
    for weight in weights.values():
        name, mine = names[id(weight)], [n for n, w in weights.items() if w is weight]
        if not weight.requires_grad or wiring.recomputed.intersection(mine):  # a run says of these that it cannot look
            continue
        if name in wiring.outside | wiring.read_outside:
            raise IncompatibleRule(
                f"{rule} keeps '{name}' orthogonal to what arrives at its layer, but the network also uses it outside "
                "of a layer (F.linear(x, layer.weight), a transposed or tied weight; without a gradient too, such as "
                "layer.weight.detach(), a copy, or a number computed from it), where what arrives is not seen, so that "
                "later tasks would move what earlier ones have learned there. Call the layer there, or one of the same "
                "kind that shares the weight (other.weight = layer.weight); freeze the weight (requires_grad_(False)); "
                f"or use free={_tuple(mine)}, and know that it may forget."
            )
        if disordered := sorted(wiring.disordered.intersection(mine)):
            raise IncompatibleRule(
                f"{rule} keeps '{name}' orthogonal to the mean over time of what arrives at its layer, but the rows "
                f"that '{disordered[0]}' is given are not those of steps and samples in order (another axis first, "
                "rows side by side or reversed, or none of the input), so that the steps of a sample cannot be told "
                "apart. Keep the first axis first, and fold others behind it (flatten(0, 1)); or use "
                f"free={_tuple(mine)}, and know that it may forget."
            )
        if id(weight) in free_ones:
            raise IncompatibleRule(
                f"{rule} keeps '{name}' orthogonal to what arrives at '{mine[0]}', but '{free_ones[id(weight)]}', "
                "which shares it, is free and would move it. Leave out all layers that share a weight, or none: use "
                f"free={_tuple([*free, *mine])}, and know that they may forget."
            )
    return weights


def owners(kept: Iterable[str], sites: Sites) -> dict[str, str]:
    """Return, for every module that shares the weight of a kept one, the name of the kept one."""
    first = {id(w): name for name in kept if name in sites.synapses for w in _weight(sites.synapses[name])}
    modules = ((name, w) for name, module in sites.synapses.items() for w in _weight(module))
    return {name: first[id(w)] for name, w in modules if id(w) in first}


def _weight(module: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the weight of a layer if it is a parameter; a computed weight is not computed here."""
    weight = module._parameters.get("weight")
    if weight is not None:
        yield weight


def _tuple(names: Iterable[str]) -> str:
    return str(tuple(dict.fromkeys(names)))


def synapse_weight(name: str, module: nn.Module) -> nn.Parameter:
    """Return the weight of a layer whose gradient is that of rows or patches of its input.

    Args:
        name: Name of the layer.
        module: The layer.

    Raises:
        IncompatibleRule: It has no such weight.
    """
    weight = getattr(module, "weight", None)
    advice = f"Use free=('{name}',), and know that it may forget."
    if getattr(module, "transposed", False):
        raise IncompatibleRule(
            f"'{name}' is a transposed convolution, which spreads an input instead of gathering a patch, so that there "
            f"are no directions of patches to protect. {advice}"
        )
    if not isinstance(weight, nn.Parameter):
        raise IncompatibleRule(f"'{name}' has no weight of its own, but one that is computed. {advice}")
    why = "protects directions of real inputs"
    check_real("A rule that projects gradients", f"the weight of '{name}'", weight, why, advice)
    return weight
