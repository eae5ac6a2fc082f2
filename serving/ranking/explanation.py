"""Explanations: the weights of the gates, and what each feature group contributes to the logits."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from features.encoding.encoder import Batch, Encoder
from features.schema import Kind, Schema, View
from models.model_folder import Model
from models.networks.hinet import HiNet
from serving.ranking.result import Explanation, Floats
from serving.ranking.scorer import forward


def explain(model: Model, rows: Batch, missing: Batch) -> Explanation:
    """The explanation of complete encoded rows [N, ..]; `missing` is a row [1, ..] with every column missing.

    The contribution of a group is the logit minus the logit with the group's columns taken from `missing`.
    Contributions of groups with related information do not add up.
    """
    scenario_gates, attention, task_gates = _gates(model, rows)
    return Explanation(
        scenario_gates=scenario_gates,
        attention=attention,
        task_gates=task_gates,
        contributions=_contributions(model, rows, missing),
    )


def feature_groups(schema: Schema, views: tuple[View, ...]) -> dict[str, frozenset[str]]:
    """The columns of each feature group: the ids of user and item, the scenario, the context, and each view by name."""
    single = {name: frozenset({name}) for name in (schema.user, schema.item, schema.scenario)}
    context = frozenset(column.name for column in schema.context)
    return single | {"context": context} | {view.name: frozenset(c.name for c in view.columns) for view in views}


def _contributions(model: Model, rows: Batch, missing: Batch) -> dict[str, dict[str, Floats]]:
    logits = _logits(model, rows)  # [N, O]
    contributions = {}
    for group, names in feature_groups(model.schema, model.views).items():
        if names & {column.name for column in model.encoder.columns}:
            difference = logits - _logits(model, _without(model.encoder, names, rows, missing))  # [N, O]
            contributions[group] = dict(zip(model.schema.output_names, difference.T, strict=True))
    return contributions


def _without(encoder: Encoder, names: frozenset[str], rows: Batch, missing: Batch) -> Batch:
    """The rows with the columns `names` as they are in the row `missing`."""
    parts = {}
    for name, masked in _column_masks(encoder, names).items():
        parts[name] = getattr(rows, name).copy()
        parts[name][:, masked] = getattr(missing, name)[:, masked]
    return Batch(**parts, scenario=rows.scenario)


def _column_masks(encoder: Encoder, names: frozenset[str]) -> Mapping[str, NDArray[np.bool_]]:
    """For each part of a Batch, which of its positions belong to the columns `names`."""
    columns = encoder.columns
    owners = {
        "categorical": [c.name for c in columns if c.kind is Kind.CATEGORICAL],
        "bags": [c.name for c in columns if c.is_list for _ in range(c.length or 0)],
        "numeric": [column.name for column in encoder.numbers],
    }
    return {part: np.array([name in names for name in listed], np.bool_) for part, listed in owners.items()}


def _gates(model: Model, rows: Batch) -> tuple[Floats | None, Floats | None, dict[str, Floats] | None]:
    """Scenario gates, attention and task gates as in Explanation; None where the network has no such part."""
    network = model.network
    if not isinstance(network, HiNet):
        return None, None, None
    inputs = [torch.from_numpy(part) for part in (rows.categorical, rows.bags, rows.numeric, rows.scenario)]
    gates = {name: weights.double().numpy() for name, weights in network.gates(*inputs).items()}
    tasks = {task: gates["tasks"][:, index] for index, task in enumerate(model.schema.task_names)}
    if network.integration is None:
        return None, None, tasks
    scenario = np.concatenate([gates["shared"][:, None], gates["scenarios"]], axis=1)  # [N, 1 + M, K]
    return scenario, _attention(network, rows), tasks


def _attention(network: HiNet, rows: Batch) -> Floats | None:
    """The weight of each scenario for the scenario of the rows, which all have the same [M]."""
    if network.scenario_attention is None or not len(rows.scenario):
        return None
    weights: Floats = network.attention()[int(rows.scenario[0])].double().numpy()
    return weights


def _logits(model: Model, rows: Batch) -> Floats:
    logits: Floats = forward(model, rows).double().numpy()
    return logits
