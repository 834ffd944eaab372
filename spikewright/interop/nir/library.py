"""The optional packages `nir` and `h5py`, imported when they are needed."""

from importlib import import_module
from typing import Any


def optional(module: str, purpose: str) -> Any:
    """Import a module, or raise an error that names the extra to install.

    Args:
        module: Its name.
        purpose: What needs it, for the message.

    Raises:
        ImportError: It cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as cause:
        raise ImportError(
            f"{purpose} needs the package '{module}', which could not be imported ({cause}). It is not among the core "
            "dependencies. Install it with: pip install 'spikewright[nir]'"
        ) from cause
