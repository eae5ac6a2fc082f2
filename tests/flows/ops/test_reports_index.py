"""Flows keep reports/index.html up to date, and a page that cannot be written stops no flow."""

import asyncio
import logging
from pathlib import Path

import pytest

from common.paths import ROOT
from flows.ops import reports_index

pytestmark = pytest.mark.process


def test_the_page_is_written_where_there_are_reports(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the module, as a process; without reports nothing happens."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    asyncio.run(reports_index.write_index())
    assert not list(workspace.iterdir())
    (workspace / "reports").mkdir()
    asyncio.run(reports_index.write_index())
    assert "Reports of the last run" in (workspace / "reports" / "index.html").read_text()


def test_a_page_that_cannot_be_written_is_a_warning(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on, and its log names the page that is out of date."""
    (workspace / "reports").mkdir()
    monkeypatch.setattr(reports_index, "MODULE", "monitoring.absent")
    monkeypatch.setattr(reports_index, "get_run_logger", logging.getLogger)
    asyncio.run(reports_index.write_index())
    assert "reports/index.html is not of this run" in caplog.text
