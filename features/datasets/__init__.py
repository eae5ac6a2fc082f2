"""The logs that the pipeline can read: those of this folder, a declared one, or a reader of your own.

A data set is a module with two functions:

    declare(dataset: params.Dataset) -> Schema     its columns, scenarios and tasks, without touching the log
    read(dataset: params.Dataset) -> Log           the log itself, opened (see log.py)

`dataset.name` is a key of SOURCES below, or the import path of a module, such as `features.datasets.mine`.
"""

import importlib
from typing import Protocol, cast

from common.errors import ParameterError
from common.params import Dataset
from features.datasets.log import Log
from features.schema import Schema


class Source(Protocol):
    """The functions of a module that reads a log."""

    def declare(self, dataset: Dataset) -> Schema:
        """The columns, scenarios and tasks of the log."""

    def read(self, dataset: Dataset) -> Log:
        """The log, opened; raises SourceError where it is missing or not in its official layout."""


SOURCES = {
    "simulation": "features.datasets.simulation.dataset",
    "movielens-1m": "features.datasets.movielens",
    "kuairand-pure": "features.datasets.kuairand",
    "tenrec-qk-video": "features.datasets.tenrec",
    "declared": "features.datasets.declared",
    "feedback": "features.datasets.feedback",
}


def declare(dataset: Dataset) -> Schema:
    """The schema of the data set that params.yaml names."""
    return _source(dataset.name).declare(dataset)


def read(dataset: Dataset) -> Log:
    """The log that params.yaml names, opened; raises SourceError where it is missing or incomplete."""
    return _source(dataset.name).read(dataset)


def _source(name: str) -> Source:
    """The module of a data set; raises ParameterError where there is none, or it lacks a function."""
    path = SOURCES.get(name, name)
    if name not in SOURCES and "." not in name:
        raise ParameterError(
            f"dataset.name: expected one of {list(SOURCES)} or the import path of a reader, such as "
            f"features.datasets.mine, found {name!r}"
        )
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise  # the reader itself imports what is not there
        raise ParameterError(f"dataset.name: there is no module {path}: {error}") from error
    if missing := [function for function in ("declare", "read") if not hasattr(module, function)]:
        raise ParameterError(f"dataset.name: the module {path} has no function {missing[0]}(dataset)")
    return cast(Source, module)
