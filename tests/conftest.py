"""What every test runs in: one thread, no telemetry."""

import os

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

pytest_plugins = ["tests.support.fixtures"]  # `project`, `client`, `server`, `workspace`
