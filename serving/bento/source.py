"""The source of a bento: the project's modules that the service needs, its settings, and its requirements."""

import shutil
from importlib.metadata import version
from modulefinder import ModuleFinder
from pathlib import Path

from common.paths import PARAMS, ROOT
from common.yaml_file import read_yaml
from features.store.online_settings import ENGINE
from models.model_folder import NETWORKS
from serving.shadow.client import WORKER

SERVICE, CONSUMER = "serving.service", "serving.consume"
STORE_SETTINGS = Path("features/store/feature_store.yaml")
PACKAGES = (
    "cyclopts",
    "duckdb",
    "feast[duckdb,redis]",
    "filelock",
    "fsspec",
    "ibis-framework",
    "numpy",
    "opentelemetry-api",
    "opentelemetry-sdk",
    "orjson",
    "pandas",
    "prometheus_client",
    "pyarrow",
    "pydantic",
    "pydantic-settings",
    "pydantic_core",
    "redis",
    "ruamel.yaml",
    "safetensors",
    "starlette",
    "torch",
    "typeguard",
    "typing_extensions",
    "uvicorn",
)  # BentoML adds itself


def copy_source(target: Path, *, network: str) -> None:
    """Copy to `target` every module of the project that the service can import, and the settings.

    Some are imported by name only: the processes of the shadow model and of the events, the network called `network`
    in NETWORKS, and the classes that the settings of the feature store name.
    """
    finder = ModuleFinder(path=[str(ROOT)])
    for module in (SERVICE, WORKER, CONSUMER, NETWORKS[network].split(":")[0], *_store_modules()):
        finder.import_hook(module)
    files = (getattr(module, "__file__", None) for module in finder.modules.values())
    names = {Path(path).relative_to(ROOT) for path in files if path} | {PARAMS, STORE_SETTINGS}
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)


def _store_modules() -> set[str]:
    """The modules of the project whose classes Feast imports by their names in the store that the service opens."""
    named = (read_yaml(ROOT / STORE_SETTINGS)["offline_store"]["type"], ENGINE)
    return {name.rpartition(".")[0] for name in named}


def requirements() -> list[str]:
    """The packages that the source imports, in the installed versions."""
    return [f"{name}=={version(name.split('[')[0]).split('+')[0]}" for name in PACKAGES]
