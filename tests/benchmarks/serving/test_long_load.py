"""The soak benchmark: mixed answers, memory growth, idle workers and stolen time are detected."""

import numpy as np
import psutil
import pytest

from benchmarks.serving.long_load import (
    compared_fields,
    find_mixed,
    memory_growth,
    processor_shares,
    stolen_share,
)

pytestmark = pytest.mark.unit


def test_a_mixed_answer_is_detected() -> None:
    """Probabilities of one snapshot with the scores of another are no pair's answer; failures are not checked."""
    pairs = [
        {"model": model, "item_ids": [1], "scores": [score], "probabilities": {"click": [score]}, "degraded": None}
        for model, score in (("a", 0.1), ("a", 0.2), ("b", 0.3))
    ]
    expected = [[compared_fields(pair) for pair in pairs]]
    mixed = pairs[0] | {"probabilities": {"click": [0.2]}}
    answers = [
        {"body": 0, "status": 200, "answer": answer}
        for answer in (pairs[0], pairs[2], mixed, mixed | {"degraded": "the store"})
    ]
    answers.append({"body": 0, "status": 503, "answer": "later"})
    results, seen = find_mixed(answers, expected)
    assert [one["answer"] for one in results] == [mixed]
    assert seen == {0, 2}


def test_memory_growth_is_relative_to_the_first_minute() -> None:
    """The start of a process is not counted, and a process that has ended is left out."""
    samples = [{"seconds": seconds, "megabytes": {"1": mb, "2": 50.0}} for seconds, mb in ((0, 10.0), (60, 100.0))]
    samples.append({"seconds": 120, "megabytes": {"1": 106.0}})
    assert memory_growth(samples) == {"1": pytest.approx(1.06)}


def test_an_idle_worker_and_a_host_that_takes_time_are_seen() -> None:
    """Of ten seconds: the share of a core of each process, and the share of all cores that the host took."""
    used = ({"1": 4.0, "2": 3.0, "3": 1.0}, {"1": 9.0, "2": 3.0})
    samples = [{"seconds": 10.0 * i, "processor_seconds": of, "stolen_seconds": 2.0 * i} for i, of in enumerate(used)]
    assert processor_shares(samples) == {"1": 0.5, "2": 0.0}
    assert stolen_share(samples) == pytest.approx(0.2 / (psutil.cpu_count() or 1))
    assert np.isnan(stolen_share(samples[:1]))
