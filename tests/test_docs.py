"""The documents say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supervisor.lifecycle import diagram

PROJECT = Path(__file__).parent.parent


def test_diagram_is_printed_from_the_table() -> None:
    """The state diagram in the architecture is the one that the table prints."""
    text = (PROJECT / "docs" / "architecture.md").read_text()
    assert f"<!-- diagram -->\n```mermaid\n{diagram()}\n```\n<!-- /diagram -->" in text


def test_readme_is_short_and_has_its_two_commands() -> None:
    """The README keeps to 120 lines and to two commands to copy, which CI runs as they stand."""
    text = (PROJECT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert re.findall(r"<!-- command: (\w+) -->\n```sh\n[^\n]+\n```", text) == ["example", "test"]


@pytest.mark.parametrize("document", [*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")], ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    """Each relative link in a document leads to a file of the project."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target
