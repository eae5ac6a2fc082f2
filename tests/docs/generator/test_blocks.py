"""Generated blocks inside of files that are written by hand."""

from pathlib import Path

import pytest

from docs.generator.blocks import decisions_nav, replaced

pytestmark = pytest.mark.unit


def test_a_block_is_replaced_and_nothing_else() -> None:
    """The lines between the marks are replaced; those of the next block stay, also where the first is empty."""
    text = "a\n<!-- one -->\n<!-- end -->\nb\n<!-- two -->\nold\n<!-- end -->\nc\n"
    assert replaced(text, "one", "new", "x.md") == text.replace("<!-- one -->\n", "<!-- one -->\nnew\n")
    assert replaced(text, "two", "new", "x.md") == text.replace("old", "new")


def test_a_block_of_yaml_has_comments_for_marks() -> None:
    """The indentation of the marks stays."""
    text = "nav:\n    # pages\n    - old\n    # end\n"
    assert replaced(text, "pages", "    - new", "mkdocs.yml") == text.replace("old", "new")


def test_a_file_without_the_marks_is_an_error_that_names_both() -> None:
    """Nothing is written beside the marks."""
    with pytest.raises(ValueError, match=r"x\.md has no block one: expected a line `<!-- one -->`"):
        replaced("<!-- two -->\n<!-- end -->\n", "one", "new", "x.md")


def test_decisions_are_listed_by_number_with_their_titles(tmp_path: Path) -> None:
    """A numbered page is listed under its first heading; the index is not."""
    folder = tmp_path / "docs" / "decisions"
    folder.mkdir(parents=True)
    for name, title in (("0002-b.md", 'Say "b"'), ("0001-a.md", "A first"), ("index.md", "Decisions")):
        (folder / name).write_text(f"# {title}\n\nText.\n")
    lines = decisions_nav(tmp_path).splitlines()
    assert lines == ['      - "A first": decisions/0001-a.md', "      - \"Say 'b'\": decisions/0002-b.md"]
