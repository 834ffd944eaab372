"""Pages and help say of other libraries what the mapping table says, and every neuron there is shown somewhere."""

import pytest

import spikewright as sw
from spikewright.interop.table import LINES, RECURRENT, SURROGATES
from tests.interop import pages


@pytest.mark.parametrize("path", pages.files(), ids=lambda path: path.name)
def test_tables_are_those_of_the_mapping(path: pages.Path) -> None:
    assert path.read_text() == pages.files()[path], "python -m tests.interop.pages"


def test_every_line_is_on_its_page() -> None:
    for line in (*LINES, *RECURRENT, *SURROGATES):
        text = pages.PAGES[line.library].read_text()
        assert pages.code(line.theirs) in text and pages.code(line.ours) in text


def test_every_neuron_with_a_line_shows_it_in_its_help() -> None:
    for line in LINES:
        name = line.ours.partition("(")[0]
        if name in pages.NEURONS:
            said = " ".join((getattr(sw, name).__doc__ or "").split())
            assert " ".join(f"{pages.code(line.theirs)}".split()) in said and pages.code(line.ours) in said


def test_a_changed_line_changes_page_and_help() -> None:
    line = LINES[0]
    text = pages.PAGES[line.library].read_text()
    assert pages.with_tables(line.library, text.replace(line.ours, "LIF(tau)")) == pages.with_tables(line.library, text)
