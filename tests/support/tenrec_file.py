"""A tiny file of Tenrec's QK-video in the official layout."""

import zipfile
from pathlib import Path

import numpy as np

from common.params import Dataset, Tenrec
from features.datasets import tenrec
from tests.support import world

COLUMNS = (
    "user_id,item_id,click,follow,like,share,video_category,watching_times,gender,age,"
    "hist_1,hist_2,hist_3,hist_4,hist_5,hist_6,hist_7,hist_8,hist_9,hist_10"
)
FIRST, SECOND, THIRD = "2,3,80936,781,111774,1230,26403,991,2362,1202", "4,2,0,0,0,0,0,0,0,0", "0,0,0,0,0,0,0,0,0,0"
ROWS = rf"""1,4,0,0,0,0,1,0,1,4,{FIRST}
1,1201,1,0,0,0,1,1,1,4,{FIRST}
1,9,0,0,1,0,0,0,1,4,{FIRST}
1,7,0,0,0,0,0,0,1,4,{FIRST}
2,7,0,0,0,0,0,0,0,0,{SECOND}
2,9,1,1,1,1,0,5,0,0,{SECOND}
2,8,0,0,0,0,\N,0,0,0,{SECOND}
5,8,0,0,0,0,\N,0,2,7,{THIRD}
"""


def write(folder: Path, rows: str = ROWS, *, columns: str = COLUMNS, compressed: bool = False) -> Path:
    """ctr_data_1M.csv in `folder`, or Tenrec.zip with it."""
    text = f"{columns}\n{rows}"
    if not compressed:
        (folder / tenrec.FILE).write_text(text)
        return folder / tenrec.FILE
    with zipfile.ZipFile(folder / tenrec.ARCHIVE, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("Tenrec/Readme.txt", "the items of a user are in order of time")
        made.writestr(f"Tenrec/{tenrec.FILE}", text)
    return folder / tenrec.ARCHIVE


def dataset(folder: Path, **changes: object) -> Dataset:
    """The parameters that the reader uses, with changes; by default every row is read."""
    section = world.section("dataset")["tenrec-qk-video"] | {"negatives_per_click": 9.0} | changes
    return Dataset.model_construct(name="tenrec-qk-video", path=str(folder), tenrec_qk_video=Tenrec(**section))


def many(rows: int = 3000, seed: int = 3) -> str:
    """Rows in the official layout: 20 users one after the other, 60 videos with a category each, 20 % clicks."""
    random = np.random.default_rng(seed)
    user, item = np.sort(random.integers(1, 21, rows)), random.integers(1, 61, rows)
    click, like = (random.random(rows) < 0.2).astype(int), (random.random(rows) < 0.05).astype(int)
    category = np.array(["0", "1", r"\N"])[item % 3]
    lines = zip(user, item, click, like, category, strict=True)
    return "".join(
        f"{u},{i},{c},0,{k},0,{v},{c},{u % 3},{u % 8},{u},{u + 1}" + ",0" * 8 + "\n" for u, i, c, k, v in lines
    )
