"""A process that has loaded the heavy libraries once, and forks for every command that it runs.

A command of the project takes seconds to import; so a test can run hundreds of them. The server holds nothing open and
has started no thread of ours, so that its forks are like processes of their own.
"""

import gc
import importlib
import json
import locale
import os
import resource
import runpy
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.paths import ROOT

HEAVY = (  # features.store before feast: without checks for Feast's own development, which take seconds to compile
    "torch safetensors.torch pandas pyarrow.parquet duckdb scipy.stats features.store feast ibis great_expectations "
    "cyclopts prefect"
)
# Which a process without the right to read the folder of Python cannot load when it needs them.
STANDARD = "ftplib modulefinder multiprocessing.synchronize multiprocessing.managers sqlite3 zoneinfo statistics"
NOBODY = 12_345  # a uid without an entry in /etc/passwd


@dataclass(frozen=True, kw_only=True)
class End:
    """Exit status, everything printed, and seconds of a command."""

    status: int
    output: str
    seconds: float

    @property
    def has_traceback(self) -> bool:
        """Whether the command ended with a fault of the program."""
        return "Traceback (most recent call last)" in self.output


class CommandServer:
    """Runs commands in forks of one process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        folder: Path = ROOT,
        environment: Mapping[str, str | None] = {},
        file_bytes: int | None = None,
        uid: int | None = None,
    ) -> End:
        """Run `python -m module arguments`.

        Args:
            module: Name of the module.
            arguments: Its command line.
            folder: Folder in which it runs.
            environment: Variables; None removes one.
            file_bytes: Largest file that it can write: beyond it the disk is full.
            uid: User that it runs as; None: the user of the test.
        """
        case = {
            "module": module,
            "arguments": list(arguments),
            "folder": str(folder),
            "environment": dict(environment),
            "file_bytes": file_bytes,
            "uid": uid,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()
        return End(**json.loads(self._process.stdout.readline()))


@contextmanager
def command_server() -> Iterator[CommandServer]:
    """A server, which ends with the block."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GX_ANALYTICS_ENABLED": "false"}
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield CommandServer(process)
        assert process.stdin is not None
        process.stdin.close()


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints while it is imported is no answer
    for name in f"{STANDARD} {HEAVY} sklearn.metrics dvclive filecmp".split():
        importlib.import_module(name)
    gc.freeze()  # a fork does not copy what it never looks at
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), file=answers, flush=True)


def _run(case: dict[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _become(case, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        output = file.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"status": status, "output": output, "seconds": time.perf_counter() - started}


def _become(case: dict[str, Any], output: int) -> None:
    """Run the command in this process, which ends with it."""
    status = 1
    try:
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.close(output)
        with open(os.devnull) as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), 0)
        os.chdir(case["folder"])
        for name, value in case["environment"].items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        time.tzset()
        locale.setlocale(locale.LC_ALL, "")
        if case["uid"] is not None:
            os.setgroups([])
            os.setgid(case["uid"])
            os.setuid(case["uid"])
        if case["file_bytes"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (case["file_bytes"], case["file_bytes"]))
        sys.argv = [case["module"], *case["arguments"]]
        runpy.run_module(case["module"], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
