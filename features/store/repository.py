"""What `feast plan` and `feast apply` see: the definitions of the newest pipeline run.

    feast -c features/store plan

Feast imports this file from within its folder. The stage `aggregate` must have written data/features before.
"""

from pathlib import Path

import click
from feast import FeatureStore
from feast.utils import get_default_yaml_file_path

from common.paths import FEATURES, ROOT, SCHEMA, VIEWS
from common.settings import read_settings
from features.schema import read_schema, read_views
from features.store.registry import as_registered

HERE = Path(__file__).parent

if not (ROOT / VIEWS).is_file():
    raise click.ClickException(
        f"{ROOT / VIEWS} does not exist, which the stage aggregate writes: run `dvc repro` first"
    )
command = click.get_current_context(silent=True)  # of Feast, whose option -f may name other settings
defined = as_registered(
    FeatureStore(str(HERE), fs_yaml_file=command.obj["FS_YAML_FILE"] if command else get_default_yaml_file_path(HERE)),
    read_schema(ROOT / SCHEMA),
    read_views(ROOT / VIEWS),
    features=ROOT / FEATURES,
    online=ROOT / read_settings().online_store,
)
globals().update({f"{type(one).__name__.lower()}_{number}": one for number, one in enumerate(defined)})
