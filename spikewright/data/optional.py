"""Import of optional packages."""

from importlib import import_module
from types import ModuleType


def optional_import(module: str, purpose: str, extra: str = "cli") -> ModuleType:
    """Import a module, or raise an error that names the extra to install.

    Args:
        module: Dotted name of the module.
        purpose: Feature that needs it, for the message.
        extra: Extra of this library that installs it, for the message.  Default: "cli".

    Raises:
        ImportError: The module cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as cause:
        raise ImportError(
            f"{purpose} needs the module '{module}', which could not be imported ({cause}). It is not among the core "
            f"dependencies. Install it with: pip install 'spikewright[{extra}]'"
        ) from cause
