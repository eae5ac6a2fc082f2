"""The options of a command, read from its source text."""

import ast
from pathlib import Path
from textwrap import dedent

import pytest

from docs.generator.arguments import Option, constants, parser_options, signature_options, text_of

pytestmark = pytest.mark.unit

FUNCTION = '''
    OUT = Path("artifacts") / "x"

    def work(*, rows: int, paths: list[Path], out: Path = OUT, day: date | None = None, again: bool = False) -> None:
        """Do the work.

        Args:
            rows: how many.
        """
'''
PARSER = """
    OUT, DAYS = Path("reports"), (1, 2)
    parser = argparse.ArgumentParser()
    parser.add_argument("--as-of", type=datetime.date.fromisoformat, help="a date")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder ({OUT})")
    parser.add_argument("--days", type=int, choices=DAYS, required=True)
    parser.add_argument("--again", action="store_true")
"""


def parsed(text: str) -> tuple[ast.Module, dict]:
    """The tree of a source text, and its constants."""
    tree = ast.parse(dedent(text))
    return tree, constants(Path(), tree)


def test_a_keyword_is_an_option() -> None:
    """Name, type, default (a constant is replaced by its value) and meaning come from the signature and `Args:`."""
    tree, names = parsed(FUNCTION)
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    assert list(signature_options(function, names)) == [
        Option("--rows", "integer", "required", "how many."),
        Option("--paths", "path, may be repeated", "required", ""),
        Option("--out", "path", "`artifacts/x`", ""),
        Option("--day", "date", "", ""),
        Option("--again", "flag", "", ""),
    ]
    assert text_of(ast.get_docstring(function) or "") == "Do the work."


def test_a_call_of_add_argument_is_an_option() -> None:
    """Type, choices, default and help are read; constants inside of a help are replaced."""
    assert list(parser_options(*parsed(PARSER))) == [
        Option("--as-of", "date", "", "a date"),
        Option("--out", "path", "`reports`", "folder (reports)"),
        Option("--days", "`1`, `2`", "required", ""),
        Option("--again", "flag", "", ""),
    ]


def test_a_constant_may_come_from_another_module(tmp_path: Path) -> None:
    """A constant that is imported from a module of the project has its value there."""
    (tmp_path / "other.py").write_text("SIZE = 7\n")
    tree = ast.parse("from other import SIZE as MOST\nTWICE = 2 * MOST\n")
    assert constants(tmp_path, tree)["TWICE"] == 14
