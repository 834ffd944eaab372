"""Networks as files of ONNX, compared with the network by onnxruntime; both are imported where they are needed."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikewright.errors import ConfigError
from spikewright.interop.comparing import compared
from spikewright.interop.exporting import Exported, Steps, expected, export, outputs_of
from spikewright.network import Network


def to_onnx(net: Network, x: Tensor, path: Path | str, *, steps: Steps = "one") -> Exported:
    """Write a network to a file of ONNX, and compare what onnxruntime computes from it with a run of the network.

    Inputs of the file are "x" and the states, by names such as "1.membrane"; outputs are "output" and the states after
    the step, such as "1.membrane.next". With `steps="unrolled"` there are "x" and "output" only. Needs the packages of
    `pip install 'spikewright[onnx]'`: onnx, onnxscript and onnxruntime.

    Args:
        net: The network, in evaluation mode.
        x: Input, `[time, batch, *feature]`, on which file and network are compared. With `steps="unrolled"` the file
            takes as many steps.
        path: File to write, such as "net.onnx".
        steps: "one" for one step, x of shape `[batch, *feature]` and states to output and states; "unrolled" for a
            whole sequence from rest. Default: "one".

    Returns:
        The program that was written, with the file in `path`, the states at the start in `rest` and the differences
        between onnxruntime and the network in `rows`.

    Raises:
        ConfigError: A package is missing, or an argument is of another kind.
        NetworkError: The network cannot be exported, for the reasons that `export` has, or onnxruntime computes
            something else.

    Warns:
        UserWarning: Some values differ by more than rounding, at most one in a hundred: a spike at the threshold.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if not _is_there(package):
            raise ConfigError(
                f"to_onnx writes files with torch and reads them with onnxruntime, but the package {package} is not "
                "installed. Install what it needs: pip install 'spikewright[onnx]'."
            )
    exported = export(net, x, steps=steps)
    inputs, outputs = exported.names
    torch.onnx.export(
        exported.program,
        (),
        Path(path),
        input_names=inputs,
        output_names=outputs if steps == "one" else outputs[:1],
        external_data=False,
        verbose=False,
    )
    with torch.no_grad():
        output, state = net.run(x)
    found = outputs_of(exported, Session(exported, path), x)
    rows = compared("onnxruntime", found, expected(exported, output, state))
    return replace(exported, rows=rows, path=Path(path))


class Session:
    """A file of ONNX that is called as the program it was made from.

    Args:
        exported: The program.
        path: The file.
    """

    def __init__(self, exported: Exported, path: Path | str) -> None:
        runtime: Any = import_module("onnxruntime")
        self._inputs, self._steps = exported.names[0], exported.steps
        self._session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def __call__(self, x: Tensor, states: tuple[Tensor, ...] = ()) -> Any:
        """Return the output, and the states if there are any.

        Args:
            x: Input, of the shape that the program takes.
            states: States in their order.
        """
        given = {name: value.detach().cpu().numpy() for name, value in zip(self._inputs, (x, *states), strict=True)}
        output, *after = (torch.from_numpy(value).to(x.device) for value in self._session.run(None, given))
        return output if self._steps == "unrolled" else (output, tuple(after))


def _is_there(package: str) -> bool:
    try:
        import_module(package)
    except ImportError:
        return False
    return True
