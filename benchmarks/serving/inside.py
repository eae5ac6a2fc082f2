"""Benchmark: the parts of a request in this process, without a network.

    forward   the network's eager forward of the same rows, encoded beforehand
    feast     plain get_online_features for the same rows (the user's repeated)
    plain     feast, encode and forward: the ranking of benchmarks/serving/plain.py without HTTP
    service   the service's whole ASGI application: body in, body out
    degraded  the same while another connection locks the SQLite file, after the circuit breaker has opened

Every round runs each of the first four once on the same request, so that other load of the machine affects all alike.
"""

from pathlib import Path

from common import stage


def inside(
    *, model: Path, online: Path, json: Path, candidates: tuple[int, ...] = (200, 500), rounds: int = 100
) -> None:
    """Time `rounds` requests for each number of `candidates`; milliseconds of each part go to `json`."""
    from benchmarks.serving.request_parts import measure_parts

    measure_parts(model, online, json, candidates, rounds)


if __name__ == "__main__":
    stage.run(inside)
