"""The tables of neurons of other libraries, in the pages on coming from them and in the help of neurons.

Both are made of `spikewright.interop.table`.  Run as a module, this file writes them anew:

    python -m tests.interop.pages
"""

import re
from pathlib import Path

from spikewright.interop.table import LINES, SURROGATES, SYMBOLS, Line

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
HEAD = "| Elsewhere | Here |\n|---|---|\n"
OF_NIR = {"LIF": [("NIR `LIF(tau=tau*dt, r=gain*tau)`, Euler steps of dt", '`LIF(tau, gain=gain, reset="zero")`')]}
"""Lines about a format, which `spikewright.interop.from_nir` reads."""


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


def help_table(neuron: str) -> str:
    """Return the table of the help of a neuron; empty if no other library has it."""
    own = [line for line in LINES if line.ours.startswith(f"{neuron}(")]
    rows = [
        (f"{line.library} {code(line.theirs)}" + (f"; {line.note}" if line.note else ""), code(line.ours))
        for line in own
    ]
    rows += OF_NIR.get(neuron, [])
    return HEAD + "".join(f"| {theirs} | {ours} |\n" for theirs, ours in rows) if rows else ""


def with_tables(library: str, text: str) -> str:
    """Return a page with its tables made anew."""
    for name, lines in (("neurons", LINES), ("surrogates", SURROGATES)):
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        before, rest = text.split(begin)
        text = before + begin + page_table(lines, library) + end + rest.split(end)[1]
    return text


def with_help(neuron: str, source: str) -> str:
    """Return the source of a neuron with the table of its help made anew."""
    table = "".join(f"    {line}\n" for line in help_table(neuron).splitlines())
    return re.sub(r"    \| Elsewhere \| Here \|\n(?:    \|.*\n)+", lambda _: table, source)


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
