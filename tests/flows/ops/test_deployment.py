"""Deployments: the form of each flow's parameters, and the environment that reaches a run."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import PrefectHTTPStatusError
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import get_current_settings
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker

from common.errors import ParameterError
from common.paths import ROOT
from common.settings import Settings, variable
from flows.ops.deployment import environment

FLOWS = ("pipeline", "materialize", "monitor", "release", "backtest")
DATABASE = "postgresql+psycopg://"
KEY = "a-key-of-the-service"
FOLDER = "/srv/hinet"  # of the project, where the runs are: `PWD=/srv/hinet prefect deploy --all`


@pytest.fixture
def set_here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets variables of the project in an environment that has no other of them."""

    def change(**fields: str) -> None:
        for name in Settings.model_fields:
            monkeypatch.delenv(variable(name), raising=False)
        for name, value in fields.items():
            monkeypatch.setenv(variable(name), value)

    return change


@pytest.mark.unit
def test_the_variables_of_the_machine_are_those_of_the_deployment(set_here: Callable[..., None]) -> None:
    """Those that are set and not empty; on a machine without any there are none."""
    set_here()
    assert environment() == {"variables": {}}
    set_here(redis="redis:6379", online_store="/srv/online.db", shadow="")
    assert environment() == {"variables": {"HINET_REDIS": "redis:6379", "HINET_ONLINE_STORE": "/srv/online.db"}}


@pytest.mark.unit
def test_secrets_are_no_part_of_a_deployment(set_here: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the API key of the service nor an address with a password, which is said."""
    set_here(redis="redis:6379,password=abc", feast_registry=f"{DATABASE}feast:abc@db/feast", api_key=KEY, workers="2")
    assert environment() == {"variables": {"HINET_WORKERS": "2"}}
    printed = capsys.readouterr().out
    assert "HINET_REDIS holds a password" in printed
    assert "HINET_FEAST_REGISTRY holds a password" in printed
    assert "abc" not in printed
    set_here(feast_registry=f"{DATABASE}db/feast")
    assert environment() == {"variables": {"HINET_FEAST_REGISTRY": f"{DATABASE}db/feast"}}


@pytest.mark.unit
def test_a_wrong_variable_stops_the_deployment(set_here: Callable[..., None]) -> None:
    """The message names the variable and the rule, once, before any run has it."""
    set_here(shadow_share="2")
    with pytest.raises(ParameterError, match="HINET_SHADOW_SHARE: Input should be less than or equal to 1"):
        environment()


@pytest.mark.unit
@pytest.mark.parametrize("name", FLOWS)
def test_the_form_explains_every_parameter(name: str) -> None:
    """Each has a description and a default; a number has bounds."""
    flow: Any = load_flow_from_entrypoint(f"{ROOT}/flows/{name}.py:{name}")
    schema = parameter_schema(flow).model_dump()
    assert schema["required"] == []
    for parameter in schema["properties"].values():
        assert len(parameter["description"]) > 10
        numbers = [one for one in (parameter, *parameter.get("anyOf", [])) if one.get("type") in ("integer", "number")]
        assert all({"minimum", "maximum"} <= set(one) for one in numbers)


@pytest.fixture
def deploy(server: None) -> Callable[[], dict[str, DeploymentResponse]]:
    """Runs `prefect deploy --all` against a server with the work pool; the deployments, read back from there."""

    async def read() -> dict[str, DeploymentResponse]:
        async with get_client() as client:
            return {one.name: one for one in await client.read_deployments() if "hinet" in one.tags}

    async def create_pool() -> None:
        template = ProcessWorker.get_default_base_job_template()
        async with get_client() as client:
            await client.create_work_pool(
                WorkPoolCreate(name="hinet", type="process", base_job_template=template), overwrite=True
            )

    def run() -> dict[str, DeploymentResponse]:
        asyncio.run(create_pool())
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        changed = {"PREFECT_API_URL": str(get_current_settings().api.url), "PWD": FOLDER}
        subprocess.run(command, cwd=ROOT, env=os.environ | changed, check=True, capture_output=True, timeout=300)
        return asyncio.run(read())

    return run


@pytest.mark.process
def test_a_deployment_has_the_environment_of_the_machine_and_checks_parameters(
    deploy: Callable[[], dict[str, DeploymentResponse]], set_here: Callable[..., None]
) -> None:
    """`prefect deploy --all` stores them with each; the server refuses a wrong value in a sentence."""
    set_here(redis="redis:6379", api_key=KEY)
    deployed = deploy()
    assert set(deployed) == {"nightly", "hourly", "collected", "daily"}
    for one in deployed.values():
        assert one.job_variables == {"env": {"HINET_REDIS": "redis:6379"}}
        assert one.pull_steps == [{"prefect.deployments.steps.set_working_directory": {"directory": FOLDER}}]
        for parameter in (one.parameter_openapi_schema or {})["properties"].values():
            assert parameter["description"]
    assert "0 is less than the minimum of 1" in refusal(deployed["daily"], days=0)
    assert "'two' is not of type 'integer'" in refusal(deployed["daily"], days="two")
    assert "'maybe' is not of type 'boolean'" in refusal(deployed["nightly"], release="maybe")


@pytest.mark.process
@pytest.mark.slow
def test_a_machine_without_variables_deploys_as_well(
    deploy: Callable[[], dict[str, DeploymentResponse]], set_here: Callable[..., None]
) -> None:
    """The environment of the job is empty, so that of the worker stays as it is."""
    set_here()
    deployed = deploy()
    assert set(deployed) == {"nightly", "hourly", "collected", "daily"}
    assert all(one.job_variables == {"env": {}} for one in deployed.values())


def refusal(deployment: DeploymentResponse, **parameters: object) -> str:
    """What the server answers to a run with these parameters."""

    async def start() -> str:
        async with get_client() as client:
            with pytest.raises(PrefectHTTPStatusError) as refused:
                await client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
        return str(refused.value.response.json()["detail"])

    return asyncio.run(start())
