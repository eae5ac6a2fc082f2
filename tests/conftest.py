"""What every test runs in: one thread, no telemetry."""

import os

from hypothesis import settings

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

settings.register_profile("busy machine", deadline=None)  # how long an example takes says nothing there
settings.load_profile("busy machine")

pytest_plugins = ["tests.support.fixtures"]  # `project`, `client`, `server`, `workspace`
