"""Errors that the code of a network raises: where they come from, and whether that code says them itself."""

import dis
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from spikewright._util.text import counted
from spikewright.errors import InputError, ShapeError, SpikewrightError
from spikewright.layers.batch_norm import Normalise
from spikewright.layers.batch_statistics import Norm
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
    """
    try:
        yield
    except SpikewrightError:
        raise
    except Exception as error:
        note = f"{shown(*place_of(error, module))} raised this in a run."
        if note not in getattr(error, "__notes__", []):
            error.add_note(note)
        raise


def normalised(
    normalise: Normalise, site: str, owner: nn.Module, norm: Norm, forward: Callable[[Tensor], Tensor], x: Tensor
) -> Tensor:
    """Return what batch norm makes of a chunk; what torch says of the input is an error that names the layer.

    Args:
        normalise: Function that normalises.
        site: Name of the norm's call.
        owner: Batch norm module.
        norm: The same, or the operation inside of its forward.
        forward: Forward for one batch.
        x: Input.  Tensor `[time, batch, channel, ...]`.

    Raises:
        InputError: There is one value per channel, which has no variance.
        ShapeError: The input has another number of axes than the module is made for.
    """
    try:
        return normalise(site, norm, forward, x)
    except ValueError as error:
        if isinstance(error, SpikewrightError) or is_said(error):
            raise
        batch = f"{counted(x.shape[1], 'sample')} of shape {list(x.shape[2:])}"
        where = f"{shown(site, owner)} was given {batch} at each step"
        if x[0].numel() > x.shape[2]:
            raise ShapeError(f"{where}, which it does not take: {error}.") from error
        raise InputError(
            f"{where}, one value per channel. In training it normalises by the statistics of the batch, and the "
            "variance of one value is 0. Give more samples, drop_last=True to a loader whose last batch is one "
            "sample, or call net.eval()."
        ) from error
