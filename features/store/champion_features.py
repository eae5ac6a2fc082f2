"""Whether an online store in use has to stay as it is, because the champion of the releases reads it.

After a change of the schema or of the views, the features of the tree are not those that the champion was trained on.
The store stays the champion's until a model of the new schema is released.
"""

import json
from pathlib import Path

from features.schema import to_json
from features.store.item_snapshot import declared_in, missing_columns
from features.store.online_store import OnlineStore


def reason_to_keep(store: OnlineStore, champion: Path) -> str | None:
    """Why nothing may be written to `store`; None where the model folder `champion` does not need it as it is.

    It does where the store has the features of the champion, and the features of the tree lack some of them.
    """
    held = declared_in(store.snapshot)
    if held is None or not (champion / "model.json").is_file():
        return None
    trained_on = json.loads((champion / "model.json").read_text())["schema"]
    needed = (champion / "views.json").read_text()
    if held[0] != trained_on or missing_columns(needed, held[1]):
        return None
    if store.schema.fingerprint() != trained_on:
        change = "data/schema.json declares another schema than that of"
    elif missing := missing_columns(needed, to_json(store.views)):
        change = f"the features {sorted(missing)} are no longer made, which are read by"
    else:
        return None
    return (
        f"nothing is written: {change} the champion {champion.resolve().parent.name}, which reads {store.online} and "
        "serves on from it; release a model of the new features (`make release`), then run this again"
    )
