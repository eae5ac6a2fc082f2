"""Look at the files of a log and write a first declaration: what was guessed, why, and what is to be decided.

    python -m features.draft logs/*.csv users.csv items.parquet --out my-log/dataset.yaml
    python -m features.draft u.data=user_id,item_id,rating,timestamp --out my-log/dataset.yaml    # without a header

The declaration is a beginning: read it, decide what it asks for, then set dataset.name to `declared` and dataset.path
to the file (or to its folder, so that new data in the folder are noticed).
"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from common import stage
from common.errors import SourceError
from common.files import write_text


def draft(*files: str, out: Annotated[Path, Parameter()]) -> None:
    """Write a declaration of the log in `files` (Parquet, CSV, JSON lines; s3:// and https:// too) to `out`.

    FILE=NAME,NAME,... names the columns of a file without a header.

    Raises SourceError where `out` exists, a file cannot be read, or no file has a user, an item and a timestamp.
    """
    from features.datasets.drafting.draft import draft_of

    if out.exists():
        raise SourceError(f"{out} exists already: a declaration is not overwritten; name another --out")
    written = draft_of(list(files), out)
    write_text(out, written.text)
    print(written.summary(out), flush=True)


if __name__ == "__main__":
    stage.run(draft)
