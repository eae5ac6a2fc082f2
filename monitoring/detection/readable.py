"""Whether the rows of a window can be compared with the reference of a model: files, columns, types and values.

What is wrong is an UnreadableWindowError: one sentence that names file, column, what was expected and found, and what
to do next.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from common.errors import SourceError
from common.exit_status import UNREADABLE
from common.stored_files import schema_of
from features.encoding.histograms import Days, Histograms
from features.encoding.window_rows import counting_engine, files_of, read_window
from features.engine import sql
from features.engine.protocol import Engine
from features.schema import Column, DType, Kind, Role, Schema, TaskKind
from models.model_folder import Model

IDS = (Role.EVENT_ID, Role.USER, Role.ITEM)
TIMES = "timestamp '0001-01-01 00:00:00' and timestamp '9999-12-31 00:00:00'"  # no infinite ones
SHOWN = 5  # wrong values that a sentence names
WORDS = {
    DType.INT8: "an integer",
    DType.INT64: "an integer",
    DType.FLOAT32: "a number",
    DType.STRING: "text",
    DType.TIMESTAMP: "a timestamp (UTC, without a zone)",
    DType.INT64_LIST: "a list of integers",
    DType.STRING_LIST: "a list of texts",
    DType.FLOAT32_LIST: "a list of numbers",
}
REMEDY = "Write the window as the pipeline does (data/training, monitoring.impression_window), with the declared types."


class UnreadableWindowError(SourceError):
    """The window cannot be read: it is no Parquet, or not of the schema of the model."""

    exit_status = UNREADABLE


@contextmanager
def refusing_unreadable(rows: Path) -> Iterator[None]:
    """Turn an error of DuckDB or Arrow about the content of `rows` into an UnreadableWindowError."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException) as error:
        raise UnreadableWindowError(f"{rows} cannot be read: {_first_line(error)}. {REMEDY}") from error


def check_window(
    rows: Path, model: Model, reference: Histograms, days: Days | None = None, engine: Engine | None = None
) -> None:
    """Raise UnreadableWindowError where the rows (of these days) in the Parquet file(s) are no window of this model.

    Where there is no file it is a SourceError.
    """
    for path in _files(rows):
        fields = _fields(path)
        _check_columns(path, fields, model, reference)
        _check_types(path, fields, model, reference)
    with refusing_unreadable(rows), counting_engine(engine) as opened:
        read_window(opened, "__checked", rows, model.schema, days)
        _check_values(rows, opened, model, set(fields))


def _files(rows: Path) -> list[str]:
    """The files of the window; raises SourceError where there is none: no window, rather than an unreadable one."""
    files = files_of(rows)
    if not files:
        raise SourceError(
            f"{rows} does not exist: --current is a Parquet file with the columns of the training set, or a pattern "
            "of such files in quotes, e.g. --current 'data/training/*.parquet'"
        )
    for path in files:
        if Path(path).is_dir():
            raise UnreadableWindowError(
                f"{path} is a folder, expected a Parquet file: for all the files in it use --current '{path}/*.parquet'"
            )
    return files


def _fields(path: str) -> dict[str, pa.DataType]:
    """The types of the columns of a Parquet file, by name."""
    try:
        schema = schema_of(path)
    except (pa.ArrowException, OSError) as error:
        empty = Path(path).is_file() and not Path(path).stat().st_size
        actual = "an empty file" if empty else _first_line(error)
        raise UnreadableWindowError(
            f"{path} cannot be read as Parquet: {actual}. Write the rows of the window as Parquet, with the columns of "
            "the training set"
        ) from error
    return {field.name: field.type for field in schema}


def _check_columns(path: str, fields: dict[str, pa.DataType], model: Model, reference: Histograms) -> None:
    missing = _needed(model.schema, reference) - fields.keys()
    if missing:
        raise UnreadableWindowError(
            f"{path} has no columns {sorted(missing)}, which {model.name} {model.tag} was trained on: use a window of "
            "the same schema, or the model that was trained on this one"
        )


def _needed(schema: Schema, reference: Histograms) -> set[str]:
    """Names of the columns that a comparison reads."""
    keys = (schema.timestamp, schema.event_id, schema.user, schema.item, schema.scenario)
    return {*keys, *schema.task_names, *(bins.source_column for bins in reference.bins)}


def _check_types(path: str, fields: dict[str, pa.DataType], model: Model, reference: Histograms) -> None:
    needed = _needed(model.schema, reference)
    classes = frozenset(task.name for task in model.schema.tasks if task.kind is TaskKind.MULTI_CLASS)
    for column in _columns(model):
        actual = fields.get(column.name)
        if column.name in needed and actual is not None and not _fits(column, actual, classes):
            raise UnreadableWindowError(
                f"{path}: column {column.name} is {WORDS[column.dtype]} ({column.dtype}) in the schema of "
                f"{model.name} {model.tag}, found {actual}. {REMEDY}"
            )
    for name in (f"score_{output}" for output in model.schema.output_names):
        if name in fields and not _is_number(fields[name]):
            raise UnreadableWindowError(f"{path}: column {name} is a number, found {fields[name]}. {REMEDY}")


def _columns(model: Model) -> tuple[Column, ...]:
    """The columns of the training set."""
    return (*model.schema.events, *(column for view in model.views for column in view.columns))


def _fits(column: Column, actual: pa.DataType, classes: frozenset[str]) -> bool:
    """Whether values of the type `actual` are read as those of the column; `classes` are labels that are no rates."""
    types = pa.types
    if types.is_dictionary(actual):
        actual = actual.value_type
    if column.dtype in _ELEMENTS:
        is_list = types.is_list(actual) or types.is_large_list(actual) or types.is_fixed_size_list(actual)
        return bool(is_list and _ELEMENTS[column.dtype](actual.value_type))
    if column.dtype is DType.STRING:
        return _is_text(actual)
    if column.dtype is DType.TIMESTAMP:
        return types.is_timestamp(actual) and actual.tz is None
    if column.kind is Kind.CATEGORICAL or column.role in IDS or column.name in classes:
        return bool(types.is_integer(actual))
    return _is_number(actual)


def _is_text(actual: pa.DataType) -> bool:
    return bool(pa.types.is_string(actual) or pa.types.is_large_string(actual))


def _is_number(actual: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(actual) or types.is_floating(actual) or types.is_boolean(actual))


_ELEMENTS: dict[DType, Callable[[pa.DataType], bool]] = {
    DType.INT64_LIST: pa.types.is_integer,
    DType.STRING_LIST: _is_text,
    DType.FLOAT32_LIST: _is_number,
}


def _check_values(rows: Path, engine: Engine, model: Model, present: set[str]) -> None:
    """Raise UnreadableWindowError where a value of the relation `__checked` cannot be read as one of its column."""
    rules = [rule for rule in _rules(model) if rule.column in present]
    counts = ", ".join(f"count(case when coalesce({rule.holds}, false) then null else 1 end)" for rule in rules)
    (broken,) = engine.rows(f"select {counts} from __checked")
    for rule, count in zip(rules, broken, strict=True):
        if count:
            column = sql.column(rule.column)
            values = engine.rows(
                f"select distinct {column} from __checked where not coalesce({rule.holds}, false) "
                f"order by {column} limit {SHOWN}"
            )
            actual = ", ".join("null" if value is None else repr(value) for (value,) in values)
            raise UnreadableWindowError(
                f"{rows}: column {rule.column} is {rule.expected}, found {actual} in {count:,} rows. {REMEDY}"
            )


@dataclass(frozen=True, kw_only=True)
class ValueRule:
    """What a value of a column must be, in words and as a condition in SQL; null breaks the condition."""

    column: str
    expected: str
    holds: str


def _rules(model: Model) -> Iterator[ValueRule]:
    schema = model.schema
    timestamp, scenario = sql.column(schema.timestamp), sql.column(schema.scenario)
    yield ValueRule(column=schema.timestamp, expected="a timestamp in every row", holds=f"{timestamp} between {TIMES}")
    names = ", ".join(map(sql.literal, schema.scenarios))
    yield ValueRule(
        column=schema.scenario,
        expected=f"one of the scenarios {list(schema.scenarios)} of {model.name} {model.tag}",
        holds=f"{scenario} in ({names})",
    )
    for task in schema.tasks:
        if task.name in schema.regressed:
            yield _is_finite(task.name, "a number or null (not observed)")
            continue
        classes = task.classes or (0, 1)
        allowed = ", ".join(sql.literal(value) if isinstance(value, str) else str(value) for value in classes)
        name = sql.column(task.name)
        yield ValueRule(
            column=task.name,
            expected=f"a label: {', '.join(map(str, classes))} or null (not observed)",
            holds=f"({name} is null or {name} in ({allowed}))",
        )
    for output in schema.output_names:
        name = sql.column(f"score_{output}")
        if output in schema.regressed:
            yield _is_finite(f"score_{output}", "a number, or null")
            continue
        yield ValueRule(column=f"score_{output}", expected="a probability", holds=f"{name}::double between 0 and 1")


def _is_finite(column: str, expected: str) -> ValueRule:
    name = sql.column(column)
    return ValueRule(
        column=column, expected=expected, holds=f"({name} is null or abs({name}::double) < 'infinity'::double)"
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")
