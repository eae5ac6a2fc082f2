"""Which role, kind and type a raw column suggests, by its name and its values, and why."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from features.datasets.drafting.profile import RawColumn, RawTable
from features.engine import sql
from features.engine.connection import connect
from features.schema import Role

FEWEST_CATEGORIES = 1_000  # rows of which each has another text: fewer may be categories all the same
MOST_CODES = 100  # different integers that are categories; more are a number
MOST_RATINGS = 11
LIST_LENGTH = 5
MOST_SCENARIOS = 30
USER_WORDS = {"user", "uid", "userid", "member", "customer", "visitor", "viewer", "account", "buyer", "reader"}
ITEM_WORDS = {
    "item",
    "iid",
    "itemid",
    "video",
    "movie",
    "product",
    "article",
    "news",
    "ad",
    "advert",
    "creative",
    "song",
    "track",
    "book",
    "poi",
    "goods",
    "sku",
    "photo",
    "note",
    "post",
    "shop",
    "store",
    "restaurant",
    "listing",
    "asin",
}
TIME_WORDS = {"time", "timestamp", "date", "datetime", "ts", "at"}
SCENARIO_WORDS = {
    "scenario",
    "tab",
    "scene",
    "channel",
    "page",
    "surface",
    "placement",
    "source",
    "domain",
    "entry",
    "section",
    "feed",
    "slot",
    "site",
    "category",
}
LABEL_WORDS = {
    "click",
    "clk",
    "clicked",
    "like",
    "liked",
    "buy",
    "bought",
    "purchase",
    "purchased",
    "order",
    "ordered",
    "cart",
    "share",
    "shared",
    "follow",
    "followed",
    "comment",
    "commented",
    "conversion",
    "converted",
    "view",
    "forward",
    "favorite",
    "favourite",
    "fav",
    "pay",
    "paid",
    "install",
    "label",
    "valid",
    "play",
    "finish",
    "hate",
    "profile",
}
POSITION_WORDS = {"position", "pos", "rank", "ranking", "slot"}
RATING_WORDS = {"rating", "stars", "star", "score", "overall"}
UNITS = {  # of a timestamp given as a number: how many of them a second has, and the expression that reads them
    "seconds": (1, "to_timestamp({0})"),
    "milliseconds": (1_000, "epoch_ms({0})"),
    "microseconds": (1_000_000, "make_timestamp({0})"),
    "nanoseconds": (1_000_000_000, "make_timestamp({0} // 1000)"),
}
_YEARS = (946_684_800, 2_208_988_800)  # seconds since 1970: 2000 to 2040
SENTINELS = (-1, -124, -99, -999, 9_999)


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What a column may be.

    Args:
        name: Its name in the declaration.
        keys: What the declaration says of it; None: it is left out.
        why: The reason.
        decide: What a person has to decide.
        offered: What the declaration may say of it, if a person decides so; it is written as a comment.
    """

    name: str
    keys: dict[str, Any] | None
    why: str
    decide: str = ""
    offered: dict[str, Any] | None = None


def unit_of(column: RawColumn) -> str | None:
    """The unit of a column of numbers that may be a timestamp: its values are of the years 2000 to 2040 in it."""
    if not column.is_number or not isinstance(column.least, int | float) or not isinstance(column.largest, int | float):
        return None
    for unit, (steps, _) in UNITS.items():
        if _YEARS[0] * steps <= column.least <= column.largest <= _YEARS[1] * steps:
            return unit
    return None


def is_timestamp(column: RawColumn) -> bool:
    """Whether the values are dates or timestamps, or numbers that may be."""
    return column.type.startswith(("TIMESTAMP", "DATE")) or bool(column.time_format) or unit_of(column) is not None


def timestamp_of(table: RawTable) -> RawColumn | None:
    """The timestamp of the rows: a date or a number of the right size; a telling name and fine steps come first."""
    candidates = [column for column in table.columns if is_timestamp(column)]
    return max(candidates, key=lambda c: (bool(c.words & TIME_WORDS), c.distinct), default=None)


def id_of(table: RawTable, words: set[str]) -> RawColumn | None:
    """The id whose name has one of `words`: `user_id` before `user`, and before `user_age`."""
    candidates = [c for c in table.columns if c.words & words and (c.is_integer or c.is_text) and not is_timestamp(c)]
    named = [column for column in candidates if "id" in column.words or column.words <= words]
    return max(named or candidates, key=lambda c: ("id" in c.words, c.distinct), default=None)


def scenario_of(columns: Iterable[RawColumn]) -> RawColumn | None:
    """The column with 2 to MOST_SCENARIOS values whose name is one of a scenario."""
    return next((column for column in columns if has_few_values(column) and column.words & SCENARIO_WORDS), None)


def has_few_values(column: RawColumn) -> bool:
    """Whether each value may be a scenario."""
    return 2 <= column.distinct <= MOST_SCENARIOS and (column.is_integer or column.is_text)


def position_of(columns: Iterable[RawColumn]) -> RawColumn | None:
    """The column of integers that count from 0 or 1 whose name is one of a place in a list."""
    counting = [c for c in columns if c.is_whole and c.words & POSITION_WORDS and c.distinct > 1]
    return next((column for column in counting if column.least in (0, 1)), None)


def label_of(column: RawColumn) -> Guess | None:
    """A label: flags whose name is that of an action, or a rating; None for anything else."""
    if column.is_flag and column.words & LABEL_WORDS:
        return Guess(name=column.name, keys={"role": "label"}, why="0 or 1, and its name is that of an action")
    if column.words & RATING_WORDS and column.is_number and column.distinct <= MOST_RATINGS:
        middle = sorted(float(str(value)) for value in column.examples)[column.distinct // 2]
        return Guess(
            name=f"{column.name}_high",
            keys={"role": "label", "sql": f"{expression(column.name)} > {middle:g}"},
            why=f"{column.name} has {column.distinct} values, {column.least} to {column.largest}: a rating",
            decide="from which value on it is a success",
        )
    return None


def feature_of(column: RawColumn) -> Guess:
    """A feature, with its kind and type; a column of one value, or one that no encoder reads, is left out."""
    if column.distinct <= 1 and not column.is_list:
        return Guess(name=column.name, keys=None, why="it has one value only")
    guess = _guess(column)
    if guess.keys is not None and column.nulls:
        guess.keys["nullable"] = True
    return guess


def _guess(column: RawColumn) -> Guess:
    if column.vector_length:
        keys = {"kind": "vector", "length": column.vector_length}
        return Guess(name=column.name, keys=keys, why=f"lists of {column.vector_length} numbers each: a vector")
    if column.is_list:
        inner = "int64_list" if column.type.startswith(("INT", "BIGINT", "SMALLINT", "TINYINT")) else "string_list"
        keys = {"kind": "multi_valued", "type": inner, "length": LIST_LENGTH}
        return Guess(name=column.name, keys=keys, why="a list", decide="a set (multi_valued) or in order (sequence)")
    if column.type == "BOOLEAN":
        keys = {"kind": "categorical", "type": "int64", "sql": f"{expression(column.name)}::int"}
        return Guess(name=column.name, keys=keys, why="true or false")
    if is_timestamp(column) or not (column.is_number or column.is_text):
        return Guess(name=column.name, keys=None, why=f"no encoder reads a {column.type.lower()}")
    if column.is_text:
        return _text(column)
    if column.is_whole:
        return _integer(column)
    keys = {"kind": "numeric", "type": "float32"}
    return Guess(name=column.name, keys=keys, why=f"{column.least} to {column.largest}")


def _text(column: RawColumn) -> Guess:
    if column.is_unique and column.rows > FEWEST_CATEGORIES:
        return Guess(name=column.name, keys=None, why="each row has another text")
    separator = _separator([str(value) for value in column.examples])
    if separator is None:
        keys: dict[str, Any] = {"kind": "categorical", "type": "string"}
        return Guess(name=column.name, keys=keys, why=f"{column.distinct:,} different texts")
    split = f"string_split({expression(column.name)}, '{separator}')"
    keys = {"kind": "multi_valued", "type": "string_list", "length": LIST_LENGTH, "sql": split}
    return Guess(name=column.name, keys=keys, why=f"texts with {separator!r} in many values: a list")


def _separator(texts: list[str]) -> str | None:
    """The letter that separates the values of a list, where a third of the texts hold it; ranges, (10,50], do not."""
    if any(letter in text for text in texts for letter in "()[]"):
        return None
    return next((letter for letter in "|,;" if sum(letter in text for text in texts) * 3 >= len(texts)), None)


def _integer(column: RawColumn) -> Guess:
    if _is_date(column):
        return Guess(name=column.name, keys=None, why="dates as numbers: the timestamp has them")
    sentinel = next((value for value in SENTINELS if value in (column.least, column.largest)), None)
    decide = f"whether {sentinel} means that the value is missing (null_if: [{sentinel}], nullable: true)"
    is_code = column.distinct <= MOST_CODES or column.words & {"id", "code", "type"}
    return Guess(
        name=column.name,
        keys={"kind": "categorical" if is_code else "numeric", "type": "int64"},
        why=f"{column.distinct:,} different integers, {column.least} to {column.largest}",
        decide="" if sentinel is None else decide,
    )


def _is_date(column: RawColumn) -> bool:
    """Whether the numbers are dates such as 20260118."""
    values = [str(value) for value in column.examples]
    return all(len(v) == 8 and v[:2] in ("19", "20") and v[4:6] <= "12" and v[6:] <= "31" for v in values)


def expression(name: str) -> str:
    """A raw column in an SQL expression: quoted where its name is a word of SQL, or more than lower-case letters."""
    plain = name.isidentifier() and name.isascii() and name.islower() and name not in _sql_words()
    return name if plain else sql.column(name)


@cache
def _sql_words() -> set[str]:
    """The words of SQL that name no column without quotes, such as `order` and `like`."""
    reserved = "select keyword_name from duckdb_keywords() where keyword_category in ('reserved', 'type_function')"
    with connect() as connection:
        return {str(row[0]) for row in connection.execute(reserved).fetchall()}


ROLE_WORDS = {Role.USER: USER_WORDS, Role.ITEM: ITEM_WORDS}
