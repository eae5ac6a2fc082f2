"""A document counts only where the process that the flow started wrote it, whole, and ended as it says.

The process is killed before, during and after the write, ends with each exit status, writes half a file, or nothing; an
older document lies at the same path. Whatever happens, no reader returns the older one.
"""

import ast
import asyncio
import functools
import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flows
from common.exit_status import USAGE, VERDICTS
from common.paths import ROOT
from common.run_identity import VARIABLE, new_id
from flows.process import document, python_module
from flows.process.document import Document, previous, run_for_document, set_aside
from flows.process.python_module import CommandError
from flows.process.reported import ProcessResult
from tests.support.flow_documents import READERS, written

KINDS = [pytest.param(kind, id=f"{kind.__module__.split('.')[-1]}-{kind.__name__}") for kind in READERS]
OWN_FILES = {  # functions of flows/ that open a file themselves: none reads the result of another process
    "flows/backtest.py": {"backtest"},  # timeline.md, once timeline.json is of this run
    "flows/ops/schedule.py": {"deployments"},
    "flows/process/document.py": {"run_for_document"},
    "flows/process/supervised.py": {"_start"},  # the log, to append to it
    "flows/stages/recovery.py": {"_is_json"},
    "flows/stages/reproduce.py": {"read_reproduction"},  # in a folder that is new for each process
    "flows/tasks/backtest_days.py": {"__init__", "run", "run_day"},  # its own arguments, rows and first champion
    "flows/workspace/dates.py": {"_newest"},
    "flows/workspace/lock.py": {"_holder"},
}
READING = {"loads", "read_text", "read_bytes", "model_validate_json", "open", "safe_load"}


class SilentLogger:
    """A logger that writes nothing."""

    def info(self, line: str) -> None:
        """Nothing."""


def read(kind: type[Document], path: Path, process: Callable[[Path, str], int], module: str = "module") -> Document:
    """What the reader returns where the module writes and ends as `process` does."""

    async def run_reported(command: list[str], *, log: Callable[[str], None]) -> ProcessResult:
        run = new_id()
        return ProcessResult(status=process(path, run), run=run, last_line="KeyError: 'price'")

    with (
        mock.patch.object(python_module, "run_reported", run_reported),
        mock.patch.object(python_module, "get_run_logger", SilentLogger),
    ):
        return asyncio.run(run_for_document(kind, module, {"--out": str(path)}, path))


def _end(status: int, _path: Path, _run: str) -> int:
    """A process that writes nothing."""
    return status


def contents(kind: type[Document]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each status of a document with its content."""
    yield from READERS[kind].items()


@pytest.mark.unit
@pytest.mark.parametrize("kind", KINDS)
def test_no_status_makes_an_older_document_count(kind: type[Document], tmp_path: Path) -> None:
    """Every status from 0 to 255, with an older document that stands for it, and a process that writes nothing."""
    for status in range(256):
        for _, content in contents(kind):
            path = tmp_path / "document.json"
            path.write_bytes(written(content, new_id()))
            with pytest.raises(CommandError) as error:
                read(kind, path, functools.partial(_end, status))
            assert error.value.status == status
            assert not path.exists()


@pytest.mark.unit
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_document_counts_with_its_own_status_only(kind: type[Document], tmp_path: Path) -> None:
    """A process that crashes, is killed or ends otherwise after the write has not ended as the document says."""
    for own, content in contents(kind):
        for status in range(256):

            def process(path: Path, run: str, content: Any = content, status: int = status) -> int:
                path.write_bytes(written(content, run))
                return status

            if status == own:
                result = read(kind, tmp_path / "document.json", process)
                assert (result.status, type(result)) == (own, kind)
            else:
                with pytest.raises(CommandError):
                    read(kind, tmp_path / "document.json", process)


@pytest.mark.unit
@given(data=st.data())
def test_half_a_document_and_that_of_another_process_never_count(tmp_path_factory: Any, data: st.DataObject) -> None:
    """Cut off at any byte, overwritten by a run that should be dead, of a run without an id, or no JSON at all."""
    kind = data.draw(st.sampled_from(list(READERS)))
    status, content = data.draw(st.sampled_from(list(contents(kind))))
    path = tmp_path_factory.mktemp("document") / "document.json"

    def process(path: Path, run: str) -> int:
        whole = written(content, run)
        other = st.builds(lambda size: whole[:size], st.integers(0, len(whole) - 3))
        other |= st.just(written(content, new_id())) | st.just(json.dumps(content).encode()) | st.binary(max_size=20)
        other |= st.sampled_from([b"null", b"[]", b"{}", b'{"run": null}', written({}, run)])
        path.write_bytes(data.draw(other))
        return int(status)

    with pytest.raises(CommandError, match="look closer: python -m module"):
        read(kind, path, process)


CHILD = """
import os, pathlib, signal, sys
path, content, when, end = pathlib.Path(sys.argv[2]), sys.argv[4], sys.argv[6], int(sys.argv[8])
content = content.replace("RUN", os.environ["{variable}"]).encode()
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
if when == "before":
    kill()
if when == "crash":
    raise KeyError("price")
if when == "during":
    path.write_bytes(content[: len(content) // 2])
    kill()
if when != "nothing":
    path.write_bytes(content)
if when == "after":
    kill()
sys.exit(end)
"""


@pytest.mark.process
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", ["before", "during", "after", "crash", "nothing", "never"])
def test_a_process_that_is_killed_leaves_no_document(
    kind: type[Document], when: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real process is killed before, during and after it writes; only one that ends by itself has a document."""
    monkeypatch.setattr(python_module, "get_run_logger", SilentLogger)
    Path("child.py").write_text(CHILD.replace("{variable}", VARIABLE))
    status, content = next(contents(kind))
    path = Path("document.json")
    path.write_bytes(written(content, new_id()))
    text = written(content, "RUN").decode()
    options = {"--path": str(path), "--content": text, "--when": when, "--status": str(status)}
    run = run_for_document(kind, "child", options, path)
    if when == "never":
        assert asyncio.run(run).status == status
        return
    with pytest.raises(CommandError) as error:
        asyncio.run(run)
    ends = {"crash": 1, "nothing": status}
    assert error.value.status == ends.get(when, 137)
    cause = str(error.value).splitlines()[0]
    assert {"crash": "KeyError: 'price'", "nothing": "there is no such file"}.get(
        when, "was killed (signal 9)"
    ) in cause


@pytest.mark.unit
def test_every_reader_is_in_the_table() -> None:
    """A new kind of document is tried with all that can happen to its process; every verdict has one."""
    for module in pkgutil.walk_packages(flows.__path__, "flows."):
        importlib.import_module(module.name)
    kinds = {kind for kind in Document.__subclasses__() if kind.__module__.startswith("flows.")}
    assert kinds == set(READERS)
    for kind, samples in READERS.items():
        assert set(samples) == set(kind.statuses), kind


@pytest.mark.unit
def test_nothing_else_in_the_flows_reads_a_file() -> None:
    """What a process left is read by `run_for_document`; other files are those that the flow itself wrote."""
    readers: dict[str, set[str]] = {}
    for path in sorted((ROOT / "flows").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            calls = {
                node.func.attr
                for node in ast.walk(function)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            }
            if calls & READING:
                readers.setdefault(path.relative_to(ROOT).as_posix(), set()).add(function.name)
    assert readers == OWN_FILES


@pytest.mark.unit
def test_a_crash_has_the_status_of_no_verdict() -> None:
    """Python's traceback, wrong usage, a shell that cannot start the command, and every signal."""
    crashes = {1, USAGE, 126, 127, *range(128, 256)}
    for kind, samples in READERS.items():
        assert not crashes & set(samples), kind
    assert not crashes & set(VERDICTS.values())


@pytest.mark.unit
def test_the_last_whole_report_is_kept_aside(tmp_path: Path) -> None:
    """The folder is free for a new report; what a killed run left is not kept."""
    out = tmp_path / "monitor"
    set_aside(out, "drift.json")  # nothing there
    for name, documents in (("first", True), ("second", True), ("half", False)):
        out.mkdir()
        (out / "index.html").write_text(name)
        if documents:
            (out / "drift.json").write_text("{}")
        set_aside(out, "drift.json")
        assert not out.exists()
    assert (previous(out) / "index.html").read_text() == "second"
    assert document.previous(out).name == "monitor.previous"
