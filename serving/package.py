"""Stage: pack a bento that serves from any folder: source, parameters, model, online store and item snapshot.

The source is what the service imports and no more. Equal inputs give equal bytes: the version is the model's tag, and
no build time is recorded.
"""

from pathlib import Path

from common import stage
from common.diagnosis import check_whole
from common.files import replacing_folder


def package(*, model: Path, online: Path, out: Path) -> None:
    """Build the bento `out` from the model folder `model` and the SQLite online store `online`; raises ModelError.

    The item snapshot in the folder of the store is packed, too.
    """
    from serving.bento.build import build_bento

    check_whole({"online": online} if online.exists() else {})  # a missing one is the build's own error
    with replacing_folder(out) as partial:
        partial.rmdir()  # the build makes it
        tag = build_bento(model=model, online=online, out=partial)
    print(f"bento of model {tag}: bentoml serve {out.absolute()}", flush=True)  # BentoML finds no relative path


if __name__ == "__main__":
    stage.run(package)
