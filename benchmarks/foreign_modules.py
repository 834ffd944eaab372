"""Which module classes of SpikingJelly, snnTorch, sinabs and Norse a network refuses, and which it takes.

    pip install spikingjelly==2.0.0 snntorch==1.0.0 norse==1.1.0 sinabs==3.1.3 nir==1.0.8 nirtorch==2.6 --no-deps
    pip install loguru h5py matplotlib pbr
    python benchmarks/foreign_modules.py

Every module class that the installed libraries define is put behind neurons, without being initialised: what is refused
is told by its class. The exit status is 1 if a base class of stateful modules, or one of its subclasses, is accepted.
"""

import argparse
import importlib
import inspect
import pkgutil
import sys
import warnings
from collections.abc import Iterator

from torch import nn

import spikewright as sw
from spikewright.errors import NetworkError

PACKAGES = (
    "spikingjelly.activation_based",
    "snntorch._neurons",
    "snntorch._layers",
    "sinabs.layers",
    "norse.torch.module",
)
STATEFUL = {"MemoryModule", "SpikingNeuron", "StatefulLayer", "SNN", "SNNCell", "SNNRecurrent", "SNNRecurrentCell"}
APART = (
    "examples",
    "model",
    "ann2snn",
    "distributed",
    "test",
    "memopt",
    "lynxi",
    "lava",
    "cuda",
    "precision",
    "op_counter",
)


def classes(package: str) -> Iterator[type[nn.Module]]:
    """Yield the module classes of a package that can be imported here."""
    root = importlib.import_module(package)
    found: dict[str, type[nn.Module]] = {}
    for info in pkgutil.walk_packages(root.__path__, f"{package}.", onerror=lambda _: None):
        if any(part.startswith(APART) for part in info.name.removeprefix(f"{package}.").split(".")):
            continue
        try:
            module = importlib.import_module(info.name)
        except Exception as error:  # whatever an optional dependency of theirs raises
            print(f"not imported: {info.name}: {type(error).__name__}: {error}"[:160])
            continue
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, nn.Module) and kind.__module__.startswith(package):
                found[f"{kind.__module__}.{kind.__qualname__}"] = kind
    yield from (found[name] for name in sorted(found))


def refused(kind: type[nn.Module]) -> bool:
    """Whether a network refuses a module of this class."""
    module = kind.__new__(kind)
    nn.Module.__init__(module)
    try:
        sw.Network(nn.Sequential(nn.Linear(2, 2), sw.LIF(), module))
    except NetworkError:
        return True
    return False


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    warnings.simplefilter("ignore")
    wrong = []
    for package in PACKAGES:
        try:
            known = list(classes(package))
        except ImportError as error:
            print(f"\n{package}: not installed ({error})")
            continue
        groups: dict[bool, list[str]] = {True: [], False: []}
        for kind in known:
            groups[refused(kind)].append(kind.__name__)
            if STATEFUL & {base.__name__ for base in kind.__mro__} and not refused(kind):
                wrong.append(kind.__name__)
        print(f"\n{package}: {len(groups[True])} refused, {len(groups[False])} accepted")
        print(f"  refused: {' '.join(groups[True]) or '-'}\n  accepted: {' '.join(groups[False]) or '-'}")
    print(f"\nstateful and accepted: {' '.join(wrong) or 'none'}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
