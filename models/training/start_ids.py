"""Embeddings of a model, mapped value by value onto the vocabularies of today.

Letters: E width of an embedding.
"""

from itertools import accumulate

import torch
from torch import Tensor

from features.encoding.encoder import Encoder
from features.encoding.hash_buckets import Rows


def map_ids(old: Tensor, new: Tensor, before: Encoder, after: Encoder) -> Tensor:
    """The embeddings [rows of all tables, E] of today's vocabularies.

    A value begins as the row that the model reads for it: its own, that of its hash bucket, or the unknown row. Buckets
    begin as those of the model, if there are as many, else as its unknown row. A table that is new keeps its initial
    rows.

    Args:
        old: the embeddings of the model [rows of all its tables, E].
        new: the initial embeddings.
        before: the encoder of the model.
        after: the encoder of today.
    """
    tables, initial = (dict(_tables(weights, one)) for weights, one in ((old, before), (new, after)))
    parts = [
        tables[name].index_select(0, torch.tensor(_rows(name, before, after))) if name in tables else initial[name]
        for name in after.vocabularies
    ]
    return torch.cat(parts) if parts else new


def _rows(name: str, before: Encoder, after: Encoder) -> list[int]:
    """For each row of a table of today, the row of the model's table."""
    buckets, known = after.buckets.get(name, 0), len(before.vocabularies[name])
    rows = Rows(before.vocabularies[name], before.buckets.get(name, 0))
    same = buckets == rows.buckets
    shared = [1 + known + bucket if same else 0 for bucket in range(buckets)]
    return [0, *(rows[value] for value in after.vocabularies[name]), *shared]


def _tables(weights: Tensor, encoder: Encoder) -> list[tuple[str, Tensor]]:
    """The table of each vocabulary."""
    sizes = encoder.layout.table_rows
    ends = accumulate(sizes)
    named = zip(encoder.vocabularies, sizes, ends, strict=True)
    return [(name, weights[end - size : end]) for name, size, end in named]


def count_ids(before: Encoder, after: Encoder) -> dict[str, dict[str, int]]:
    """By vocabulary, how many values kept a row of their own, are new, or were dropped."""
    counts = {}
    for name, values in after.vocabularies.items():
        known = set(before.vocabularies.get(name, ()))
        kept = sum(value in known for value in values)
        counts[name] = {"kept": kept, "new": len(values) - kept, "dropped": len(known) - kept}
    return counts
