"""The public names: what the package and its first-level modules declare in `__all__`."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import spikewright


def public_modules() -> list[ModuleType]:
    """Return the package and its first-level modules without a leading underscore that have public names."""
    names = [m.name for m in pkgutil.iter_modules(spikewright.__path__, "spikewright.") if "._" not in m.name]
    modules = [spikewright, *map(importlib.import_module, names)]
    return [module for module in modules if public_names(module)]


def public_names(module: ModuleType) -> list[str]:
    """Return what a module declares in `__all__`, without modules and names with a leading underscore."""
    names = getattr(module, "__all__", ())
    return [name for name in names if not name.startswith("_") and not inspect.ismodule(getattr(module, name))]


def entries() -> dict[str, list[str]]:
    """Return, by module, the names that have an entry on its page; of two modules it is the first-level one."""
    modules = public_modules()
    elsewhere = {id(getattr(module, name)) for module in modules[1:] for name in public_names(module)}
    top = [name for name in public_names(spikewright) if id(getattr(spikewright, name)) not in elsewhere]
    return {module.__name__: public_names(module) if module is not spikewright else top for module in modules}


def home(name: str) -> str:
    """Return the full name under which a name of the package has its entry."""
    value = getattr(spikewright, name)
    for module in public_modules()[1:]:
        for other in public_names(module):
            if getattr(module, other) is value:
                return f"{module.__name__}.{other}"
    return f"spikewright.{name}"
