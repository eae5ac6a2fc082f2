"""What the service and the process of the shadow model agree on: JSON lines on standard input, and a signal."""

import signal
from typing import Any

import orjson

from serving.ranking.request import RankRequest
from serving.ranking.result import RankingResult

WRITE_AND_END = signal.SIGUSR1  # to the process: drop the unread lines, write what was compared, and end


def encode_line(request: RankRequest, result: RankingResult) -> bytes:
    """A request and its answer as a JSON line."""
    answer = {
        "items": result.items,
        "scores": result.scores,
        "probabilities": result.probabilities,
        "model": result.model,
        "seconds": sum(result.seconds.values()),
    }
    document = {"request": request.model_dump(exclude={"k", "diversify", "explain"}), "answer": answer}
    return orjson.dumps(document, _to_list, orjson.OPT_SERIALIZE_NUMPY) + b"\n"


def decode_line(line: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request and the answer of a JSON line."""
    document = orjson.loads(line)
    return document["request"], document["answer"]


def _to_list(array: Any) -> Any:
    """Convert an array that is not contiguous, which orjson does not take."""
    return array.tolist()
