"""The tables of neurons of other libraries, in the pages on coming from them and in the help of neurons.

Both are made of `spikewright.interop.table`.  Run as a module, this file writes them anew:

    python -m tests.interop.pages
"""

import re
from pathlib import Path
from textwrap import fill, indent

from spikewright.interop.table import LINES, RECURRENT, SURROGATES, SYMBOLS, Line

ROOT = Path(__file__).parent.parent.parent
PAGES = {
    name: ROOT / "docs" / f"coming-from-{name.lower()}.md" for name in ("SpikingJelly", "snnTorch", "sinabs", "Norse")
}
NEURONS = {
    "LIF": "leaky",
    "IF": "integrate_fire",
    "CUBALIF": "current_based",
    "ALIF": "adaptive",
    "LI": "integrator",
}
"""Files of the neurons whose help has a table, by name of the class."""
WHOLE = {"break_long_words": False, "break_on_hyphens": False}
BEGIN = "    **Elsewhere**\n\n"
"""What stands in front of the list in the help of a neuron; an empty line ends it."""
OF_NIR = {"LIF": ('NIR `LIF(tau=tau*dt, r=gain*tau)`, with Euler steps of dt: `LIF(tau, gain=gain, reset="zero")`.',)}
"""Items about a format, which `spikewright.interop.from_nir` reads."""


def code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def page_table(lines: tuple[Line, ...], library: str) -> str:
    """Return the table of a library, with the meaning of its symbols below."""
    own = [line for line in lines if line.library == library]
    rows = [f"| {code(line.theirs)} | {code(line.ours)} | {line.note} |" for line in own]
    words = re.findall(r"\w+", " ".join(f"{line.theirs} {line.ours} {line.note}" for line in own))
    used = {symbol: said for symbol, said in SYMBOLS.items() if symbol.split("(")[0] in words}
    legend = "; ".join(f"`{symbol}` {said}" for symbol, said in used.items())
    table = "| theirs | here | note |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    return table + (f"\nSymbols: {legend}.\n" if legend else "")


def help_list(neuron: str) -> str:
    """Return the list in the help of a neuron; empty if no other library has it."""
    items = [
        f"{line.library} {code(line.theirs)}{f' ({line.note})' if line.note else ''}: {code(line.ours)}."
        for line in LINES
        if line.ours.startswith(f"{neuron}(")
    ]
    wrapped = (
        fill(i, 116, initial_indent="- ", subsequent_indent="  ", **WHOLE) for i in (*items, *OF_NIR.get(neuron, ()))
    )
    return indent("\n".join(wrapped), "    ") + "\n"


def with_tables(library: str, text: str) -> str:
    """Return a page with its tables made anew."""
    for name, lines in (("neurons", LINES), ("recurrent", RECURRENT), ("surrogates", SURROGATES)):
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        before, rest = text.split(begin)
        text = before + begin + page_table(lines, library) + end + rest.split(end)[1]
    return text


def with_help(neuron: str, source: str) -> str:
    """Return the source of a neuron with the list of its help made anew."""
    return re.sub(re.escape(BEGIN) + r"(?:    .+\n)+", lambda _: BEGIN + help_list(neuron), source)


def files() -> dict[Path, str]:
    """Return every file with a table, and what it has to be."""
    found = {path: with_tables(library, path.read_text()) for library, path in PAGES.items()}
    for neuron, name in NEURONS.items():
        path = ROOT / "spikewright" / "neurons" / f"{name}.py"
        found[path] = with_help(neuron, path.read_text())
    return found


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
