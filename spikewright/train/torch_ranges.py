"""Ranges of the arguments of torch's optimizers and schedules, few of which torch checks."""

from spikewright._util.ranges import check_numbers

_RANGES = {
    "[0, inf)": (
        *("weight_decay", "lambd", "alpha", "t0", "momentum_decay"),
        *("gamma", "power", "base_lr", "max_lr", "min_lr", "eta_min", "threshold", "eps", "patience", "cooldown"),
    ),
    "[0, 1]": ("dampening", "factor", "start_factor", "end_factor", "pct_start"),
    "[0, 1)": ("momentum", "base_momentum", "max_momentum"),
    "[1, inf)": ("step_size", "T_max", "T_0", "T_mult", "total_iters", "total_steps", "steps_per_epoch", "milestones"),
    "(0, inf)": ("step_sizes", "step_size_up", "step_size_down", "div_factor", "final_div_factor"),
    "[1, 99]": ("ns_steps",),
}
"""Arguments by the interval that they, or their entries, have to be in; beyond it a run ends, and learned nothing."""


def check_torch_range(owner: str, name: str, value: object) -> None:
    """Raise `ConfigError` if an argument of one of torch's classes, or an entry of it, is out of its range.

    Args:
        owner: Name of the class.
        name: Name of the argument; one that has no range here passes.
        value: Value of the argument.
    """
    for interval, names in _RANGES.items():
        if name in names:
            for entry in value if isinstance(value, tuple) else (value,):
                check_numbers(owner, interval, optional=True, **{name: entry})
