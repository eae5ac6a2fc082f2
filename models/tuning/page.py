"""The page of a search: its finalists and Optuna's own plots, as one HTML file that opens without a network."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from optuna.trial import TrialState
from optuna.visualization import (
    plot_intermediate_values,
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_param_importances,
    plot_slice,
)
from plotly.offline import get_plotlyjs

from common.files import write_text
from models.tuning.experiments import experiment_command, shown
from models.tuning.finalists import changes
from models.tuning.parameters import Values
from models.tuning.search import SearchResult

Plot = Callable[[optuna.Study], Any]  # -> a figure of plotly
HEIGHT = 480  # pixels of a figure
LEFT_OUT = "Left out: it needs two complete trials with different means."


def write_page(path: Path, result: SearchResult, current: Values, measure: str) -> None:
    """Write the page of a search to `path`.

    Args:
        path: the HTML file.
        result: what the search has found.
        current: the values in params.yaml.
        measure: the name of the validation mean.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, autoescape=True, trim_blocks=True
    )
    changed = changes(result.chosen, current)
    trials = result.study.get_trials(deepcopy=False)
    page = environment.get_template("page.j2").render(
        name=result.study.study_name,
        measure=measure,
        counts={state.name.lower(): sum(trial.state == state for trial in trials) for state in TrialState},
        finalists=result.finalists,
        chosen=result.chosen,
        current=current,
        changes=changes,
        command=shown(experiment_command(changed)) if changed else None,
        figures=list(_figures(result.study, measure)),
        plotly=get_plotlyjs(),
    )
    write_text(path, page)


def _figures(study: optuna.Study, measure: str) -> Iterator[tuple[str, str, str]]:
    """Heading, explanation, and HTML of each figure."""
    plots: tuple[tuple[str, str, Plot], ...] = (
        (
            "History",
            f"The {measure} of each trial, and the best one so far.",
            lambda s: plot_optimization_history(s, target_name=measure),
        ),
        ("Importance", "Share of each parameter in the differences between the trials.", plot_param_importances),
        ("Parallel coordinates", "A line for each trial.", lambda s: _parallel(s, measure)),
        ("Slices", "A point for each trial.", lambda s: plot_slice(s, target_name=measure)),
        ("Epochs", "Each trial by epoch; lines that end early were pruned.", plot_intermediate_values),
    )
    means = {trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    for heading, explanation, plot in plots:
        drawn = _drawn(plot, study, measure) if len(means) > 1 else f"<p>{LEFT_OUT}</p>"
        yield heading, explanation, drawn


def _drawn(plot: Plot, study: optuna.Study, measure: str) -> str:
    figure = plot(study)
    figure.update_layout(
        title=None, height=HEIGHT, margin={"t": 60, "l": 60, "r": 30, "b": 60}, template="plotly_white"
    )
    html: str = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}
    )
    return html


def _parallel(study: optuna.Study, measure: str) -> Any:
    """Optuna's plot, which cuts the names of the parameters, with whole ones."""
    figure = plot_parallel_coordinate(study, target_name=measure)
    names = sorted({name for trial in study.get_trials(deepcopy=False) for name in trial.params})
    return figure.update_xaxes(ticktext=[measure, *(name.removeprefix("train.") for name in names)])
