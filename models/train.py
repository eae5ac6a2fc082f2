"""Stage: train a network on the encoded rows and write the model folder of its best epoch."""

from pathlib import Path

from common import params, stage
from common.diagnosis import check_whole


def train(
    *,
    model: str,
    schema: Path,
    views: Path,
    encoder: Path,
    reference: Path,
    tensors: Path,
    out: Path,
    checkpoints: Path | None = None,
    live: Path | None = None,
) -> None:
    """Train the network called `model` and write its model folder, with curves and reference profile.

    With train.processes above 1 the stage starts so many processes of itself, unless torchrun has started it already.

    Args:
        model: hinet, shared_bottom, or another name in models.model_folder.NETWORKS.
        schema: schema.json of the data set.
        views: views.json of the feature store.
        encoder: encoder.json.
        reference: the histograms of the training rows.
        tensors: folder of the encoded rows, in `train` and `valid`.
        out: the model folder.
        checkpoints: folder of the checkpoints, from which a run that was killed resumes; the model's own is removed
            when the model folder is written.
        live: folder of the curves while the run goes on, as DVCLive writes them.
    """
    from models.training import distributed
    from models.training.live_log import live_log
    from models.training.train_model import train_model

    settings = params.load().train
    copied = {"schema": schema, "views": views, "encoder": encoder, "reference": reference}
    check_whole(copied)  # they are copied when the training is over
    out.parent.mkdir(parents=True, exist_ok=True)  # an error now, and not then
    if settings.processes > 1 and not distributed.launched():
        folders = {"tensors": tensors, "out": out, "checkpoints": checkpoints, "live": live}
        distributed.launch(train, settings.processes, {"model": model, **copied, **folders})
        return
    with live_log(live) as observe:
        train_model(model, copied, tensors, out, checkpoints=checkpoints, settings=settings, observe=observe)


if __name__ == "__main__":
    stage.run(train)
