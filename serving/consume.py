"""Command: apply the events of the queue to the sessions of users, as they come; one process beside the service.

It reads what the service reads: the model's folder (HINET_MODEL), the folder of the events (HINET_EVENTS) and the Redis
(HINET_REDIS). It ends by SIGTERM, and may be killed at any time: what it did not record it does again.
"""

import signal
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

from common import stage
from common.errors import ModelError
from common.files import exclusive_lock
from common.paths import ROOT
from common.settings import read_settings, variable
from features.engine.session_view import session_views
from features.schema import read_views
from serving.events.consumer_lock import ConsumerRunningError

LOCK, VIEWS = "consumer.lock", "views.json"


def consume(*, host: str = "127.0.0.1", port: int = 3010, stay: bool = False) -> None:
    """Apply events until SIGTERM or SIGINT; metrics for Prometheus are at http://HOST:PORT/metrics (port 0: any).

    Where the model reads no session features it ends at once, or waits for the signal (`--stay`): Kubernetes starts
    whatever ends again.
    """
    settings, stop = read_settings(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    model, folder = ROOT / settings.model, ROOT / settings.events
    if not (model / VIEWS).is_file():
        raise ModelError(f"{model} does not exist: run `dvc repro`, or set {variable('model')} to where the model is")
    if not session_views(read_views(model / VIEWS)):
        print(f"{model} reads no session features (aggregate.session.events): no events are applied", flush=True)
        if stay:
            _stay(stop, address=(host, port))
        return
    try:
        with exclusive_lock(folder / LOCK):
            _apply(model, folder, redis=settings.redis, stop=stop, address=(host, port))
    except BlockingIOError:
        raise ConsumerRunningError(f"{folder} has a consumer already: one process applies its events") from None


def _stay(stop: threading.Event, *, address: tuple[str, int]) -> None:
    from serving.telemetry.event_metrics import EventMetrics

    print(f"metrics: http://{address[0]}:{EventMetrics().serve(*address)}/metrics", file=sys.stderr, flush=True)
    stop.wait()


def _apply(model: Path, folder: Path, *, redis: str | None, stop: threading.Event, address: tuple[str, int]) -> None:
    from serving.events.running import Applier
    from serving.telemetry.event_metrics import EventMetrics

    metrics = EventMetrics()
    with TemporaryDirectory(prefix="hinet-events-") as scratch:
        applier = Applier(model, folder, scratch=Path(scratch), redis=redis)
        applier.warm_up()
        page = f"http://{address[0]}:{metrics.serve(*address)}/metrics"
        print(f"applying the events of {folder}; metrics: {page}", file=sys.stderr, flush=True)
        applier.run(stop, metrics)


if __name__ == "__main__":
    stage.run(consume, summary=False)
