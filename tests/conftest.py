"""What every test runs in: one thread, no telemetry."""

import os

from hypothesis import HealthCheck, settings

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

# How long an example takes says nothing on a busy machine. The suite that has to pass draws the same examples each
# time, so that what fails is the change; `make slow` draws new ones (HYPOTHESIS_PROFILE=search).
settings.register_profile("same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

pytest_plugins = [
    "tests.support.fixtures",  # `project`, `client`, `server`, `workspace`
    "tests.support.scheduling",  # of `pytest -n 2`
]
