"""What a finding says, in one sentence, by its kind."""

from typing import Any

Entry = dict[str, Any]


def _place(found: Entry) -> str:
    """Where; of a finding in all scenarios, the words that follow are about the one that moved most."""
    return "all scenarios" if found["scenario"] == "all" else str(found["scenario"])


def _figure(value: float) -> str:
    return f"{float(f'{value:.3g}'):,g}"


def _of_missing(cell: Entry, found: Entry) -> str:
    then, now = cell["missing"]
    return f"{found['column']} is missing in {now:.1%} of the rows of {_place(found)}, usually in {then:.1%}"


def _of_new(cell: Entry, found: Entry) -> str:
    then, now = cell["unknown"]
    return f"{now:.1%} of the values of {found['column']} in {_place(found)} are new to the model, usually {then:.1%}"


def _of_unit(cell: Entry, found: Entry) -> str:
    factor = _figure(cell["scale"][0])
    return (
        f"{found['column']} in {_place(found)} is {factor} times what it was, in mean and spread alike: "
        "as after a change of unit"
    )


def _of_swap(cell: Entry, found: Entry) -> str:
    first, second = cell["swapped"]
    return f"{first} and {second} of {found['column']} have changed places in {_place(found)}"


def _of_range(cell: Entry, found: Entry) -> str:
    then, now = cell["out_of_range"]
    return (
        f"{now:.1%} of {found['column']} in {_place(found)} lie beyond what training saw, usually {then:.1%}; "
        f"the bin that moved most is {cell['linf_bin']}"
    )


def _of_age(cell: Entry, found: Entry) -> str:
    then, now = cell["fresh"]
    return (
        f"{now:.1%} of {found['column'].partition(':')[0]} in {_place(found)} have a value of the youngest days, "
        f"usually {then:.1%}: as when what writes them stands still"
    )


def _of_shift(cell: Entry, found: Entry) -> str:
    return (
        f"{found['column']} is distributed differently in {_place(found)}: the share of {cell['linf_bin']} has "
        f"moved by {100 * cell['linf']:+.1f} points"
    )


def _of_the_mix(mix: Entry, found: Entry) -> str:
    moved = next(entry for entry in mix["scenarios"] if entry["scenario"] == found["scenario"])
    then, now = moved["reference_share"], moved["current_share"]
    return f"{moved['scenario']} makes {now:.1%} of the impressions, usually {then:.1%}"


def _of_rate(entry: Entry, found: Entry) -> str:
    day = "on such weekdays" if entry["same_weekday"] else "over all days"
    then, now = entry["reference_rate"], entry["rate"]
    return f"{found['task']} in {_place(found)} is {now:.2%}, usually {then:.2%} {day} ({now / then - 1:+.0%})"


def _of_calibration(entry: Entry, found: Entry) -> str:
    return (
        f"{found['task']} in {_place(found)}: predicted over observed is {entry['ratio']:.2f}, on the "
        f"validation rows {entry['reference_ratio']:.2f}"
    )


def _of_ranking(entry: Entry, found: Entry) -> str:
    return (
        f"{found['task']} in {_place(found)} is ranked worse: AUC {entry['auc']:.3f}, on the validation rows "
        f"{entry['reference_auc']:.3f}"
    )


def _of_score(entry: Entry, found: Entry) -> str:
    return f"the scores of {found['task']} in {_place(found)} are distributed differently: PSI {entry['psi']:.2f}"


SENTENCES = {
    "missing": _of_missing,
    "new_values": _of_new,
    "stale": _of_age,
    "unit": _of_unit,
    "swapped": _of_swap,
    "range": _of_range,
    "covariate": _of_shift,
    "mix": _of_the_mix,
    "label_rate": _of_rate,
    "calibration": _of_calibration,
    "ranking": _of_ranking,
    "score": _of_score,
}
