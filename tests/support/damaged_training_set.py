"""Ways to damage a training set: each changes the files under a folder of data."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.schema import EVENT_TIMESTAMP, read_views

Damage = Callable[[Path], None]


def rewrite(path: Path, edit: Callable[[pa.Table], pa.Table]) -> None:
    """Rewrite a Parquet file."""
    pq.write_table(edit(pq.ParquetFile(path).read()), path)


def replace(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """The table with other values in a column."""
    return table.set_column(table.column_names.index(name), name, values)


def lose_a_row(data: Path) -> None:
    """The first event of train is gone."""
    rewrite(data / "training/train.parquet", lambda table: table.slice(1))


def add_a_foreign_row(data: Path) -> None:
    """An event that is not among the accepted ones is in test."""
    rewrite(
        data / "training/test.parquet",
        lambda table: pa.concat_tables([table, replace(table.slice(0, 1), "event_id", pa.array([98765]))]),
    )


def exchange_a_row(data: Path) -> None:
    """One event has the id of another one: as many rows as before."""

    def edit(table: pa.Table) -> pa.Table:
        ids = table["event_id"].to_pylist()
        return replace(table, "event_id", pa.array([ids[1], *ids[1:]]))

    rewrite(data / "training/valid.parquet", edit)


def store_another_type(data: Path) -> None:
    """The price is stored in double precision."""
    rewrite(data / "training/valid.parquet", lambda table: replace(table, "price", table["price"].cast(pa.float64())))


def lose_a_column(data: Path) -> None:
    """The price is gone."""
    rewrite(data / "training/train.parquet", lambda table: table.drop_columns("price"))


def lose_a_file(data: Path) -> None:
    """There is no test.parquet."""
    (data / "training/test.parquet").unlink()


def empty_a_split(data: Path) -> None:
    """The rows of valid are in train."""
    rows = pq.read_table(data / "training/valid.parquet")
    rewrite(data / "training/train.parquet", lambda table: pa.concat_tables([table, rows]))
    rewrite(data / "training/valid.parquet", lambda table: table.slice(0, 0))


def overlap(data: Path) -> None:
    """The last row of train and the first of test are exchanged."""
    train, test = (pq.read_table(data / f"training/{name}.parquet") for name in ("train", "test"))
    rewrite(data / "training/train.parquet", lambda table: pa.concat_tables([table.slice(0, len(table) - 1), test[:1]]))
    rewrite(data / "training/test.parquet", lambda table: pa.concat_tables([train.slice(len(train) - 1), table[1:]]))


def stop_a_view(data: Path) -> None:
    """The items have no snapshot of the last four days."""

    def edit(table: pa.Table) -> pa.Table:
        return table.filter(pc.less(table[EVENT_TIMESTAMP], pa.scalar(pd.Timestamp("2026-01-08"), pa.timestamp("us"))))

    rewrite(data / "features/item.parquet", edit)


def empty_a_view(data: Path) -> None:
    """There is no snapshot of any user in a scenario."""
    rewrite(data / "features/user_in_scenario.parquet", lambda table: table.slice(0, 0))


def date_a_view_ahead(data: Path) -> None:
    """The newest snapshot of a user is of next year."""

    def edit(table: pa.Table) -> pa.Table:
        timestamps = [*table[EVENT_TIMESTAMP].to_pylist()[:-1], pd.Timestamp("2027-01-01")]
        return replace(table, EVENT_TIMESTAMP, pa.array(timestamps, pa.timestamp("us")))

    rewrite(data / "features/user.parquet", edit)


def lose_a_view(data: Path) -> None:
    """Two thirds of the test rows have no features of the items."""
    view = next(view for view in read_views(data / "features/views.json") if view.name == "item")

    def edit(table: pa.Table) -> pa.Table:
        for column in view.columns:
            kept = [value if row % 3 == 0 else None for row, value in enumerate(table[column.name].to_pylist())]
            table = replace(table, column.name, pa.array(kept, table[column.name].type))
        return table

    rewrite(data / "training/test.parquet", edit)
