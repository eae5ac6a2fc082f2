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
    training: Path | None = None,
    warm_start: Path | None = None,
    checkpoints: Path | None = None,
    live: Path | None = None,
) -> None:
    """Train the network called `model` and write its model folder, with curves and reference profile.

    With train.processes above 1 the stage starts so many processes of itself, unless torchrun has started it already.

    Args:
        model: hinet, shared_bottom, or another name in models.model_folder.NETWORKS.
        schema: schema.json of the data set.
        views: views.json of the feature store.
        encoder: encoder.parquet.
        reference: the histograms of the training rows.
        tensors: folder of the encoded rows, in `train` and `valid`.
        out: the model folder.
        training: folder of train.parquet and valid.parquet, the rows before they were encoded; required with a model in
            `warm_start`, and with train.window_days or train.half_life_days.
        warm_start: a model folder in which the training begins; one that holds the file `from_nothing`, or None: it
            begins with new weights.
        checkpoints: folder of the checkpoints, from which a run that was killed resumes; the model's own is removed
            when the model folder is written.
        live: folder of the curves while the run goes on, as DVCLive writes them.
    """
    from models.training import distributed
    from models.training.live_log import live_log
    from models.training.train_model import train_model
    from models.training.warm_start import start_folder

    settings = params.load().train
    copied = {"schema": schema, "views": views, "encoder": encoder, "reference": reference}
    check_whole(copied)  # they are copied when the training is over
    out.parent.mkdir(parents=True, exist_ok=True)  # an error now, and not then
    if settings.processes > 1 and not distributed.launched():
        folders = {"tensors": tensors, "out": out, "checkpoints": checkpoints, "live": live}
        folders |= {"training": training, "warm_start": warm_start}
        distributed.launch(train, settings.processes, {"model": model, **copied, **folders})
        return
    with live_log(live) as observe:
        train_model(
            model,
            copied,
            tensors,
            out,
            training=training,
            start=start_folder(warm_start),
            checkpoints=checkpoints,
            settings=settings,
            observe=observe,
        )


if __name__ == "__main__":
    stage.run(train)
