"""Where the trials are kept: a SQLite file for one process, or a PostgreSQL database for several machines at once.

A trial whose process was killed stays marked as running. With SQLite the process holds a lock, so that whatever is
marked so when the next one starts was killed. With a database each process writes a heartbeat, and another process
runs a trial without one again.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import sqlalchemy
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url

from common.errors import ParameterError
from common.files import exclusive_lock

ATTEMPTS = 5  # of processes that start at once to create the tables of an empty database
RETRIES = 3  # a trial that was killed so often is not run again
SILENCE = 3  # heartbeats that may fail to come


@contextmanager
def open_storage(url: str | None, folder: Path, heartbeat: int) -> Iterator[RDBStorage]:
    """The storage of a search; raises ParameterError where it is in use, or cannot be reached.

    Args:
        url: SQLAlchemy's address of a database; None: the file study.db in `folder`.
        folder: the folder of the study.
        heartbeat: seconds from one heartbeat of a trial to the next.
    """
    folder.mkdir(parents=True, exist_ok=True)
    address = url or f"sqlite:///{folder / 'study.db'}"
    if not is_local(address):
        with _opened(address, heartbeat) as storage:
            yield storage
        return
    try:
        with exclusive_lock(folder / ".lock"), _opened(address, None) as storage:
            yield storage
    except BlockingIOError:
        raise ParameterError(
            f"another process searches with {folder}: wait for it, or use --storage with a PostgreSQL database, in "
            "which several processes share the trials"
        ) from None


def is_local(address: str) -> bool:
    """Whether the address is of a SQLite file, which one process uses at a time."""
    try:
        return make_url(address).get_backend_name() == "sqlite"
    except sqlalchemy.exc.ArgumentError:
        raise ParameterError(
            f"--storage {address}: expected an address such as postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
        ) from None


@contextmanager
def _opened(address: str, heartbeat: int | None) -> Iterator[RDBStorage]:
    storage = _connect(address, heartbeat)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _connect(address: str, heartbeat: int | None) -> RDBStorage:
    """The storage, with its tables; processes that create them at once disturb each other, so that one tries again."""
    shown = make_url(address).render_as_string(hide_password=True)
    for attempt in range(ATTEMPTS):
        try:
            return _storage(address, heartbeat)
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
            if attempt == ATTEMPTS - 1:
                raise
        except sqlalchemy.exc.OperationalError as error:
            raise ParameterError(f"--storage {shown} cannot be reached: {error.orig}") from None
        except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
            raise ParameterError(
                f"--storage {shown}: its driver is not installed ({error.__cause__ or error}); psycopg comes with the "
                "extra `postgres`: pip install --constraint constraints.txt --editable '.[search,postgres]'"
            ) from None
    raise AssertionError("unreachable")


def _storage(address: str, heartbeat: int | None) -> RDBStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats have been there since 2021
        return RDBStorage(
            address,
            heartbeat_interval=heartbeat,
            grace_period=None if heartbeat is None else SILENCE * heartbeat,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
        )


def open_study(storage: RDBStorage, name: str, pruner: optuna.pruners.BasePruner) -> tuple[optuna.Study, bool]:
    """The study called `name`, in which higher is better, and whether this call has created it."""
    try:
        return optuna.create_study(storage=storage, study_name=name, direction="maximize", pruner=pruner), True
    except optuna.exceptions.DuplicatedStudyError:
        return optuna.load_study(storage=storage, study_name=name, pruner=pruner), False


def restart_killed(study: optuna.Study, storage: RDBStorage) -> None:
    """Mark the trials of killed processes as failed, and queue them again."""
    if storage.get_heartbeat_interval() is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
    retry = storage.get_heartbeat_stale_trial_callback()
    for trial in _without_heartbeat(study, storage):
        storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
        if retry is not None:
            retry(study, trial)


def _without_heartbeat(study: optuna.Study, storage: RDBStorage) -> list[FrozenTrial]:
    """Running trials of killed processes that Optuna does not see: they were killed before the first heartbeat."""
    running: list[FrozenTrial] = study.get_trials(states=(TrialState.RUNNING,))
    interval = storage.get_heartbeat_interval()
    if interval is None:  # this process holds the lock, and runs none
        return running
    with storage.engine.connect() as connection:
        beating = set(connection.scalars(sqlalchemy.text("SELECT trial_id FROM trial_heartbeats")))
    before = datetime.now() - timedelta(seconds=SILENCE * interval)
    silent = [trial for trial in running if trial._trial_id not in beating]
    return [trial for trial in silent if trial.datetime_start is not None and trial.datetime_start < before]
