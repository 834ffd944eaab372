"""A notebook as Markdown: its cells, and what they print and draw when they are run."""

import ast
import contextlib
import io
import os
import re
from pathlib import Path

CELL = re.compile(r"^# %%(.*)$", re.MULTILINE)


def cells(text: str) -> list[tuple[str, str]]:
    """Return kind and source of the cells of a script in the percent format."""
    parts = CELL.split(text)[1:]
    found = []
    for mark, source in zip(parts[::2], parts[1::2]):
        if "[markdown]" in mark:
            found.append(("markdown", re.sub(r"^# ?", "", source.strip(), flags=re.MULTILINE)))
        else:
            found.append(("code", source.strip()))
    return found


def run(source: str, scope: dict[str, object]) -> tuple[str, object]:
    """Run a cell; return what it printed, and the value of its last line if that is an expression."""
    value, body = None, ast.parse(source).body
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(ast.Module(body[:-1], []), "<cell>", "exec"), scope)
        for last in body[-1:]:
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), scope)
            else:
                exec(compile(ast.Module([last], []), "<cell>", "exec"), scope)
    return printed.getvalue(), value


def as_markdown(script: Path, figures: Path) -> str:
    """Run a script cell by cell; return the page, whose figures are saved in a folder."""
    os.environ.setdefault("MPLBACKEND", "agg")
    scope: dict[str, object] = {"__name__": "__main__"}
    parts = []
    for number, (kind, source) in enumerate(cells(script.read_text())):
        if kind == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        printed, value = run(source, scope)
        if hasattr(value, "savefig"):
            figures.mkdir(parents=True, exist_ok=True)
            name = f"{script.stem}-{number}.svg"
            value.savefig(figures / name)  # type: ignore[union-attr]
            parts.append(f"![Figure of the cell above]({figures.name}/{name})")
        elif value is not None:
            printed += f"{value!r}\n"
        if printed:
            parts.append(f"```text\n{printed.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
