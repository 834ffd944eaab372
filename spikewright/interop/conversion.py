"""The result of a conversion: the module, what was proven about it, and the way back."""

from dataclasses import dataclass, field

import torch
from torch import nn

from spikewright._util.text import aligned, counted
from spikewright.errors import ConversionError
from spikewright.interop.mapping import Trained

FEW = 1e-3
"""Share of spikes below which a layer is called not proven on the user's input."""


@dataclass(frozen=True)
class ConversionRow:
    """Comparison of one neuron layer of a converted model with its original.

    Attributes:
        layer: Name of the layer in the other library's model.
        theirs: Its neuron, as code.
        ours: The neuron of this library that takes its place, as code.
        compared: Number of neurons times steps that were compared on the user's input, at least 1, each layer on the
            current that the model itself gave it.
        fired: How many of them were spikes, from 0 to `compared`.
        differing: How many differ, from 0 to `compared`; all of them are rounding, or there would have been an error.
        free: How many differ in the free run of the whole network, from 0 to `compared`; there, differences bring about
            others.
        probed: Number of neurons times steps that were compared on the four probe currents, in all precisions, at least
            1.
        gradient: Largest difference of the input's gradient on the probe currents in float64, beyond that of rounding,
            relative to the largest of each neuron or to 1, at least 0.
        proven: True if the layer fired on the user's input, in at least one of a thousand steps and at least once.
        reason: Remarks: why spikes differ, what was not proven.
    """

    layer: str
    theirs: str
    ours: str
    compared: int
    fired: int
    differing: int
    free: int
    probed: int
    gradient: float
    proven: bool
    reason: str


@dataclass(frozen=True)
class Conversion:
    """A model of another library that was converted and compared, as `convert` returns it.

    Attributes:
        module: The converted module, for `spikewright.Network(module)`.  It shares the parameters and buffers of the
            model: training it trains the model.  Move or cast the model before it is converted, not later.
        library: Name of the other library.
        rows: One `ConversionRow` per neuron layer.
        remarks: What was proven beyond the layers, and what was not, in words.
    """

    module: nn.Module
    library: str
    rows: list[ConversionRow]
    remarks: list[str]
    _trained: list[tuple[str, nn.Module, nn.Module, tuple[Trained, ...]]] = field(
        default_factory=list[tuple[str, nn.Module, nn.Module, tuple[Trained, ...]]], repr=False
    )

    @property
    def proven(self) -> bool:
        """True if every layer fired on the user's input, so that the comparison there means something."""
        return all(row.proven for row in self.rows)

    def table(self) -> str:
        """Return the rows as aligned text, one layer a line, and the remarks."""
        head = ("layer", "theirs", "ours", "compared", "fired", "differing", "free run", "gradient", "remarks")
        body = [
            (
                row.layer or "(model)",
                row.theirs,
                row.ours,
                f"{row.compared:,}",
                f"{row.fired:,}",
                str(row.differing),
                str(row.free),
                f"{row.gradient:.1e}",
                row.reason or "-",
            )
            for row in self.rows
        ]
        return "\n".join(
            [f"{self.library}: {counted(len(self.rows), 'neuron layer')}", aligned([head, *body]), *self.remarks]
        )

    def write_back(self) -> dict[str, float | list[float]]:
        """Write trained constants of neurons into the model of the other library, and read them back.

        Weights need nothing of the kind, because the model has the same ones.

        Returns:
            The constants as the model has them now, by their names there, a list where there is one per neuron; empty
            if none is trained.

        Raises:
            ConversionError: The model does not hold what was written.
        """
        written: dict[str, float | list[float]] = {}
        for name, theirs, ours, trained in self._trained:
            for each in trained:
                place = theirs.get_parameter(each.theirs)
                with torch.no_grad():
                    value = each.back(ours.get_parameter(each.ours)).to(place.dtype)
                    if not bool(value.isfinite().all()):
                        raise ConversionError(
                            f"write_back would put {value.flatten().tolist()} into {each.theirs} of layer '{name}', "
                            f"where {each.ours} is {ours.get_parameter(each.ours).flatten().tolist()}: it was trained "
                            "out of what the model can hold. Train it with a smaller learning rate, or clamp it."
                        )
                    place.copy_(value.reshape(place.shape))
                if not torch.equal(theirs.get_parameter(each.theirs).detach().reshape(value.shape), value):
                    raise ConversionError(
                        f"write_back put {value.tolist()} into {each.theirs} of layer '{name}', and it reads "
                        f"{theirs.get_parameter(each.theirs).tolist()}. Is it parametrized? Remove the parametrization."
                    )
                several = value.numel() > 1
                written[f"{name}.{each.theirs}".lstrip(".")] = value.flatten().tolist() if several else value.item()
        return written
