"""The optional packages `nir` and `h5py`, imported when they are needed."""

from dataclasses import fields
from importlib import import_module
from importlib.metadata import version
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


def writer() -> Any:
    """Import `nir` to write a file with, whose nodes have to take metadata.

    Raises:
        ImportError: It cannot be imported, or is too old.
    """
    nir = optional("nir", "to_nir")
    if all(field.name != "metadata" for field in fields(nir.Input)):
        raise ImportError(
            f"to_nir writes dt and the kind of reset into the metadata of nodes, and the installed nir "
            f"{version('nir')} has none. Install nir 1.0.8: pip install 'spikewright[nir]'. sinabs 3.1.3 asks for nir "
            "1.0.4 at most: give it an environment of its own, which reads the files of both."
        )
    return nir
