"""The command line: one importable, typed function a command, imported when it is first used."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spikewright.cli._bench import bench
    from spikewright.cli._certify import certify
    from spikewright.cli._compare import compare
    from spikewright.cli._continual import continual
    from spikewright.cli._evaluate import evaluate
    from spikewright.cli._explain import explain
    from spikewright.cli._list import list_components
    from spikewright.cli._plan import plan
    from spikewright.cli._plot import plot
    from spikewright.cli._reason import reason
    from spikewright.cli._train import train

__all__ = [
    "bench",
    "certify",
    "compare",
    "continual",
    "evaluate",
    "explain",
    "list_components",
    "plan",
    "plot",
    "reason",
    "train",
]


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:  # so that type checkers know unknown names

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = "_list" if name == "list_components" else f"_{name}"
        globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
        return globals()[name]
