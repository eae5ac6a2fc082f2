"""What Feast's own commands see: the definitions of the newest pipeline run.

    feast -c features/store plan
    feast -c features/store feature-views list

Feast imports this file from within its folder. `dvc repro` must have made data/features before.
"""

from common.errors import PipelineError
from common.paths import FEATURES, ROOT, SCHEMA, VIEWS
from features.schema import read_schema, read_views
from features.store.definitions import definitions
from features.store.ibis_backend import set_ibis_backend
from features.store.sqlite_timestamps import set_utc_timestamps

if not (ROOT / VIEWS).is_file():
    raise PipelineError(f"{ROOT / FEATURES} has no views.json, which the stage aggregate writes: run `dvc repro` first")
set_ibis_backend(threads=1)
set_utc_timestamps()
globals().update(
    {
        f"{type(defined).__name__.lower()}_{number}": defined
        for number, defined in enumerate(
            definitions(read_schema(ROOT / SCHEMA), read_views(ROOT / VIEWS), features=ROOT / FEATURES)
        )
    }
)
