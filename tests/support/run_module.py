"""A command of the project run in this process: what it does and how it ends, without the seconds of its imports."""

import runpy
import sys
import warnings

import pytest


def run_module(module: str, *arguments: object) -> int:
    """Run `python -m module arguments` in the current folder; returns the exit status."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* found in sys.modules", RuntimeWarning)  # a test may have imported it
        warnings.filterwarnings("ignore", "Cyclopts application invoked without tokens")  # its tokens are sys.argv
        patch.setattr(sys, "argv", [module, *map(str, arguments)])
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            return int(end.code or 0)
    return 0
