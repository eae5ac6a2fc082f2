"""YAML is the same for the project and for DVC, and a text that is none is refused with file, line and rule."""

import contextlib
import difflib
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dvc.api
import pytest
from dvc.repo import Repo
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import ParseError, dumps_yaml, parse_yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common import params, yaml_file
from common.errors import ParameterError
from common.paths import ROOT
from common.yaml_file import dump_yaml, line_of, read_yaml

pytestmark = pytest.mark.unit
TEXT_OF_SCALARS = (
    "1e-05 1e5 1E+5 .5 5. 1_000 1_0.0 0123 09 0o17 0x1F 0b11 +1 -0 yes no on off y n true True TRUE tRuE null ~ Null "
    ".inf -.INF .nan 12:30:10 190:20:30 2026-01-05 2026-1-5 2026-01-05T10:00:00Z 2026-01-05T10:00:00+09:00 1,000"
)
SCALARS = TEXT_OF_SCALARS.split()
BROKEN = {
    "duplicate key": (b"a: 1\nb: 1\na: 2\n", 3, 'duplicate key "a"'),
    "tab": (b"a:\n\tb: 1\n", 2, "a tab, where YAML has blanks"),
    "unclosed": (b"a: 1\nb: [1, 2\n", 3, "expected"),
    "two documents": (b"a: 1\n---\nb: 1\n", 2, "but found another document"),
    "unknown anchor": (b"a: 1\nb: *c\n", 2, "undefined alias"),
    "unknown tag": (b"a: !!python/object:os.system x\n", 1, "tag"),
    "bytes": (b"a: 1\nb: \xff\xfe\n", 2, "UTF-8 text, found the byte 0xff"),
}
WITHOUT_LINE = {
    "empty": (b"", "is empty"),
    "comments only": (b"# a: 1\n", "is empty"),
    "list": (b"- 1\n", "mapping, .* found list"),
    "text": (b"hello\n", "mapping, .* found str"),
    "number of 5000 digits": (b"a: " + b"9" * 5000, "not YAML"),
    "no such date": (b"a: 2026-02-30\n", "not YAML"),
    "wrong tag": (b"a: !!int x\n", "not YAML"),
    "null byte": (b"a: \x00\n", "not YAML"),
}


def overridden(tmp_path: Path, *overrides: str) -> list[str]:
    """The lines of params.yaml that `dvc exp run -S` changes: those with a minus, then those with a plus."""
    path = tmp_path / "params.yaml"
    before = (ROOT / "params.yaml").read_text()
    path.write_text(before)
    apply_overrides(path, list(overrides))
    changes = difflib.unified_diff(before.splitlines(), path.read_text().splitlines(), lineterm="", n=0)
    return [line for line in changes if line[0] in "+-" and not line.startswith(("+++", "---"))]


def leaves(plain: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of everything in `plain` that is no mapping with keys."""
    for name, value in plain.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def test_dvc_reads_the_same_values(tmp_path: Path) -> None:
    """`dvc.api.params_show` gives for every kind of scalar the value and the type that the project reads."""
    path = tmp_path / "params.yaml"
    path.write_text("".join(f"k{number}: {scalar}\n" for number, scalar in enumerate(SCALARS)))
    with contextlib.chdir(tmp_path):
        Repo.init(no_scm=True)
        shown = dvc.api.params_show("params.yaml")
    assert repr(read_yaml(path)) == repr(shown)
    read = dict(zip(SCALARS, shown.values(), strict=True))
    assert read["1e-05"] == 1e-05
    assert (read["0123"], read["yes"], read["1_000"], read["0o17"]) == (123, "yes", 1000, 15)


@given(st.text("0123456789_.:+-eExobaftruynsTZ~ ", max_size=14))
@example("1e-05")
def test_any_scalar_is_read_as_dvc_reads_it(scalar: str) -> None:
    """Value and type are those of DVC, or both refuse the text."""
    text = f"key: {scalar}\n"
    try:
        expected: Any = parse_yaml(text, "params.yaml")
    except (ParseError, ValueError):
        with pytest.raises(ParameterError):
            yaml_file.parse_yaml(text, "params.yaml")
    else:
        assert repr(yaml_file.parse_yaml(text, "params.yaml") or {}) == repr(expected)


TEXT = st.text(string.ascii_letters + string.digits + string.punctuation + " éж日", max_size=8) | st.sampled_from(
    SCALARS
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60)
@given(st.dictionaries(TEXT, PLAIN, min_size=1, max_size=3))
def test_what_is_written_is_read_as_the_same(plain: dict[str, Any]) -> None:
    """Plain data written by the project is the same data for the project and for DVC, in the same order."""
    text = dump_yaml(plain)
    assert repr(yaml_file.parse_yaml(text, "x")) == repr(parse_yaml(text, "x")) == repr(plain)


@pytest.mark.parametrize(("content", "line", "rule"), BROKEN.values(), ids=BROKEN)
def test_a_broken_text_is_refused_with_its_line(tmp_path: Path, content: bytes, line: int, rule: str) -> None:
    """The message has the file, the line and the rule that is broken."""
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParameterError, match=rf"params\.yaml, line {line}: .*({rule})"):
        params.load(path)


@pytest.mark.parametrize(("content", "rule"), WITHOUT_LINE.values(), ids=WITHOUT_LINE)
def test_a_text_of_another_kind_is_refused(tmp_path: Path, content: bytes, rule: str) -> None:
    """An empty file, a list, text, and values that nothing can hold are refused with the file's name."""
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParameterError, match=rf"params\.yaml.* {rule}"):
        params.load(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder in the place of params.yaml is an error that says so."""
    with pytest.raises(ParameterError, match="cannot be read: Is a directory"):
        params.load(tmp_path)


def test_a_byte_order_mark_and_anchors_are_read(tmp_path: Path) -> None:
    """A text with a byte order mark, and one with anchors and merged keys, is read as DVC reads it."""
    path = tmp_path / "params.yaml"
    path.write_text("\ufeffa: &a {x: 1}\nb: {<<: *a, y: 2}\n", encoding="utf-8")
    assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 1, "y": 2}} == parse_yaml(path.read_text("utf-8"), path)


@given(st.binary(max_size=60) | st.text("-:[]{}&*!|>'\"#%@`,? \n\tab1", max_size=60).map(str.encode))
@example(b"a: &x {b: *x}")
@example(b"[" * 5000)
@example(b"? [a]\n: 1")
def test_no_text_ends_in_another_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever the bytes are: a ParameterError that names the file."""
    path = tmp_path_factory.getbasetemp() / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParameterError, match=r"params\.yaml"):
        params.load(path)


def test_a_value_has_its_line() -> None:
    """A value has the line on which it begins; one that is not there has that of what would hold it."""
    text = "a: 1\nb:\n  c:\n  - 5\n  - 6\n"
    assert [line_of(text, path) for path in (("a",), ("b", "c", 1), ("b", "d"))] == [1, 5, 3]


def test_a_small_number_that_dvc_writes_is_a_number(tmp_path: Path) -> None:
    """After `dvc exp run -S train.learning_rate=0.00001`, which writes 1e-05, params.yaml loads."""
    changes = overridden(tmp_path, "train.learning_rate=0.00001")
    assert changes == ["-  learning_rate: 0.002", "+  learning_rate: 1e-05"]
    assert params.load(tmp_path / "params.yaml").train.learning_rate == 1e-05


def test_parameters_that_dvc_sets_change_their_own_lines(tmp_path: Path) -> None:
    """`dvc exp run -S` of all parameters leaves all other lines of params.yaml, comments included, as they are."""
    parameters = dict(leaves(read_yaml(ROOT / "params.yaml")))
    numbers = {name: [1, 2] if isinstance(value, list) else "9_0" for name, value in parameters.items()}
    changes = overridden(tmp_path, *(f"{name}={value}" for name, value in numbers.items()))
    removed = [line[1:] for line in changes if line.startswith("-") and line != "-"]
    assert dict(leaves(read_yaml(tmp_path / "params.yaml"))) == {
        name: [1, 2] if isinstance(value, list) else 90 for name, value in parameters.items()
    }
    written = {f"{part}:" for name in parameters for part in name.split(".")}
    assert all(line.strip().startswith("- ") or line.split()[0] in written for line in removed)


def test_the_layout_is_that_of_dvc() -> None:
    """DVC's own way of writing YAML gives back the lists and mappings of params.yaml as they stand there."""
    lines = [line.split(" #")[0].strip() for line in (ROOT / "params.yaml").read_text().splitlines()]
    items = [line for line in dumps_yaml(read_yaml(ROOT / "params.yaml")).splitlines() if line.strip().startswith("- ")]
    assert [line for line in lines if line.startswith("- ")] == [line.strip() for line in items]
