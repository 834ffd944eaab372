"""Formulas of docstrings as plain text."""

import re

_STEPS = (
    (r"\\(?:mathrm|mathcal|text)\s*\{?([\w-]+)\}?", r"\1"),
    (r"\\frac\{([^{}]+)\}\{([^{}]+)\}", r"\1/\2 "),
    (r"\\sqrt\{([^{}]+)\}", r"sqrt(\1)"),
    (r"\\top\b", "T"),
    (r"\\leftarrow\b", "<-"),
    (r"\\le\b", "<="),
    (r"\\[,;] ?", " "),
    (r"_\{([^{}]+)\}", r"_\1"),
    (r"\{([^{}]+)\}", r"(\1)"),
    (r"\\", ""),
    (r" {2,}", " "),
)
"""What is replaced, and by what, one after the other; of other macros the name stays."""


def without_tex(text: str) -> str:
    r"""Return a sentence with its formulas as one would type them.

    >>> without_tex(r"Uniform within :math:`1 / \\sqrt{\\text{fan-in}}`, for :math:`|x| \\le \\frac{\\pi}{2}`.")
    'Uniform within 1 / sqrt(fan-in), for |x| <= pi/2.'
    """
    return re.sub(r":math:`([^`]+)`", lambda match: _plain(match[1]), text)


def _plain(formula: str) -> str:
    for pattern, replacement in _STEPS:
        formula = re.sub(pattern, replacement, formula)
    return formula.strip()
