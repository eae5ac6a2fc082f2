"""Stage: pack a bento that serves from any folder: source, parameters, model, online store and item snapshot.

The source is what the service imports and no more. Equal inputs give equal bytes: the version is the model's tag, and
no build time is recorded. The bento and its model are put into BentoML's store as well, a by-product with a time.
"""

from pathlib import Path

from common import stage
from common.diagnosis import check_whole
from common.files import replacing_folder


def package(*, model: Path, online: Path, out: Path, store: Path) -> None:
    """Build the bento `out` from the model folder `model` and the SQLite online store `online`; raises ModelError.

    The item snapshot in the folder of the online store is packed, too. `store` is the home of BentoML, where
    `bentoml list` and `bentoml models list` find the bento and the model.
    """
    from serving.bento.build import build_bento
    from serving.bento.store import store_bento

    check_whole({"online": online} if online.exists() else {})  # a missing one is the build's own error
    with replacing_folder(out) as partial:
        partial.rmdir()  # the build makes it
        tag = build_bento(model=model, online=online, out=partial)
    store_bento(out, model, tag=tag, home=store)
    print(f"bento of model {tag}: bentoml serve {out.absolute()}", flush=True)  # BentoML finds no relative path


if __name__ == "__main__":
    stage.run(package)
