"""The mapping of neurons and surrogates as data: what tables and pages say, and what tests run.

A line is code on both sides, with the symbols of `SYMBOLS`.  Surrogates are left out of `LINES` and have lines of their
own, because any neuron takes any surrogate.
"""

from spikewright.interop.lines import NORSE, SINABS, Line

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
    Line(
        "snnTorch",
        "Leaky(beta, threshold=V)",
        "LIF(1/(1-beta), threshold=S(V), rest=S(V)-V/beta)",
        "beta above 0: a reset that comes a step late is a soft reset of V/beta",
    ),
    Line("snnTorch", "Leaky(1.0, threshold=V)", "IF(threshold=S(V), rest=S(V)-V)"),
    Line(
        "snnTorch",
        'Leaky(beta, threshold=V, reset_mechanism="zero")',
        'LIF(1/(1-beta), threshold=S(V), reset="zero")',
    ),
    Line(
        "snnTorch",
        'Leaky(beta, threshold=V, reset_mechanism="zero", reset_delay=False)',
        'LIF(1/(1-beta), threshold=S(V), reset="zero", detach_reset=False)',
    ),
    Line(
        "snnTorch",
        "Leaky(beta, threshold=V, graded_spikes_factor=a)",
        "LIF(1/(1-beta), threshold=S(V), rest=S(V)-V/beta, amplitude=a)",
    ),
    Line(
        "snnTorch",
        'Leaky(beta, threshold=V, reset_mechanism="zero", learn_beta=True)',
        'LIF(1/(1-beta), learn_tau=True, threshold=S(V), reset="zero")',
        "their beta is sigmoid(leak_logit), so that steps of an optimizer are other ones",
    ),
    Line(
        "snnTorch",
        "Lapicque(R=tau/2, C=2.0, time_step=1.0, threshold=V)",
        "LIF(tau, gain=1/2.0, threshold=S(V), rest=S(V)-V/(1-1/tau))",
        "leak 1 - time_step/(R C), which is not its beta; gain time_step/C",
    ),
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

SURROGATES = (
    Line("SpikingJelly", "Sigmoid(alpha=3.0)", "Sigmoid(3.0)"),
    Line("SpikingJelly", "ATan(alpha=3.0)", "ATan(3.0)"),
    Line("SpikingJelly", "PiecewiseQuadratic(alpha=1.0)", "Triangle()"),
    Line("snnTorch", "sigmoid(slope=3)", "Sigmoid(3.0)", "theirs is NaN far below the threshold"),
    Line("snnTorch", "atan(alpha=3.0)", "ATan(3.0)"),
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
