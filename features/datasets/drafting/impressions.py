"""Which table holds the impressions, and which of its columns are the user, the item and the time."""

from dataclasses import dataclass

from common.errors import SourceError
from features.datasets.drafting import guesses, outcomes
from features.datasets.drafting.guesses import ROLE_WORDS
from features.datasets.drafting.profile import RawColumn, RawTable
from features.schema import Role


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A column that was chosen for a role, why, and what a person has to decide."""

    column: RawColumn
    why: str
    decide: str = ""


@dataclass(frozen=True, kw_only=True)
class Impressions:
    """The table of impressions with its user, item and time (None: no column is one)."""

    table: RawTable
    user: Choice
    item: Choice
    timestamp: RawColumn | None

    @property
    def features(self) -> list[RawColumn]:
        """The other columns."""
        return [one for one in self.table.columns if one not in (self.user.column, self.item.column, self.timestamp)]


def impressions_of(tables: list[RawTable]) -> Impressions:
    """The largest table, first of those with a user and an item by name.

    Raises SourceError where no table has two columns that may be ids.
    """
    for table in sorted(tables, key=lambda one: (_named(one), one.rows), reverse=True):
        profiles = [one for one in tables if one is not table]
        user = _choice(table, Role.USER, profiles, taken=None)
        item = _choice(table, Role.ITEM, profiles, taken=user)
        if user and item:
            return Impressions(table=table, user=user, item=item, timestamp=guesses.timestamp_of(table))
    columns = "; ".join(f"{one.files.patterns[0]}: {', '.join(c.name for c in one.columns)}" for one in tables)
    raise SourceError(
        f"no file has a user and an item in columns whose values repeat, found {columns}. Name the columns "
        "(FILE=user_id,item_id,...), or write the declaration by hand: docs/how-to/own-data.md"
    )


def _named(table: RawTable) -> bool:
    """Whether names say which columns are user and item."""
    return all(guesses.id_of(table, ROLE_WORDS[role]) for role in (Role.USER, Role.ITEM))


def _choice(table: RawTable, role: Role, profiles: list[RawTable], taken: Choice | None) -> Choice | None:
    """A column by its name; else the key of another table; else the one with most different values that repeat."""
    named = guesses.id_of(table, ROLE_WORDS[role])
    if named is not None and not named.is_unique and (taken is None or named is not taken.column):
        return Choice(column=named, why=f"{named.distinct:,} different")
    free = [column for column in table.columns if _may_be_id(column) and (taken is None or column is not taken.column)]
    keys = [column for column in free if any(_is_key(column, profile) for profile in profiles)]
    if role is Role.USER:  # the item is chosen after it: items have a file of their own more often
        item = guesses.id_of(table, ROLE_WORDS[Role.ITEM]) or (keys[0] if len(keys) == 1 else None)
        free, keys = ([column for column in columns if column is not item] for columns in (free, keys))
    column = max(keys or free, key=lambda one: one.distinct, default=None)
    if column is None:
        return None
    why = "the key of another file" if keys else "most different values that repeat"
    return Choice(column=column, why=f"{column.distinct:,} different: {why}", decide=f"whether it is the {role}")


def _may_be_id(column: RawColumn) -> bool:
    other = guesses.is_timestamp(column) or outcomes.is_outcome(column) or guesses.label_of(column) is not None
    return (column.is_integer or column.is_text) and not column.is_unique and not other


def _is_key(column: RawColumn, profile: RawTable) -> bool:
    other = profile.column(column.name)
    return other is not None and other.is_unique
