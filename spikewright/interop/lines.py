"""Lines of the mapping of neurons: what a line is, and those of sinabs and Norse beyond one spike without a current.

`spikewright.interop.table` has all lines.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One neuron of another library, and the same here.

    Attributes:
        library: Name of the library.
        theirs: Their neuron with arguments, as code.
        ours: Ours, as code.
        note: Condition or remark; may be empty.
    """

    library: str
    theirs: str
    ours: str
    note: str = ""


_KEPT = "with requires_grad_(False)"
SINABS = (
    Line(
        "sinabs",
        "LIF(tau_mem=tau, spike_threshold=V)",
        'LIF(1/(1-k), gain="1/tau", learn_tau=True, threshold=V, max_spikes=None, detach_reset=False)',
        "as it is made: tau_mem is trained, -1/ln(sigmoid(leak_logit))",
    ),
    Line(
        "sinabs",
        "LIF(tau_mem=tau, spike_threshold=V, train_alphas=True, norm_input=False)",
        "LIF(1/(1-k), learn_tau=True, threshold=V, max_spikes=None, detach_reset=False)",
        "alpha_mem is trained, sigmoid(leak_logit)",
    ),
    Line(
        "sinabs",
        "LIF(tau_mem=tau, spike_threshold=V, spike_fn=MaxSpike(3))",
        "LIF(1/(1-k), gain=1-k, threshold=V, max_spikes=3, detach_reset=False)",
        _KEPT,
    ),
    Line(
        "sinabs",
        "LIF(tau_mem=tau, spike_threshold=V, reset_fn=MembraneReset())",
        'LIF(1/(1-k), gain=1-k, threshold=V, max_spikes=None, reset="zero")',
        _KEPT,
    ),
    Line(
        "sinabs",
        "LIF(tau_mem=tau, spike_threshold=V, spike_fn=SingleSpike, min_v_mem=-0.4*V)",
        "LIF(1/(1-k), gain=1-k, threshold=V, lower_bound=-0.4*V, detach_reset=False)",
        f"{_KEPT}; at the bound itself theirs has no slope",
    ),
    Line(
        "sinabs",
        "LIF(tau_mem=tau, tau_syn=n, spike_threshold=V)",
        "CUBALIF(1/(1-k), 1/(1-j), gain=j, current_gain=1-k, threshold=V, max_spikes=None, detach_reset=False)",
        _KEPT,
    ),
    Line(
        "sinabs",
        "LIF(tau_mem=tau, tau_syn=n, spike_threshold=V, spike_fn=SingleSpike, norm_input=False)",
        "CUBALIF(1/(1-k), 1/(1-j), gain=j, threshold=V, detach_reset=False)",
        _KEPT,
    ),
    Line("sinabs", "IAF(spike_threshold=V)", "IF(threshold=V, max_spikes=None, detach_reset=False)", "IAFSqueeze too"),
    Line(
        "sinabs",
        "IAF(spike_threshold=V, min_v_mem=-0.9*V)",
        "IF(threshold=V, max_spikes=None, lower_bound=-0.9*V, detach_reset=False)",
        "the neurons of sinabs.from_torch.from_model; at the bound itself theirs has no slope",
    ),
    Line(
        "sinabs",
        "ExpLeak(tau_mem=tau)",
        "LI(1/(1-k), learn_tau=True)",
        "as it is made: tau_mem is trained, -1/ln(sigmoid(leak_logit))",
    ),
    Line("sinabs", "ExpLeak(tau_mem=tau, norm_input=True)", "LI(1/(1-k), gain=1-k)", _KEPT),
    Line(
        "sinabs",
        "ALIF(tau_mem=tau, tau_adapt=q, adapt_scale=a, spike_threshold=V)",
        "ALIF(1/(1-k), 1/(1-r), (1-r)*a, gain=1-k, threshold=V, moving_reset=True, detach_reset=False)",
        f"{_KEPT} and a slope that does not depend on the threshold; theirs passes no gradient from it to its spikes",
    ),
    Line(
        "sinabs",
        "ALIF(tau_mem=tau, tau_adapt=q, tau_syn=n, adapt_scale=a, spike_threshold=V)",
        "ALIF(1/(1-k), 1/(1-r), (1-r)*a, gain=j*(1-k), tau_syn=1/(1-j*(1-k)), threshold=V, moving_reset=True, "
        "detach_reset=False)",
        f"{_KEPT}; its current keeps what is scaled, so that it leaks j (1-k)",
    ),
)
"""Neurons of sinabs with several spikes in a step, bounds, synaptic currents, trained leaks and moving thresholds."""

NORSE = (
    Line(
        "Norse",
        "LIFCell(LIFParameters(tau_mem_inv=1000*g, tau_syn_inv=1000*d, v_th=V, v_leak=c, v_reset=c))",
        'CUBALIF(1/g, 1/d, current_gain=g, threshold=V-c, reset="zero", detach_reset=False, strict=True)',
        "dt = 0.001; LIF too; potentials are measured from c",
    ),
    Line(
        "Norse",
        "LICell(LIParameters(tau_mem_inv=1000*g, tau_syn_inv=1000*d))",
        "LI(1/g, tau_syn=1/d, current_gain=g)",
        "dt = 0.001; LI too",
    ),
    Line("Norse", "LIBoxCell(LIBoxParameters(tau_mem_inv=1000*g))", "LI(1/g, gain=g)", "dt = 0.001"),
)
"""Neurons of Norse with a synaptic current, and integrators."""

LAYERS = (
    Line(
        "sinabs",
        "LIFRecurrent(tau, rec_connect=f)",
        'Recurrent(LIF(1/(1-k), gain="1/tau", learn_tau=True, max_spikes=None, detach_reset=False), f)',
        "IAFRecurrent and ALIFRecurrent as IAF and ALIF",
    ),
    Line(
        "Norse",
        "LIFRecurrentCell(M, N, p)",
        "Sequential(Linear(M, N), Recurrent(CUBALIF(..., detach_reset=True), Linear(N, N)))",
        "without biases; LIFRecurrent too; the weights are the same parameters",
    ),
    Line(
        "Norse",
        "LSNNCell(p)",
        'Sequential(SynapticDelay((1,), 2, 1.0), ALIF(1/g, 1/h, (1-h)*b, threshold=V-c, reset="zero", strict=True, '
        "tau_syn=1/d, current_gain=g, detach_reset=False))",
        "its input comes one step late, so that SLTT and OTTT send no error before it; LSNN too",
    ),
)
"""Layers of sinabs and Norse that feed their spikes back to themselves, or whose input comes late."""
