"""Packages that only some data sets need."""

from importlib import import_module
from types import ModuleType


def optional_import(module: str, purpose: str) -> ModuleType:
    """Import `module`, or say which extra brings it.

    Args:
        module: Dotted name of the module.
        purpose: What needs it, for the message.

    Raises:
        ImportError: It cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as cause:
        raise ImportError(
            f"{purpose} needs the module '{module}', which could not be imported ({cause}). It is not among the core "
            "dependencies. Install it with: pip install 'spikewright[cli]'"
        ) from cause
