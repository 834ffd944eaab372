"""Recurrence: neurons whose spikes come back to their own current a step later."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from spikewright._util.arguments import shown
from spikewright._util.ranges import check_instance
from spikewright._util.text import kind_of
from spikewright.errors import ConfigError, ShapeError
from spikewright.layers.feedback import Feedback, First
from spikewright.temporal import SiteState, Temporal

if TYPE_CHECKING:
    from spikewright.neurons import Neuron


class Recurrent(Feedback):
    r"""Recurrent layer: neurons that are fed their own spikes of the previous step, beside the input.

    .. math::
        I[t] = x[t] + f(s[t-1]), \qquad s[t] = \text{neuron}(I[t]), \qquad I[0] = x[0] \ \text{or}\ x[0] + f(0),

    with :math:`f` the transform.  Input and output are `[batch, *feature]` at every step, of one shape.  It computes
    what `nn.Sequential(Feedback(transform, neuron), neuron)` computes, and rules see it so: the weights of the
    transform are those of a layer that reads the spikes of the previous step.

    Cost: a network with recurrence runs one step at a time, whatever chunk is asked for.  Parameters are named
    `neuron.*` and `transform.*`.  The state in a run is `last`, the spikes `[batch, *feature]` of the previous step,
    beside that of the neurons.

    Other libraries differ in the first step; their neurons map as `help(spikewright.LIF)` says.

    | Elsewhere | here |
    |---|---|
    | snnTorch `RLeaky`, soft reset | `nn.Linear` or `nn.Conv2d` as transform, `first="bias"` |
    | snnTorch `RLeaky(all_to_all=False)`, soft reset | a module that multiplies by `V` |
    | SpikingJelly `LinearRecurrentContainer(neuron, n, n)` | `nn.Linear` without bias in front, `first="bias"` |
    | sinabs `LIFRecurrent(rec_connect=f)` | `f` as transform, `first="nothing"` |

    Args:
        neuron: Spiking neurons.  An instance of `spikewright.Neuron`, such as `sw.LIF()`; a module of its own, used
            nowhere else.
        transform: Map from the spikes to the current.  An `nn.Module` whose output has the shape of its input, such as
            `nn.Linear(n, n)`, `nn.Conv2d(c, c, 3, padding=1)`, or a scale of every neuron by itself.
        first: What is added at the first step of a sequence.  "nothing" adds nothing, not even a bias; "bias" adds the
            transform of zeros :math:`f(0)`, which is the bias of a linear layer or a convolution.
            Default: "nothing".

    Raises:
        ConfigError: `neuron` is no spiking neuron, `transform` is no `nn.Module`, or `first` is unknown.
        ShapeError: In a run: the transform returns another shape than that of the current.
        NetworkError: In a run: the neurons are called twice in a step.
        OutsideRun: It is called outside a run.

    Reference:
        Neftci, Mostafa, Zenke, Surrogate Gradient Learning in Spiking Neural Networks, IEEE Signal Processing Magazine
        36, 2019, arXiv 1901.09948, whose recurrent layer this is.

    >>> import torch, spikewright as sw
    >>> back = torch.nn.Linear(1, 1, bias=False)
    >>> _ = torch.nn.init.constant_(back.weight, -1.0)
    >>> net = sw.Network(torch.nn.Sequential(sw.Recurrent(sw.IF(), back)))
    >>> output, state = net.run(torch.ones(4, 1, 1))
    >>> output.flatten().tolist()
    [1.0, 0.0, 1.0, 0.0]
    """

    def __init__(self, neuron: "Neuron", transform: nn.Module, first: First = "nothing") -> None:
        check_instance("Recurrent", "transform", transform, nn.Module, "nn.Linear(8, 8)")
        if not isinstance(neuron, Temporal) or not hasattr(type(neuron), "dynamics"):
            found = f"the class {neuron.__name__}" if isinstance(neuron, type) else kind_of(neuron)
            raise ConfigError(
                f"Recurrent(neuron={shown(neuron)}): neuron has to be a spiking neuron, whose spikes come back to its "
                f"current, but this is {found}. Give an instance of spikewright.Neuron, such as "
                "spikewright.LIF(); what is to stand in front of it goes in front of Recurrent, and the output of "
                "other modules is sent back by spikewright.Feedback(transform, source)."
            )
        super().__init__(transform, "neuron", first)
        self.neuron = neuron

    @property
    def source(self) -> nn.Module:
        """The neurons."""
        return self.neuron

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        current, state = super().scan(x, state, through_time)
        return self.neuron(current.flatten(0, 1)).unflatten(0, x.shape[:2]), state

    def sent_back(self, last: Tensor, x: Tensor) -> Tensor:
        """Return what is added to an input.

        Args:
            last: Spikes of the last step, `[batch, *feature]`.
            x: Input, `[1, batch, *feature]`.

        Raises:
            ShapeError: The transform returns another shape than that of the input.
        """
        y = super().sent_back(last, x)
        if y.shape != x.shape[1:]:
            raise ShapeError(
                f"Recurrent adds transform(spikes) to the current of its neurons, {list(x.shape[2:])} of a sample, but "
                f"{type(self.transform).__name__} made {list(y.shape[1:])} of spikes {list(last.shape[1:])}. It has to "
                "keep the shape: nn.Linear(n, n), or a convolution with padding='same' and as many channels."
            )
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Raise `OutsideRun`, as the neurons do: outside a run there is no previous step.

        Args:
            x: Input, `[batch, *feature]`.
        """
        return self.neuron(x)
