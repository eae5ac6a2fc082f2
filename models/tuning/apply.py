"""The end of a search: its result on the terminal, in params.yaml, and in DVC's queue of experiments."""

from common.files import write_text
from common.paths import PARAMS
from common.yaml_file import read_utf8
from models.tuning.experiments import experiment_command, queue_experiments, shown
from models.tuning.finalists import CURRENT, changes
from models.tuning.parameters import Values, with_values_in_text
from models.tuning.search import SearchResult


def apply(result: SearchResult, current: Values, *, write: bool, experiments: bool) -> None:
    """Print the finalists, and apply the chosen values.

    Args:
        result: of the search.
        current: the values in params.yaml when it began.
        write: write the chosen values to params.yaml; otherwise the command that runs them is printed.
        experiments: queue each finalist as an experiment of DVC.
    """
    for finalist in result.finalists:
        print(f"{finalist.label}{' (chosen)' if finalist is result.chosen else ''}")
    if experiments:
        names = queue_experiments(result.study.study_name, result.finalists, current)
        print(f"queued as experiments: {', '.join(names) or 'none'}. Run them: dvc queue start")
    if result.chosen.name == CURRENT:
        print("no finalist gains more than its standard error: params.yaml stays as it is", flush=True)
    elif write:
        write_text(PARAMS, with_values_in_text(read_utf8(PARAMS), result.chosen.values))
        for name, value in changes(result.chosen, current).items():
            print(f"{PARAMS}: {name}: {value}, was {current[name]}", flush=True)
    else:
        print(f"to run it: {shown(experiment_command(changes(result.chosen, current)))}")
        print("to write it to params.yaml: the same search with --write", flush=True)
