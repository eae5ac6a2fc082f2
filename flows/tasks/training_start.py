"""Where a training of the flows begins: in the champion, or once in so many days with new weights.

The stage `train` depends on the folder that train.warm_start names. Where that is NIGHTLY_START a flow writes it: a
copy of the champion's model, which a later release does not change, or the file that stands for no model.
"""

import datetime
import shutil

from common import params
from common.errors import ParameterError
from common.files import replacing_folder
from common.paths import CHAMPION_MODEL, FROM_NOTHING, NIGHTLY_START


def is_full_fit(day: datetime.date, every: int) -> bool:
    """Whether the training of a day has new weights; `every` 7: on Sundays."""
    return day.toordinal() % every == 0


def write_start(*, full: bool) -> str | None:
    """Write NIGHTLY_START and return what it holds; None where the training begins elsewhere.

    Without a champion the training has new weights. Raises ParameterError where the champion is asked for (`full` is
    False), but train.warm_start is another folder.
    """
    folder = params.load().train.warm_start
    if folder != str(NIGHTLY_START):
        if not full:
            raise ParameterError(
                f"full_fit_every is above 1, but train.warm_start is {folder}: set it to {NIGHTLY_START}, where the "
                "flow copies the champion, or set full_fit_every to 1"
            )
        return None
    new = full or not CHAMPION_MODEL.exists()
    with replacing_folder(NIGHTLY_START) as partial:
        if new:
            (partial / FROM_NOTHING).write_text("The training begins with new weights.\n")
        else:
            shutil.copytree(CHAMPION_MODEL, partial, dirs_exist_ok=True)
    return "new weights" if new else f"the champion {CHAMPION_MODEL.parent.resolve().name}"
