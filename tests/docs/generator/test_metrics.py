"""The metrics of the service, as the page lists them."""

from pathlib import Path

import pytest

from common.paths import ROOT
from docs.generator.metrics import Metric, declared, metrics

pytestmark = pytest.mark.unit


def test_a_metric_is_read_from_the_call_that_makes_it(tmp_path: Path) -> None:
    """Name, kind, help and labels; a constant inside of a help is replaced, a label list may be built on `by`."""
    (tmp_path / "serving").mkdir()
    text = (
        'SIZE = 3\none = histogram("hinet_one", f"Of {SIZE}", [*by, "phase"], buckets=B)\ntwo = Counter("x", "y", [])\n'
    )
    (tmp_path / "serving" / "one.py").write_text(text)
    assert list(declared(tmp_path)) == [Metric("hinet_one", "histogram", "Of 3", ("scenario", "phase"))]


def test_every_metric_of_the_service_has_a_row() -> None:
    """A counter is listed by the name of its series."""
    rows = metrics(ROOT).splitlines()
    assert any(row.startswith("| `hinet_degraded_total` | counter | `scenario`, `reason` |") for row in rows)
    assert any(row.startswith("| `hinet_seconds` | histogram | `scenario`, `phase` |") for row in rows)
    assert any(row.startswith("| `hinet_shadow_score_shift` | histogram |") for row in rows)
