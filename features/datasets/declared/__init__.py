"""A log that is declared in a YAML file and needs no Python: `dataset.path` names the file, or its folder.

Only what `dataset.path` names is a dependency of `dvc repro`: of a folder every file in it, so that new data are read.

declaration     what may stand in the file, and the schema that follows from it
reader          the rows, read by DuckDB
"""

from pathlib import Path

from common.params import Dataset
from features.datasets.declared.declaration import Declaration, read_declaration
from features.datasets.declared.reader import open_log
from features.datasets.log import Log
from features.schema import Schema

FILE = "dataset.yaml"


def declare(dataset: Dataset) -> Schema:
    """The schema that the file declares; raises SchemaError or SourceError, which name the file and the line's key."""
    return _declaration(dataset).declared_schema()


def read(dataset: Dataset) -> Log:
    """The log of the files that the declaration names; raises SourceError where they do not hold what it says."""
    return open_log(_declaration(dataset), _path(dataset))


def _declaration(dataset: Dataset) -> Declaration:
    return read_declaration(_path(dataset))


def _path(dataset: Dataset) -> Path:
    """The file; of a folder its dataset.yaml."""
    path = Path(dataset.path)
    return path / FILE if path.is_dir() else path
