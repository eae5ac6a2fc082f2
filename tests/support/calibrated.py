"""A copy of a model folder with a calibration."""

import json
import shutil
from pathlib import Path
from typing import Any

from common.files import sha256_of
from models.model_folder import CALIBRATION, MODEL

PLATT: dict[str, Any] = {
    "kind": "platt",
    "cells": {
        "feed/click": {"a": 2.0, "b": 1.0},
        "search/click": {"a": 0.5, "b": -0.5},
        "search/order": {"a": 1.5, "b": -2.0},
        "channel/order": {"reason": "3 positives in 40 validation rows, fewer than 50 of a class"},
    },
}
ISOTONIC: dict[str, Any] = {
    "kind": "isotonic",
    "cells": {
        "feed/click": {"x": [-1.0, 0.0, 1.0], "y": [-2.0, -1.5, 2.0]},
        "search/order": {"x": [-0.5], "y": [-1.0]},
    },
}


def calibrated_copy(model: Path, target: Path, document: dict[str, Any]) -> Path:
    """The model folder `target`: that of `model`, which may be the same, with this calibration.json."""
    if target != model:
        shutil.copytree(model, target)
    (target / CALIBRATION).write_text(json.dumps(document))
    described = json.loads((target / MODEL).read_text())
    described["sha256"][CALIBRATION] = sha256_of(target / CALIBRATION)
    (target / MODEL).write_text(json.dumps(described))
    return target
