"""The split of an A/B test: stable, of the right size, and independent of other draws."""

import subprocess
import sys

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2_contingency

from common import params
from common.errors import ParameterError
from common.paths import PARAMS, ROOT
from common.settings import read_settings
from serving.ranking.ab_split import CHALLENGER, ab_settings, arm_of

USERS = range(20_000)
SERVE = params.load(ROOT / PARAMS).serve
pytestmark = pytest.mark.unit


def challenged(share: float, salt: str) -> set[int]:
    """The users whom the challenger answers."""
    return {user for user in USERS if arm_of(user, share, salt) == CHALLENGER}


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_share_of_the_users_is_the_wanted_one(share: float) -> None:
    """For three salts, which are fixed: the size is one that a fair draw has with a probability above 1 in 1,000."""
    for salt in ("first", "second", "third"):
        assert binomtest(len(challenged(share, salt)), len(USERS), share).pvalue > 0.001


def test_tests_with_other_salts_draw_other_users() -> None:
    """Being in one challenger's share says nothing of being in another's: chi-squared test of independence."""
    one, other = challenged(0.3, "first"), challenged(0.3, "second")
    table = [[sum((u in one) is a and (u in other) is b for u in USERS) for a in (True, False)] for b in (True, False)]
    assert chi2_contingency(table).pvalue > 0.001


@given(user=st.integers() | st.text(st.characters(exclude_categories=("Cs",))), salt=st.text(min_size=1, max_size=5))
def test_a_larger_share_contains_a_smaller_one(user: object, salt: str) -> None:
    """Whoever had the challenger keeps it while the share grows; with a share of 1 all have it."""
    salt = salt.encode("utf-8", "replace").decode()
    arms = [arm_of(user, share, salt) == CHALLENGER for share in (0.1, 0.5, 0.9, 1.0)]
    assert arms == sorted(arms)
    assert arms[-1]


@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_arm_is_the_same_in_every_process(seed: str) -> None:
    """Whatever the seed of Python's hash is."""
    code = "from serving.ranking.ab_split import arm_of; print(*[arm_of(user, 0.5, 'first') for user in range(20)])"
    environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [arm_of(user, 0.5, "first") for user in range(20)]


def test_the_arm_can_be_computed_elsewhere() -> None:
    """By SQL, as the page on A/B tests documents it."""
    number = "('0x' || substr(sha256('first/' || range), 1, 16))::ubigint"
    query = f"select range from range({len(USERS)}) where {number}::double < 0.1 * 2.0 ** 64"
    assert {user for (user,) in duckdb.sql(query).fetchall()} == challenged(0.1, "first")


def test_the_environment_overrides_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each parameter of the test can be overridden; an impossible value is an error that names the variable."""
    assert ab_settings(SERVE.ab, read_settings()) == SERVE.ab
    for name, value in (
        ("CHALLENGER", "artifacts/next"),
        ("SHARE", "0.25"),
        ("SALT", "december"),
        ("TIMEOUT_MS", "80"),
    ):
        monkeypatch.setenv(f"HINET_AB_{name}", value)
    test = ab_settings(SERVE.ab, read_settings())
    assert (test.challenger, test.share, test.salt, test.timeout_ms) == ("artifacts/next", 0.25, "december", 80)
    monkeypatch.setenv("HINET_AB_SALT", "")
    with pytest.raises(ParameterError, match="HINET_AB_SALT: String should have at least 1 character"):
        read_settings()
    monkeypatch.setenv("HINET_AB_SHARE", "0")
    with pytest.raises(ParameterError, match="HINET_AB_SHARE: Input should be greater than 0, found '0'"):
        read_settings()
