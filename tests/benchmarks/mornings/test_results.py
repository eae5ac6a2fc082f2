"""The summary of the mornings: means, share of time, paired differences; and the plan that names the starts."""

from pathlib import Path

import pytest

from benchmarks.mornings.plan import merge, read_log, read_starts
from benchmarks.mornings.results import Results
from common import params
from common.errors import ParameterError

pytestmark = pytest.mark.unit

DAYS = ("2026-01-08", "2026-01-09", "2026-01-10", "2026-01-11")
HEAD = {"log": "tiny", "network": "hinet"}


def test_the_summary_pairs_by_day_and_leaves_out_the_first(tmp_path: Path) -> None:
    """Differences of 0.01, 0.02 and 0.03: t interval 0.02 ± 4.303 x 0.01 / sqrt(3); 10 s against 40 s."""
    starts, results = read_starts("warm,frozen"), Results(tmp_path / "mornings.json", HEAD)
    base = [0.9, 0.7, 0.6, 0.8]
    for day, auc, gain in zip(DAYS, base, (0.0, 0.01, 0.02, 0.03), strict=True):
        cold = {"auc": auc, "cpu_seconds": 40.0, "stage_cpu_seconds": 50.0, "epochs": 4}
        results.add("from nothing", starts["from nothing"], 1, day, cold)
        if day != DAYS[0]:
            warm = {"auc": auc + gain, "cpu_seconds": 10.0, "stage_cpu_seconds": 20.0, "epochs": 1}
            results.add("warm", starts["warm"], 1, day, warm)
            results.add("frozen", starts["frozen"], 1, day, {"auc": auc - gain})
    again = Results(tmp_path / "mornings.json", HEAD)
    summary = again.summarize(list(starts), 1, DAYS)["summary"]
    seconds = {"cpu_seconds": 40, "share_of_time": 1, "stage_cpu_seconds": 50, "share_of_stage": 1}
    assert summary["from nothing"] == {"days": 3, "auc": 0.7, "epochs": 4, **seconds}
    warm = summary["warm"]
    assert (warm["auc"], warm["share_of_time"], warm["share_of_stage"]) == (0.72, 0.25, 0.4)
    assert summary["warm"]["difference"] == 0.02
    assert summary["warm"]["interval"] == pytest.approx([0.02 - 0.024841, 0.02 + 0.024841], abs=2e-6)
    assert (summary["frozen"]["difference"], summary["frozen"]["share_of_time"]) == (-0.02, 0)


def test_results_of_other_parameters_are_refused(tmp_path: Path) -> None:
    """Of another log, and of a start that has other parameters now: they cannot be compared."""
    path, warm = tmp_path / "mornings.json", read_starts("warm")["warm"]
    Results(path, HEAD).add("warm", warm, 1, DAYS[0], {"auc": 0.7})
    with pytest.raises(ParameterError, match="has results with another log"):
        Results(path, HEAD | {"log": "other"})
    changed = warm.model_copy(update={"train": {"warm_epochs": 2}})
    with pytest.raises(ParameterError, match=r"expected .*'warm_epochs': 2.*give another --json"):
        Results(path, HEAD).has("warm", changed, 1, DAYS[0])


def test_starts_and_logs_are_named(tmp_path: Path) -> None:
    """`from nothing` is always there and first; an unknown name is refused with those that there are."""
    assert list(read_starts("frozen, warm")) == ["from nothing", "frozen", "warm"]
    assert len(read_starts("all")) > 3
    with pytest.raises(ParameterError, match="--starts tepid: expected some of from nothing, warm"):
        read_starts("warm,tepid")
    with pytest.raises(ParameterError, match="--log shop: expected one of kuairand-pure, simulation"):
        read_log("shop")


def test_a_start_changes_parameters_of_the_training() -> None:
    """By their names in params.train; a value that no parameter allows is refused."""
    train, warm = params.load().train, read_starts("warm (all days twice)")["warm (all days twice)"]
    assert (warm.settings(train).warm_epochs, train.warm_epochs) == (2, 1)
    with pytest.raises(ParameterError, match="warm_epochs"):
        warm.model_copy(update={"train": {"warm_epochs": 0}}).settings(train)


def test_nested_parameters_are_merged() -> None:
    """A nested mapping keeps what is not changed."""
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}, "e": 5}) == {"a": {"b": 4, "c": 2}, "d": 3, "e": 5}
