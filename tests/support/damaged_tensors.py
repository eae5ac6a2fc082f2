"""Ways to damage the arrays under a folder of tensors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Edit = Callable[[np.ndarray], Any]


def edit_array(data: Path, split: str, name: str, edit: Edit) -> None:
    """Rewrite an array: with the array that `edit` returns, or the one that it changed."""
    path = data / "tensors" / split / f"{name}.npy"
    array = np.load(path)
    changed = edit(array)
    np.save(path, array if changed is None else changed)


def set_value(index: Any, value: float) -> Edit:
    """An edit that sets the value at an index."""

    def edit(array: np.ndarray) -> None:
        array[index] = value

    return edit
