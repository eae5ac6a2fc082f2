"""The logs that the pipeline can read. To add a data set, add a file here and a line below.

A data set is a module with two functions:

    declare(dataset: params.Dataset) -> Schema     its columns, scenarios and tasks, without touching the log
    read(dataset: params.Dataset) -> Log           the log itself, opened (see log.py)

Its name is a key of SOURCES below and a value of the Literal in common.params.Dataset.name.
"""

from typing import Protocol

from common.params import Dataset
from features.datasets import kuairand, movielens, tenrec
from features.datasets.log import Log
from features.datasets.simulation import dataset as simulation
from features.schema import Schema


class Source(Protocol):
    """The functions of a module of this folder."""

    def declare(self, dataset: Dataset) -> Schema:
        """The columns, scenarios and tasks of the log."""

    def read(self, dataset: Dataset) -> Log:
        """The log, opened; raises SourceError where it is missing or not in its official layout."""


SOURCES: dict[str, Source] = {
    "simulation": simulation,
    "movielens-1m": movielens,
    "kuairand-pure": kuairand,
    "tenrec-qk-video": tenrec,
}


def declare(dataset: Dataset) -> Schema:
    """The schema of the data set that params.yaml names."""
    return SOURCES[dataset.name].declare(dataset)


def read(dataset: Dataset) -> Log:
    """The log that params.yaml names, opened; raises SourceError where it is missing or incomplete."""
    return SOURCES[dataset.name].read(dataset)
