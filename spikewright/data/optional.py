"""Import of optional packages."""

from importlib import import_module
from types import ModuleType


def optional_import(module: str, purpose: str) -> ModuleType:
    """Import a module, or raise an error that names the extra to install.

    Args:
        module: Dotted name of the module.
        purpose: Feature that needs it, for the message.

    Raises:
        ImportError: The module cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as cause:
        raise ImportError(
            f"{purpose} needs the module '{module}', which could not be imported ({cause}). It is not among the core "
            "dependencies. Install it with: pip install 'spikewright[cli]'"
        ) from cause
