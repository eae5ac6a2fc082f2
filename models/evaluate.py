"""Stage: measure every model on the test rows, by scenario and task; write metrics, plots and predictions.

One stage for all models, so that they are measured on the same rows. It runs on the CPU, whatever the models were
trained on: the service runs there too and must give the same logits.
"""

from pathlib import Path

from common import params, stage


def evaluate(
    *,
    models: list[Path],
    tensors: Path,
    truth: Path,
    schema: Path,
    out: Path,
    plots_out: Path,
    predictions: Path,
) -> None:
    """Measure the models in the folders `models` on the test rows, and the best possible where the truth is known.

    Args:
        models: folders that `models.train` wrote.
        tensors: folder of the encoded rows; those in `test` are measured.
        truth: folder of the true probabilities, by event_id.
        schema: schema.json of the data set.
        out: the metrics as JSON.
        plots_out: folder of the rows of every plot.
        predictions: folder of one Parquet file of logits per model.
    """
    import torch

    from features.encoding.tensors import open_tensors
    from features.schema import read_schema
    from models.evaluation import accuracy, limit, plot_files, predict, report, results_table
    from models.evaluation.trained_models import read_models

    torch.set_num_threads(stage.threads())
    settings, declared, test = params.load().evaluate, read_schema(schema), open_tensors(tensors / "test")
    trained = read_models(models, declared)
    logits = {model.name: predict.predict_calibrated(model, test) for model in trained.values()}
    probabilities = {
        model.name: accuracy.probabilities_of(logits[model.name], declared.tasks, model.encoder.targets)
        for model in trained.values()
    }
    best = limit.true_probabilities(truth, test, declared)
    measured = probabilities if best is None else {**probabilities, results_table.LIMIT: best}
    results = {name: report.measure(rows, test, declared, settings) for name, rows in measured.items()}
    for model in trained.values():
        if model.calibration is not None:
            uncalibrated = predict.predict(model.network, test, f"{model.name} uncalibrated")
            before = accuracy.probabilities_of(uncalibrated, declared.tasks, model.encoder.targets)
            report.add_uncalibrated(results[model.name], report.measure(before, test, declared, settings))
    report.write_metrics(out, results)
    for name, rows in logits.items():
        predict.write_predictions(predictions / f"{name}.parquet", rows, test, declared)
    plot_files.write_auc(plots_out, results)
    plot_files.write_reliability(plots_out, probabilities, test, declared, settings.bins)
    plot_files.write_learning(plots_out, trained, declared)
    plot_files.write_weights(plots_out, trained, test, declared)
    results_table.show_metrics(results)


if __name__ == "__main__":
    stage.run(evaluate)
