"""The few ways this can go wrong.

    PipelineError
    |-- ParameterError   params.yaml: an unknown key or a wrong value
    |-- EngineError      the engine of the data stages cannot be started, or a statement is not for it
    |-- SchemaError      a data set declares its columns in a way that cannot work
    |-- SourceError      a raw log is missing, incomplete or not in its official layout
    |-- ValidationError  the data broke a rule beyond its tolerance: the gate is closed
    |-- JoinError        rows went into the point-in-time join and did not come out
    |-- TrainingError    training cannot go on: non-finite loss, no rows, no labels
    |-- ModelError       a model folder is missing, incomplete or not what it says it is
    |-- SnapshotError    the item snapshot beside an online store is missing, damaged or of another data set
    |-- StoreError       an online store does not take what is written to it
    `-- ReleaseError     a model cannot be released, or there is no release to go back to

Each message is for the person who reads it: what, where, expected, found, what to do next.
"""


class PipelineError(Exception):
    """Whatever stops a stage for a reason that its reader can act upon."""

    exit_status: int | None = None  # of the command that it stops; None: that of the command's other errors


class ParameterError(PipelineError):
    """params.yaml holds an unknown key or a wrong value."""


class EngineError(PipelineError):
    """The engine of the data stages cannot be started here, or a statement is not for it."""


class SchemaError(PipelineError):
    """A data set declares its columns in a way that cannot work."""


class SourceError(PipelineError):
    """A raw log is missing, incomplete or not in its official layout."""


class ValidationError(PipelineError):
    """The data broke a rule beyond its tolerance: the gate is closed."""


class JoinError(PipelineError):
    """Rows went into the point-in-time join and did not come out of it."""


class TrainingError(PipelineError):
    """Training cannot go on: non-finite loss, no rows, no labels."""


class ModelError(PipelineError):
    """A model folder is missing, incomplete or not what it says it is."""


class SnapshotError(PipelineError):
    """The item snapshot beside an online store is missing, damaged or of another data set."""


class StoreError(PipelineError):
    """An online store does not take what is written to it."""


class ReleaseError(PipelineError):
    """A model cannot be released, or there is no release to go back to."""
