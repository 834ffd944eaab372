"""Lines of the mapping of neurons: those of snnTorch, and those of SpikingJelly beyond spikes without a current.

`spikewright.interop.table` has all lines.
"""

from spikewright.interop.lines import Line

_LOGIT = "their beta is sigmoid(leak_logit), so that steps of an optimizer are other ones"
JELLY = (
    Line(
        "SpikingJelly",
        "ParametricLIFNode(tau, v_threshold=V)",
        'LIF(tau, gain="1/tau", learn_tau=True, threshold=V, reset="zero", detach_reset=False)',
        "as it is made: the input is divided by the trained tau; their w is -leak_logit",
    ),
    Line(
        "SpikingJelly",
        "CUBALIFNode(c_decay=e, v_decay=beta, v_threshold=V, surrogate_function=Sigmoid())",
        'CUBALIF(1/(1-beta), 1/(1-e), threshold=V, reset="zero", detach_reset=False)',
        "its own surrogate, Rect, is called",
    ),
    Line(
        "SpikingJelly",
        "CUBALIFNode(c_decay=e, v_decay=beta, v_threshold=V, v_reset=None, surrogate_function=Sigmoid())",
        "CUBALIF(1/(1-beta), 1/(1-e), threshold=V, detach_reset=False)",
    ),
    Line("SpikingJelly", "NonSpikingLIFNode(tau)", "LI(tau, gain=1/tau)", 'decode="mean-mem" and "last_mem", too'),
    Line("SpikingJelly", "NonSpikingIFNode()", "LI(None)", 'decode="mean-mem" and "last_mem", too'),
)
SNNTORCH = (
    Line(
        "snnTorch",
        "Leaky(beta, threshold=V)",
        'LIF(1/(1-beta), threshold=V, reset="late", strict=True)',
        "beta above 0",
    ),
    Line("snnTorch", "Leaky(1.0, threshold=V)", 'IF(threshold=V, reset="late", strict=True)'),
    Line(
        "snnTorch",
        'Leaky(beta, threshold=V, reset_mechanism="zero")',
        'LIF(1/(1-beta), threshold=V, reset="zero", strict=True)',
    ),
    Line(
        "snnTorch",
        'Leaky(beta, threshold=V, reset_mechanism="zero", reset_delay=False)',
        'LIF(1/(1-beta), threshold=V, reset="zero", strict=True, detach_reset=False)',
    ),
    Line(
        "snnTorch",
        "Leaky(beta, threshold=V, graded_spikes_factor=a)",
        'LIF(1/(1-beta), threshold=V, reset="late", strict=True, amplitude=a)',
    ),
    Line(
        "snnTorch",
        'Leaky(beta, threshold=V, reset_mechanism="zero", learn_beta=True)',
        'LIF(1/(1-beta), learn_tau=True, threshold=V, reset="zero", strict=True)',
        _LOGIT,
    ),
    Line(
        "snnTorch",
        "Lapicque(R=tau/2, C=2.0, time_step=1.0, threshold=V)",
        'LIF(tau, gain=1/2.0, threshold=V, reset="late", strict=True)',
        "leak 1 - time_step/(R C), which is not its beta; gain time_step/C",
    ),
    Line(
        "snnTorch",
        "Leaky(beta, threshold=V, learn_beta=True, learn_threshold=True)",
        'LIF(1/(1-beta), learn_tau=True, threshold=V, learn_threshold=True, reset="late", strict=True)',
        _LOGIT,
    ),
    Line(
        "snnTorch",
        'Leaky(beta, reset_mechanism="none")',
        "LI(1/(1-beta))",
        "its potential; a neuron that uses its spikes, too, is refused",
    ),
    Line("snnTorch", 'Leaky(1.0, reset_mechanism="none")', "LI(None)", "its potential"),
    Line(
        "snnTorch",
        'Lapicque(R=tau/2, C=2.0, time_step=1.0, reset_mechanism="none")',
        "LI(tau, gain=1/2.0)",
        "its potential",
    ),
    Line(
        "snnTorch",
        "Synaptic(alpha=e, beta=beta, threshold=V)",
        'CUBALIF(1/(1-beta), 1/(1-e), threshold=V, reset="late", strict=True)',
    ),
    Line(
        "snnTorch",
        'Synaptic(alpha=e, beta=beta, threshold=V, reset_mechanism="zero", reset_delay=False)',
        'CUBALIF(1/(1-beta), 1/(1-e), threshold=V, reset="zero", strict=True, detach_reset=False)',
        "with reset_delay it loses the input of the next step, and is refused",
    ),
    Line(
        "snnTorch",
        "Synaptic(alpha=e, beta=beta, threshold=V, learn_alpha=True, learn_beta=True)",
        'CUBALIF(1/(1-beta), 1/(1-e), learn_tau=True, learn_tau_syn=True, threshold=V, reset="late", strict=True)',
        "alpha is sigmoid(current_leak_logit)",
    ),
    Line(
        "snnTorch",
        'Synaptic(alpha=e, beta=beta, reset_mechanism="none")',
        "LI(1/(1-beta), tau_syn=1/(1-e))",
        "its potential",
    ),
)
LAYERS_FURTHER = (
    Line(
        "snnTorch",
        "RLeaky(beta, threshold=V, linear_features=N)",
        'Recurrent(LIF(1/(1-beta), threshold=V, reset="late", strict=True), nn.Linear(N, N), first="bias")',
        "with its own layer, shared; a convolution likewise",
    ),
    Line(
        "snnTorch",
        "RLeaky(beta, threshold=V, V=0.5, all_to_all=False)",
        'Recurrent(LIF(1/(1-beta), threshold=V, reset="late", strict=True), f, first="bias")',
        "f multiplies by 0.5",
    ),
    Line(
        "SpikingJelly",
        "LinearRecurrentContainer(LIFNode(tau), N, N)",
        'Sequential(nn.Linear(N, N, bias=False), Recurrent(neuron, nn.Linear(N, N), first="bias"))',
        "its nn.Linear reads input and last spikes side by side, and is the parameter",
    ),
    Line(
        "SpikingJelly",
        "ElementWiseRecurrentContainer(LIFNode(tau), lambda y, x: y + x)",
        "Recurrent(neuron, nn.Identity())",
        "other functions than the sum are refused",
    ),
)
"""Layers of snnTorch and SpikingJelly that feed their spikes back to themselves; `N` is a number of neurons."""
