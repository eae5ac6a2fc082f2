"""The sentence of a finding, by its kind."""

from typing import Any

Entry = dict[str, Any]


def _scenario(finding: Entry) -> str:
    """The scenario; the numbers of a finding in all scenarios are those of the one that moved most."""
    return "all scenarios" if finding["scenario"] == "all" else str(finding["scenario"])


def _figure(value: float) -> str:
    return f"{float(f'{value:.3g}'):,g}"


def _of_missing(cell: Entry, finding: Entry) -> str:
    then, now = cell["missing"]
    return f"{finding['column']} is missing in {now:.1%} of the rows of {_scenario(finding)}, usually in {then:.1%}"


def _of_new(cell: Entry, finding: Entry) -> str:
    then, now = cell["unknown"]
    values = f"{now:.1%} of the values of {finding['column']} in {_scenario(finding)}"
    return f"{values} are new to the model, usually {then:.1%}"


def _of_unit(cell: Entry, finding: Entry) -> str:
    factor = _figure(cell["scale"][0])
    return (
        f"{finding['column']} in {_scenario(finding)} is {factor} times what it was, in mean and spread alike: "
        "as after a change of unit"
    )


def _of_swap(cell: Entry, finding: Entry) -> str:
    first, second = cell["swapped"]
    return f"{first} and {second} of {finding['column']} are exchanged in {_scenario(finding)}"


def _of_range(cell: Entry, finding: Entry) -> str:
    then, now = cell["out_of_range"]
    return (
        f"{now:.1%} of {finding['column']} in {_scenario(finding)} lie beyond the range of training, "
        f"usually {then:.1%}; the bin that moved most is {cell['linf_bin']}"
    )


def _of_age(cell: Entry, finding: Entry) -> str:
    then, now = cell["fresh"]
    return (
        f"{now:.1%} of {finding['column'].partition(':')[0]} in {_scenario(finding)} have a value of the youngest "
        f"days, usually {then:.1%}: as if the values were no longer updated"
    )


def _of_shift(cell: Entry, finding: Entry) -> str:
    return (
        f"{finding['column']} is distributed differently in {_scenario(finding)}: the share of {cell['linf_bin']} has "
        f"moved by {100 * cell['linf']:+.1f} points"
    )


def _of_the_mix(mix: Entry, finding: Entry) -> str:
    moved = next(entry for entry in mix["scenarios"] if entry["scenario"] == finding["scenario"])
    then, now = moved["reference_share"], moved["current_share"]
    return f"{moved['scenario']} makes {now:.1%} of the impressions, usually {then:.1%}"


def _of_volume(entry: Entry, finding: Entry) -> str:
    own = f"{entry['scenario']} has {entry['rows']:,} rows, usually {entry['expected']:,.0f} ({entry['change']:+.0%})"
    if finding["scenario"] != "all":
        return own
    return f"the number of rows is unusual in all scenarios: {own}"


def _of_rate(entry: Entry, finding: Entry) -> str:
    day = "on such weekdays" if entry["same_weekday"] else "over all days"
    then, now = entry["reference_rate"], entry["rate"]
    if "is_number" in entry:
        change = f" ({now / then - 1:+.0%})" if then > 0 else ""
        means = f"{_figure(now)}, usually {_figure(then)} {day}{change}"
        return f"the mean of {finding['task']} in {_scenario(finding)} is {means}"
    return f"{finding['task']} in {_scenario(finding)} is {now:.2%}, usually {then:.2%} {day} ({now / then - 1:+.0%})"


def _of_labels(entry: Entry, finding: Entry) -> str:
    return (
        f"{finding['task']} is distributed differently in {_scenario(finding)}: the share of {entry['linf_bin']} has "
        f"moved by {100 * entry['linf']:+.1f} points"
    )


def _of_calibration(entry: Entry, finding: Entry) -> str:
    return (
        f"{finding['task']} in {_scenario(finding)}: predicted over observed is {entry['ratio']:.2f}, on the "
        f"validation rows {entry['reference_ratio']:.2f}"
    )


def _of_ranking(entry: Entry, finding: Entry) -> str:
    return (
        f"{finding['task']} in {_scenario(finding)} is ranked worse: {_order(entry)} {entry['auc']:.3f}, on the "
        f"validation rows {entry['reference_auc']:.3f}"
    )


def _order(entry: Entry) -> str:
    return "XAUC" if "is_number" in entry else "AUC"


def _of_score(entry: Entry, finding: Entry) -> str:
    return (
        f"the scores of {finding['task']} in {_scenario(finding)} are distributed differently: PSI {entry['psi']:.2f}"
    )


SENTENCES = {
    "missing": _of_missing,
    "new_values": _of_new,
    "outdated": _of_age,
    "unit": _of_unit,
    "swapped": _of_swap,
    "range": _of_range,
    "covariate": _of_shift,
    "mix": _of_the_mix,
    "volume": _of_volume,
    "label_rate": _of_rate,
    "label_shift": _of_labels,
    "calibration": _of_calibration,
    "ranking": _of_ranking,
    "score": _of_score,
}
