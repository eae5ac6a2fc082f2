"""Every environment variable of the project is a field of Settings, with its rule and its description."""

import re
from pathlib import Path

import pytest

from common.errors import ParameterError
from common.paths import ROOT
from common.settings import Settings, read_settings, variable
from common.stage_report import VARIABLE

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the project is set."""
    for field in Settings.model_fields:
        monkeypatch.delenv(variable(field), raising=False)


def test_without_variables_the_model_just_trained_is_served() -> None:
    """Paths are relative to the root; one process, no key, no Redis, no shadow."""
    settings = read_settings()
    assert (settings.model, settings.online_store) == (Path("artifacts/models/hinet_plus"), Path("artifacts/online.db"))
    assert (settings.workers, settings.api_key, settings.redis, settings.shadow) == (1, None, None, None)


def test_a_variable_overrides_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """HINET_WORKERS is the field workers, as a number."""
    monkeypatch.setenv("HINET_WORKERS", "2")
    assert read_settings().workers == 2


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("HINET_WORKERS", "two", "valid integer"),
        ("HINET_WORKERS", "0", "greater than or equal to 1"),
        ("HINET_SHADOW_SHARE", "0", "greater than 0"),
        ("HINET_SHADOW_SHARE", "1.5", "less than or equal to 1"),
        ("HINET_MEMORY", "much", "expected a size from 256MB on, such as 512MB, 8GB or 12GiB"),
        ("HINET_MEMORY", "1MB", "expected a size from 256MB on"),
        ("HINET_API_KEY", "short", "expected 16 letters or more"),
        ("HINET_REDIS", "redis.example", "expected host:port"),
        ("HINET_REDIS", "redis://example:6379", "expected host:port"),
        ("HINET_REDIS", "one:6379,two:6379,password=x", r"expected one host:port, or redis\+cluster://.*, found 2"),
        ("HINET_REDIS", "redis+cluster://one:6379,db=1", "expected no db="),
    ],
)
def test_a_broken_rule_names_the_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str, rule: str) -> None:
    """The message has the variable, the rule, and the value, but for one that may hold a secret."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ParameterError, match=rf"{name}: .*{rule}") as error:
        read_settings()
    assert (f"'{value}'" in str(error.value)) == (name not in {"HINET_API_KEY", "HINET_REDIS"})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", None),
        ("redis:6379,password=a:b,db=1", "redis:6379,password=a:b,db=1"),
        ("redis+cluster://one:6379,two:6379,password=x", "redis+cluster://one:6379,two:6379,password=x"),
    ],
)
def test_the_address_of_redis_is_one_node_or_those_of_a_cluster(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: str | None
) -> None:
    """With options as Feast has them; an empty variable is unset."""
    monkeypatch.setenv("HINET_REDIS", value)
    assert read_settings().redis == expected


def test_no_other_module_reads_a_variable_of_the_project() -> None:
    """`HINET_...` is read in common/settings.py, and the report's in common/stage_report.py, nowhere else."""
    reading = re.compile(
        r"environ(?:\.get\(|\[|\.setdefault\()[\"'](HINET_\w+)|\"(HINET_\w+)\" (?:not )?in os\.environ"
    )
    packages = ("common", "features", "models", "serving", "release", "monitoring", "flows")
    reads = {
        (str(file.relative_to(ROOT)), match[0])
        for package in packages
        for file in (ROOT / package).rglob("*.py")
        for match in reading.finditer(file.read_text())
    }
    assert not reads


def test_every_field_has_a_description() -> None:
    """The reference of the documentation is made of them."""
    assert all(field.description for field in Settings.model_fields.values())
    assert VARIABLE.startswith("HINET_")
