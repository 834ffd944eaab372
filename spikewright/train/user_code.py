"""Classes and functions of a user's file, written `path/to/file.py:Name`."""

import importlib.util
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from spikewright.errors import ConfigError, nearest


def referenced(section: str, reference: str) -> Any:
    """Import a file and return what it calls by a name.

    Args:
        section: Section of the configuration, for messages.
        reference: `path/to/file.py:Name`; a relative path starts from the current folder.

    Raises:
        ConfigError: The file cannot be read or imported, or has nothing of this name that can be called.
    """
    path, _, name = reference.rpartition(":")
    module = _imported(section, Path(path))
    own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__}
    public = [key for key, value in own.items() if callable(value) and not key.startswith("_")]
    found = getattr(module, name, None)
    if not callable(found):
        there = "which is not there" if not hasattr(module, name) else "which cannot be called"
        raise ConfigError(f"{section}.name = '{reference}' names {name or 'nothing'} in {path}, {there}. "
                          f"{nearest(name, public)}")  # fmt: skip
    return found


def _imported(section: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"{section}.name names the file {path}, which is not there. Give its path from {Path.cwd()}.")
    key = f"_spikewright_user_{sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    if key in sys.modules:
        return sys.modules[key]
    spec = importlib.util.spec_from_file_location(key, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module  # so that pickles and dataclasses of the file find it
    sys.path.insert(0, str(path.resolve().parent))  # its neighbours are importable while it is imported
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[key]
        advice = " Put what is to run as a script alone behind `if __name__ == '__main__':`."
        raise ConfigError(
            f"{section}.name names the file {path}, which cannot be imported: {type(error).__name__}: {error}."
            + (advice if isinstance(error, SystemExit) else "")
        ) from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module
