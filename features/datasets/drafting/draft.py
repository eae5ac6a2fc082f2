"""The declaration of a log as text: each column on a line, with why it was guessed so, and what is to be decided."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.datasets.drafting import guesses, outcomes
from features.datasets.drafting.guesses import ROLE_WORDS, Guess
from features.datasets.drafting.impressions import Choice, Impressions, impressions_of
from features.datasets.drafting.profile import RawColumn, RawTable, raw_tables
from features.engine import sql
from features.schema import Role

DECIDE = "DECIDE: "
ZONE = "its zone (time_zone: Europe/Berlin beside files), if not UTC"


@dataclass(frozen=True, kw_only=True)
class Draft:
    """The text of a declaration, and the tables that it was made from."""

    text: str
    tables: list[RawTable]

    def summary(self, out: Path) -> str:
        """What was read, how many decisions are left, and what to do next."""
        decisions = self.text.count(DECIDE)
        files = sum(len(table.files.patterns) for table in self.tables)
        rows = sum(table.rows for table in self.tables)
        return (
            f"{out}: drafted from {files} files with {rows:,} rows; {decisions} decisions are yours (DECIDE). Then:\n"
            f"    dvc exp run -S dataset.name=declared -S dataset.path={out}"
        )


def draft_of(files: list[str], out: Path) -> Draft:
    """The draft for a log in `files`, whose paths are written relative to the folder of `out`.

    Raises SourceError where a file cannot be read, or no table may hold impressions.
    """
    tables = raw_tables(files)
    events = impressions_of(tables)
    rest = [table for table in tables if table is not events.table]
    name = out.absolute().parent.name or "log"
    lines = [f"name: {json.dumps(name)}", "events:", *_events_lines(events, out)]
    for role, column in ((Role.USER, events.user.column), (Role.ITEM, events.item.column)):
        table = _entity_table(rest, role, column)
        if table is not None:
            lines += ["", f"{role}s:", *_entity_lines(table[0], table[1], column, out)]
    return Draft(text="\n".join(lines) + "\n", tables=tables)


def _entity_table(tables: list[RawTable], role: Role, column: RawColumn) -> tuple[RawTable, RawColumn] | None:
    """The table with one row for each user (or item), and its key: the same name, or one that is the id's."""
    for table in tables:
        key = table.column(column.name) or guesses.id_of(table, ROLE_WORDS[role])
        if key is not None and key.is_unique:
            return table, key
    return None


def _events_lines(events: Impressions, out: Path) -> Iterator[str]:
    rest = events.features
    labels = {column.name: guess for column in rest if (guess := guesses.label_of(column))}
    rest = [column for column in rest if column.name not in labels]
    position = guesses.position_of(rest)
    scenario = guesses.scenario_of(column for column in rest if column is not position)
    features = [column for column in rest if column not in (position, scenario)]
    yield from _files_lines(events.table, out)
    yield f"  repeated_rows: keep # {DECIDE}drop, if equal rows are one impression that was logged several times"
    yield "  columns:"
    yield _line(_timestamp(events.timestamp))
    yield _line(_id(events.user, Role.USER))
    yield _line(_id(events.item, Role.ITEM))
    yield _line(_scenario(scenario, [one for one in features if not set(labels) & set(one.determines)]))
    yield from map(_line, _labels(list(labels.values())))
    if position is not None:
        yield _line(_position(position))
    yield from (_line(_feature_of_event(column, set(labels))) for column in features)


def _feature_of_event(column: RawColumn, labels: set[str]) -> Guess:
    if leaked := labels & set(column.determines):
        return Guess(name=column.name, keys=None, why=f"the label {min(leaked)} follows from it")
    if weight := outcomes.weight_of(column):
        return weight
    if outcomes.is_outcome(column):
        return outcomes.outcome_of(column)
    return guesses.feature_of(column)


def _entity_lines(table: RawTable, key: RawColumn, column: RawColumn, out: Path) -> Iterator[str]:
    yield from _files_lines(table, out)
    if key.name != column.name:
        yield f"  key: {_yaml(guesses.expression(key.name))} # the column of the id, {column.name} in the events"
    features = [guesses.feature_of(feature) for feature in table.columns if feature is not key]
    if all(guess.keys is None for guess in features):
        yield "  columns: {}"
    else:
        yield "  columns:"
    yield from map(_line, features)


def _files_lines(table: RawTable, out: Path) -> Iterator[str]:
    files = table.files
    yield f"  files: {json.dumps([_relative(file, out) for file in files.patterns])} # {table.rows:,} rows"
    if files.format:
        yield f"  format: {files.format}"
    if files.options:
        yield f"  read: {_yaml_mapping(dict(files.options))}"


def _relative(file: str, out: Path) -> str:
    return file if "://" in file else Path(os.path.relpath(Path(file).absolute(), out.absolute().parent)).as_posix()


def _timestamp(column: RawColumn | None) -> Guess:
    if column is None:
        return Guess(
            name="timestamp",
            keys={"role": "timestamp", "sql": "to_timestamp(1577836800 + __position)"},
            why="no column is a time: that of a row is its position",
            decide="where the time is; if nowhere, split at random and use no histories: "
            "-S join.split=random -S 'encode.sources=[impression,profile]'",
        )
    if column.time_format:
        expression = f"strptime({guesses.expression(column.name)}, {sql.literal(column.time_format)})"
        keys = {"role": "timestamp", "sql": expression}
        return Guess(name="timestamp", keys=keys, why=f"texts such as {column.examples[0]}", decide=ZONE)
    unit = guesses.unit_of(column)
    if unit is None:
        decide = "" if column.type == "TIMESTAMP WITH TIME ZONE" else ZONE
        why = f"{column.least} to {column.largest}"
        return Guess(name=column.name, keys={"role": "timestamp"}, why=why, decide=decide)
    return Guess(
        name="timestamp",
        keys={"role": "timestamp", "sql": guesses.UNITS[unit][1].format(guesses.expression(column.name))},
        why=f"{column.name} is a number: {unit} since 1970",
        decide="" if column.words & guesses.TIME_WORDS else f"whether {column.name} is the time of the impression",
    )


def _id(choice: Choice, role: Role) -> Guess:
    column = choice.column
    dtype = "int64" if column.is_integer else "string"
    return Guess(name=column.name, keys={"role": role.value, "type": dtype}, why=choice.why, decide=choice.decide)


def _scenario(column: RawColumn | None, others: list[RawColumn]) -> Guess:
    if column is None:
        few = [f"{one.name} ({one.distinct} values)" for one in others if guesses.has_few_values(one)]
        candidates = f" ({', '.join(few[:5])})" if few else ""
        return Guess(
            name="scenario",
            keys={"role": "scenario", "sql": "'all'", "values": ["all"]},
            why="one scenario",
            decide=f"no name is that of a scenario: choose a column{candidates} or an expression such as case when ... "
            "then ... end",
        )
    as_text = {} if column.is_text else {"sql": f"{guesses.expression(column.name)}::varchar"}
    return Guess(
        name=column.name,
        keys={"role": "scenario", **as_text, "values": [str(value) for value in column.examples]},
        why=f"{column.distinct} values, the most frequent first",
        decide="which values are scenarios of their own; leave rows of the others out by `where`",
    )


def _position(column: RawColumn) -> Guess:
    return Guess(
        name=column.name,
        keys={"role": "position"} | ({"nullable": True} if column.nulls else {}),
        why=f"{column.least} to {column.largest}, and its name is that of a place in a list",
        decide="whether it is where the item was shown; its effect is learned and left out when items are ranked",
    )


def _labels(labels: list[Guess]) -> list[Guess]:
    if labels:
        return labels
    return [
        Guess(
            name="click",
            keys={"role": "label", "sql": "true"},
            why="no column looks like a label",
            decide="what a success is, as a column or a condition such as watch_seconds > 10",
        )
    ]


def _line(guess: Guess) -> str:
    if guess.offered is not None:
        return f"    # {_yaml(guess.name)}: {_yaml_mapping(guess.offered)} # {guess.why}; {DECIDE}{guess.decide}"
    if guess.keys is None:
        return f"    # {guess.name}: left out: {guess.why}"
    decide = f"; {DECIDE}{guess.decide}" if guess.decide else ""
    return f"    {_yaml(guess.name)}: {_yaml_mapping(guess.keys)} # {guess.why}{decide}"


def _yaml_mapping(keys: dict[str, Any]) -> str:
    """The keys of a column: words where these say all, else a mapping in one line."""
    if set(keys) <= {"role", "kind", "type", "nullable"}:
        return " ".join("nullable" if key == "nullable" else str(value) for key, value in keys.items())
    return "{" + ", ".join(f"{key}: {_yaml(value)}" for key, value in keys.items()) + "}"


def _yaml(value: object) -> str:
    """A value as YAML 1.2, of which JSON is a part; a plain word stays one."""
    if isinstance(value, str) and value.isidentifier() and value.isascii():
        return value
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
