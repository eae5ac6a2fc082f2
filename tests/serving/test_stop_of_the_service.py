"""`bentoml serve` stops under load: the signal goes to the process that watches the workers, as a user sends it."""

from pathlib import Path

import pytest

from common.paths import ROOT
from tests.support import tiny_project
from tests.support.connection_load import outcomes_of_a_stop
from tests.support.service_process import bentoml_process, complete_answer, wait_until_ready
from tests.support.serving import VALID

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_no_connection_is_reset_when_bentoml_serve_stops(project: Path, tmp_path: Path) -> None:
    """`bentoml serve` with two workers, SIGTERM to its process under load: all requests are answered or refused."""
    sources = {"HINET_MODEL": project / tiny_project.MODEL, "HINET_ONLINE_STORE": project / tiny_project.ONLINE}
    with bentoml_process([], ROOT, tmp_path, HINET_WORKERS=2, **sources) as (client, process):
        wait_until_ready(client)
        assert complete_answer(client, VALID).status_code == 200
        assert client.base_url.port is not None
        outcomes = outcomes_of_a_stop([process], client.base_url.port, VALID, clients=48)
    assert {"503", "refused"} <= set(outcomes) <= {"200", "429", "503", "refused"}
