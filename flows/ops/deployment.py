"""What `prefect deploy` adds to a deployment: the project's environment variables, as the job's own.

prefect.yaml names `environment` as a build step. Runs in containers get the variables so; runs of a process worker have
those of the worker, too.
"""

import os
import re

from common.settings import Settings, read_settings, variable

API_KEY = variable("api_key")  # of the service: no flow needs it


def environment() -> dict[str, dict[str, str]]:
    """The variables of common/settings.py that are set here, as `variables`; raises ParameterError for a wrong one.

    Secrets are left out: whoever may read a deployment would read them.
    """
    read_settings()
    names = (variable(field) for field in Settings.model_fields)
    present = {name: os.environ[name] for name in names if os.environ.get(name)}
    secret = {name for name, value in present.items() if name == API_KEY or _has_password(value)}
    for name in sorted(secret - {API_KEY}):
        print(f"{name} holds a password and is no part of the deployment: set it where the worker or the pod runs")
    return {"variables": {name: value for name, value in present.items() if name not in secret}}


def _has_password(value: str) -> bool:
    """Whether an address has a password, as those of Redis (`password=...`) or of databases (`user:password@`) do."""
    return "password=" in value or re.search(r"://[^:/@]*:.*@", value) is not None
