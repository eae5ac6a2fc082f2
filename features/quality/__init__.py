"""The quality gates: rules, expectations of Great Expectations, measurements, results and Data Docs.

Great Expectations imports pyspark and its client wherever they are installed, which takes 1.4 s of CPU (2.3 s without
them, 2026-11-30) in every gate, and no gate needs them. Where this package is imported first, it does not see them.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_HIDDEN = ("pyspark", "pyspark.sql.connect")  # without its parent, no other module of it is found


@contextmanager
def without_pyspark() -> Iterator[None]:
    """Let an import of pyspark fail, as where it is not installed; what was imported before stays."""
    imported = {name: sys.modules[name] for name in _HIDDEN if name in sys.modules}
    sys.modules.update(dict.fromkeys(_HIDDEN))  # type: ignore[arg-type]  # None: there is no such module
    yield
    for name in _HIDDEN:
        del sys.modules[name]
    sys.modules.update(imported)


with without_pyspark():
    import great_expectations.compatibility.pyspark  # noqa: F401
