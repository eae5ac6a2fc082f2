"""The JSON document that a process leaves for the flow that started it, and the one function that reads such documents.

A document counts only where this process wrote it, whole, and ended with the exit status that the document stands for.
A process that crashed, was killed, or wrote nothing is a CommandError, whatever an earlier run left at the same path.
"""

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from common.exit_status import DONE
from common.run_identity import PREVIOUS, RunIdentity
from flows.process.python_module import CommandError, run_module


class Document(BaseModel):
    """What a flow reads of a document; `run` is the identity of the process that wrote it."""

    model_config = ConfigDict(frozen=True)

    statuses: ClassVar[Collection[int]] = (DONE,)  # of a process that has written its document

    run: RunIdentity

    @property
    def status(self) -> int:
        """The exit status that this document stands for, one of `statuses`."""
        return DONE


Kind = TypeVar("Kind", bound=Document)


async def run_for_document(kind: type[Kind], module: str, options: dict[str, str], path: Path) -> Kind:
    """Run `python -m module` with `options`, and return the document that this process writes to `path`.

    A document of an earlier run is removed first. Raises CommandError where the process failed, or where `path` does
    not hold its document afterwards.
    """
    path.unlink(missing_ok=True)
    result = await run_module(module, options, expected=kind.statuses)
    try:
        document = kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        fault = f"{module} ended with status {result.status}, but {path} is not its report: {_reason(error)}"
        raise CommandError(fault, result.status, module, options) from error
    if document.run.id != result.run:
        other = f"{document.run.id} ({document.run.time})"
        fault = f"{module}: {path}: expected the report of the run {result.run}, found that of {other}"
        raise CommandError(fault, result.status, module, options)
    if document.status != result.status:
        fault = f"{module} ended with status {result.status}, but {path} stands for {document.status}"
        raise CommandError(fault, result.status, module, options)
    return document


def set_aside(folder: Path, document: str) -> None:
    """Make `folder` free for a new report: the folder of a whole one becomes `<folder>.previous`.

    A report is whole where it has its `document`, which is written last; what a killed run left is removed.
    """
    if (folder / document).is_file():
        shutil.rmtree(previous(folder), ignore_errors=True)
        folder.rename(previous(folder))
    else:
        shutil.rmtree(folder, ignore_errors=True)


def previous(folder: Path) -> Path:
    """Where `set_aside` keeps the last whole report of `folder`."""
    return folder.with_name(f"{folder.name}{PREVIOUS}")


def _reason(error: Exception) -> str:
    """What is wrong with the file, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    return "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
