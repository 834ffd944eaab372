"""Errors that the code of a network raises: where they come from, and whether that code says them itself."""

import dis
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikewright.errors import InputError, SpikewrightError
from spikewright.network.complaints import shown


def is_said(error: Exception) -> bool:
    """Return True if a `raise` or `assert` outside of torch and this library raised an error, and not an operation."""
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    package = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
    said = trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return said and package not in ("torch", __name__.partition(".")[0])


def place_of(error: BaseException, module: nn.Module) -> tuple[str, nn.Module]:
    """Return the innermost module that an error was raised in, with its name.

    Args:
        error: The error.
        module: The whole.
    """
    names, found = {id(m): name for name, m in module.named_modules()}, module
    where = error.__traceback__
    while where is not None:
        inner = where.tb_frame.f_locals.get("self")
        if isinstance(inner, nn.Module) and id(inner) in names:
            found = inner
        where = where.tb_next
    return names[id(found)], found


@contextmanager
def naming(module: nn.Module) -> Iterator[None]:
    """Add the name of the innermost module to an error that is not of this library; the error stays what it is.

    Args:
        module: The whole.

    Raises:
        InputError: A batch norm was given a single value per channel, the one thing that torch says of it.
    """
    try:
        yield
    except SpikewrightError:
        raise
    except Exception as error:
        name, found = place_of(error, module)
        if isinstance(found, _BatchNorm) and isinstance(error, ValueError) and "than 1 value per channel" in str(error):
            raise InputError(
                f"{shown(name, found)} was to learn from one value per channel. It divides by the deviation of the "
                "samples of a batch, and one sample has none. Give batches of at least 2 samples, or leave it out."
            ) from error
        note = f"{shown(name, found)} raised this in a run."
        if note not in getattr(error, "__notes__", []):
            error.add_note(note)
        raise
