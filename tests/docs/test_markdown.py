"""Mathematics of pages and docstrings becomes MathML; tables, doctests and labels of docstrings become Markdown."""

import pytest

markdown = pytest.importorskip("markdown")
pytest.importorskip("latex2mathml")
pytest.importorskip("pymdownx")

BLOCK = """Text.

.. math::
    a &= b \\\\
    c &= d

After."""

TABLE = """=====  ======
name   what
=====  ======
a      first
       line
b      x|y
=====  ======"""


def html(text: str) -> str:
    return markdown.markdown(
        text, extensions=["tables", "pymdownx.superfences", "docs._tools.docstrings", "docs._tools.mathml"]
    )


@pytest.mark.parametrize("text", [r"With :math:`\lambda_l` the leak.", r"With $\lambda_l$ the leak."])
def test_a_formula_in_a_line_is_mathml(text: str) -> None:
    assert "<math" in html(text) and "<msub>" in html(text)
    assert "$" not in html(text) and ":math:" not in html(text) and "the leak." in html(text)


def test_a_formula_on_lines_of_its_own_is_mathml_between_paragraphs() -> None:
    got = html(BLOCK)
    assert got.count("<math") == 1 and got.count("<mtr>") == 2 and ".. math" not in got
    assert got.index("Text.") < got.index("<math") < got.index("After.")


@pytest.mark.parametrize("latex", [r"\nosuchcommand x", r"\begin{gathered} a & b \end{gathered}"])
def test_what_cannot_be_converted_is_refused(latex: str) -> None:
    with pytest.raises(ValueError, match="cannot be converted to MathML"):
        html(f"Text ${latex}$.")


def test_a_fence_of_math_is_mathml_and_other_fences_stay() -> None:
    got = html("```math\nx^2\n```\n\n```python\ny = '$a$ :math:`b`'\n```\n")
    assert got.count("<math") == 1 and "<msup>" in got and "$a$" in got


def test_prices_and_code_are_no_formulas() -> None:
    assert "<math" not in html("It costs $5 or $6, `$HOME` and `a$b$c`.")


def test_a_table_with_borders_of_equals_signs_is_a_table() -> None:
    got = html(TABLE)
    assert got.count("<tr>") == 3 and "<td>first line</td>" in got and "<td>x|y</td>" in got and "===" not in got


def test_a_doctest_is_code_and_a_label_begins_a_paragraph() -> None:
    got = html("Exact when: it is.\nCost: little,\nat most.\n\n>>> 1 + 1\n2\n")
    assert "<p><strong>Exact when:</strong> it is.</p>\n<p><strong>Cost:</strong> little,\nat most.</p>" in got
    assert "blockquote" not in got and "<code>" in got and "&gt;&gt;&gt;" in got
