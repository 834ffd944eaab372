"""The mapping of neurons and surrogates as data: what tables and pages say, and what tests run.

A line is code on both sides, with the symbols of `SYMBOLS`.  Surrogates are left out of `LINES` and have lines of their
own, because any neuron takes any surrogate.
"""

from spikewright.interop.lines import LAYERS, NORSE, SINABS, Line
from spikewright.interop.lines_further import JELLY, LAYERS_FURTHER, SNNTORCH

__all__ = ["LINES", "RECURRENT", "SURROGATES", "SYMBOLS", "Line"]

SYMBOLS = {
    "tau": "time constant in steps",
    "V": "their threshold",
    "S(V)": "the next number above V in the dtype of the run",
    "beta": "decay per step",
    "c": "potential of reset and rest",
    "a": "value of a spike",
    "g": "dt tau_mem_inv",
    "k": "decay per step, exp(-1/tau)",
    "n": "time constant of a synaptic current in steps",
    "j": "decay of that current per step, exp(-1/n)",
    "q": "time constant of a threshold in steps",
    "r": "decay of its shift per step, exp(-1/q)",
    "d": "dt tau_syn_inv",
    "h": "dt tau_adapt_inv",
    "b": "beta, the rise of a threshold by a spike",
    "e": "decay of a current per step",
}
"""What the symbols of the lines stand for."""


LINES = (
    Line("SpikingJelly", "LIFNode(tau)", 'LIF(tau, gain=1/tau, reset="zero", detach_reset=False)'),
    Line("SpikingJelly", "LIFNode(tau, decay_input=False)", 'LIF(tau, reset="zero", detach_reset=False)'),
    Line("SpikingJelly", "LIFNode(tau, v_reset=None)", "LIF(tau, gain=1/tau, detach_reset=False)"),
    Line(
        "SpikingJelly",
        "LIFNode(tau, v_threshold=V, v_reset=c)",
        'LIF(tau, gain=1/tau, threshold=V-c, reset="zero", detach_reset=False)',
        "potentials are measured from c, where they start, too",
    ),
    Line("SpikingJelly", "LIFNode(tau, detach_reset=True)", 'LIF(tau, gain=1/tau, reset="zero")'),
    Line("SpikingJelly", "IFNode()", 'IF(reset="zero", detach_reset=False)'),
    Line("SpikingJelly", "IFNode(v_reset=None)", "IF(detach_reset=False)"),
    Line(
        "SpikingJelly",
        "IFNode(v_threshold=V, v_reset=c)",
        'IF(threshold=V-c, reset="zero", detach_reset=False)',
        "potentials are measured from c",
    ),
    Line(
        "SpikingJelly",
        "ParametricLIFNode(tau, decay_input=False)",
        'LIF(tau, learn_tau=True, reset="zero", detach_reset=False)',
        "their w is -leak_logit",
    ),
    *JELLY,
    *SNNTORCH,
    Line(
        "sinabs",
        "LIF(tau_mem=tau, spike_threshold=V, spike_fn=SingleSpike)",
        "LIF(1/(1-k), gain=1-k, threshold=V, detach_reset=False)",
        "k = exp(-1/tau); with tau_mem.requires_grad_(False)",
    ),
    Line(
        "sinabs",
        "LIF(tau_mem=tau, spike_threshold=V, spike_fn=SingleSpike, norm_input=False)",
        "LIF(1/(1-k), threshold=V, detach_reset=False)",
        "k = exp(-1/tau); with tau_mem.requires_grad_(False)",
    ),
    Line(
        "sinabs",
        "LIF(tau_mem=tau, spike_threshold=V, spike_fn=SingleSpike, reset_fn=MembraneReset())",
        'LIF(1/(1-k), gain=1-k, threshold=V, reset="zero")',
        "k = exp(-1/tau); with tau_mem.requires_grad_(False)",
    ),
    Line(
        "sinabs",
        "LIF(tau_mem=tau, spike_threshold=V, spike_fn=SingleSpike, reset_fn=MembraneSubtract(a))",
        "LIF(1/(1-k), gain=1-k, threshold=V, rest=V-a, detach_reset=False)",
        "k = exp(-1/tau); with tau_mem.requires_grad_(False)",
    ),
    Line(
        "sinabs",
        "IAF(spike_threshold=V, spike_fn=SingleSpike)",
        "IF(threshold=V, detach_reset=False)",
        "IAFSqueeze too",
    ),
    Line(
        "Norse",
        "LIFBoxCell(LIFBoxParameters(tau_mem_inv=1000*g, v_th=V, v_leak=c, v_reset=c))",
        'LIF(1/g, gain=g, threshold=S(V-c), reset="zero", detach_reset=False)',
        "dt = 0.001; potentials are measured from c",
    ),
    Line(
        "Norse",
        "LIFBoxCell(LIFBoxParameters(tau_mem_inv=1000*g, v_th=V, reset_method=reset_subtract))",
        "LIF(1/g, gain=g, threshold=S(V), rest=S(V)-V, detach_reset=False)",
        "dt = 0.001",
    ),
    Line("Norse", "IAFCell(IAFParameters(v_th=V))", 'IF(threshold=S(V), reset="zero", detach_reset=False)', "IAF too"),
    *SINABS,
    *NORSE,
)
"""Neurons that send the same spikes and the same gradients."""

RECURRENT = (*LAYERS_FURTHER, *LAYERS)
"""Neurons with more than themselves: those that feed their spikes back, in words where they are no code."""

SURROGATES = (
    Line("SpikingJelly", "Sigmoid(alpha=3.0)", "Sigmoid(3.0)"),
    Line("SpikingJelly", "ATan(alpha=3.0)", "ATan(3.0)"),
    Line("SpikingJelly", "SoftSign(alpha=3.0)", "FastSigmoid(3.0)"),
    Line("SpikingJelly", "SuperSpike(alpha=3.0)", "FastSigmoid(1.0, factor=2 * 3.0)"),
    Line("SpikingJelly", "QPseudoSpike(alpha=2.0)", "FastSigmoid(2.0)"),
    Line("SpikingJelly", "PiecewiseQuadratic(alpha=1.0)", "Triangle()"),
    Line("SpikingJelly", "PiecewiseQuadratic(alpha=3.0)", "Triangle(3.0)"),
    Line("SpikingJelly", "PiecewiseExp(alpha=4.0)", "Exponential(1 / 4.0)"),
    Line("SpikingJelly", "Erf(alpha=3.0)", "Erf(3.0)"),
    Line("SpikingJelly", "LeakyKReLU(leak=3.0, k=3.0)", "Rectangle(2.0**20, factor=3.0 * 2.0**20)"),
    Line("SpikingJelly", "DeterministicPass()", "Rectangle(2.0**20, factor=2.0**20)"),
    Line("snnTorch", "sigmoid(slope=3)", "Sigmoid(3.0)", "theirs is NaN far below the threshold"),
    Line("snnTorch", "atan(alpha=3.0)", "ATan(3.0)"),
    Line("snnTorch", "fast_sigmoid(slope=25)", "FastSigmoid(25.0, factor=2 / 25)"),
    Line("snnTorch", "straight_through_estimator()", "Rectangle(2.0**20, factor=2.0**20)"),
    Line("Norse", 'method="tanh", alpha=2.0', "Sigmoid(4.0)"),
    Line("Norse", 'method="triangle", alpha=1.0', "Triangle()"),
    Line("Norse", 'method="super"', "FastSigmoid(1.0, factor=2.0)", "whatever its alpha"),
    Line("Norse", 'method="tanh", alpha=4.0', "Sigmoid(8.0, factor=0.5)"),
    Line("Norse", 'method="triangle", alpha=0.25', "Triangle(factor=0.25)"),
    Line("Norse", 'method="heavi_erfc", alpha=4.0', "Erf(4.0, factor=0.5)"),
    Line(
        "sinabs", "SingleExponential(grad_width=0.25, grad_scale=3.0)", "Exponential(0.25, factor=6.0)", "width times V"
    ),
    Line("sinabs", "Gaussian(sigma=0.5, grad_scale=3.0)", "Erf(1/(2**0.5*0.5), factor=3.0)"),
)
"""Surrogates with the same slope.  Slopes of all others are computed by the other library, called through `Called`."""
