"""Why items stand where they stand: what the gates say, and what each group of features adds to the logits."""

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
    """The explanation of whole encoded rows [N, ..]; `missing` is a row [1, ..] of which nothing is known.

    The contribution of a group is the logit less what it is without the group: its columns as they are encoded where
    they are missing, everything else as it is. Contributions of groups that speak of the same thing do not add up.
    """
    scenario_gates, attention, task_gates = _gates(model, rows)
    return Explanation(
        scenario_gates=scenario_gates,
        attention=attention,
        task_gates=task_gates,
        contributions=_contributions(model, rows, missing),
    )


def groups(schema: Schema, views: tuple[View, ...]) -> dict[str, frozenset[str]]:
    """The columns of each group: the ids of user and item, the scenario, the context, and each view by its name."""
    single = {name: frozenset({name}) for name in (schema.user, schema.item, schema.scenario)}
    context = frozenset(column.name for column in schema.context)
    return single | {"context": context} | {view.name: frozenset(c.name for c in view.columns) for view in views}


def _contributions(model: Model, rows: Batch, missing: Batch) -> dict[str, dict[str, Floats]]:
    whole = _logits(model, rows)
    found = {}
    for group, names in groups(model.schema, model.views).items():
        if names & {column.name for column in model.encoder.columns}:
            less = whole - _logits(model, _without(model.encoder, names, rows, missing))  # [N, O]
            found[group] = dict(zip(model.schema.output_names, less.T, strict=True))
    return found


def _without(encoder: Encoder, names: frozenset[str], rows: Batch, missing: Batch) -> Batch:
    """The rows with the columns `names` as they are encoded where they are missing."""
    parts = {}
    for name, left_out in _left_out(encoder, names).items():
        parts[name] = getattr(rows, name).copy()
        parts[name][:, left_out] = getattr(missing, name)[:, left_out]
    return Batch(**parts, scenario=rows.scenario)


def _left_out(encoder: Encoder, names: frozenset[str]) -> Mapping[str, NDArray[np.bool_]]:
    """Which of the encoded ids, ids of bags and numbers are of the columns `names`."""
    columns = encoder.columns
    wide = {
        "categorical": [c.name for c in columns if c.kind is Kind.CATEGORICAL],
        "bags": [c.name for c in columns if c.is_list for _ in range(c.length or 0)],
        "numeric": [c.name for c in columns if c.kind is Kind.NUMERIC for _ in range(1 + c.nullable)],
    }
    return {part: np.array([name in names for name in listed], np.bool_) for part, listed in wide.items()}


def _gates(model: Model, rows: Batch) -> tuple[Floats | None, Floats | None, dict[str, Floats] | None]:
    """The weights of the gates and of the attention, where the network has them; see Explanation."""
    network = model.network
    if not isinstance(network, HiNet):
        return None, None, None
    inputs = [torch.from_numpy(part) for part in (rows.categorical, rows.bags, rows.numeric, rows.scenario)]
    found = {name: weights.double().numpy() for name, weights in network.gates(*inputs).items()}
    tasks = {task: found["tasks"][:, place] for place, task in enumerate(model.schema.task_names)}
    if network.integration is None:
        return None, None, tasks
    scenario = np.concatenate([found["shared"][:, None], found["scenarios"]], axis=1)  # [N, 1 + M, K]
    return scenario, _attention(network, rows), tasks


def _attention(network: HiNet, rows: Batch) -> Floats | None:
    """How much the scenario of the rows, which is one, listens to each one [M]."""
    if network.scenario_attention is None or not len(rows.scenario):
        return None
    found: Floats = network.attention()[int(rows.scenario[0])].double().numpy()
    return found


def _logits(model: Model, rows: Batch) -> Floats:
    found: Floats = forward(model, rows).double().numpy()
    return found
