"""How OpenMP's threads wait in processes that share the cores."""

import pytest

from common.openmp import POLICY, beside_others

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("chosen", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_openmp_waits_passively_unless_chosen(
    chosen: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the environment chooses is kept."""
    monkeypatch.delenv(POLICY, raising=False)
    if chosen:
        monkeypatch.setenv(POLICY, chosen)
    assert beside_others() == {POLICY: expected}
