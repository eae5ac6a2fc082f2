"""A MovieLens archive of 400 ratings for the accuracy benchmark."""

from pathlib import Path

import numpy as np

from tests.support import movielens_archive


def ratings(count: int = 400) -> str:
    """Ratings of the four users of the tiny archive, in the official layout; movie 1 is liked, movie 2 is not."""
    random = np.random.default_rng(0)
    lines = ((1 + i % 4, 1 + i % 2, int(random.integers(3, 6)) - i % 2 * 2) for i in range(count))
    return "".join(f"{user}::{movie}::{stars}::{978300760 + i}\n" for i, (user, movie, stars) in enumerate(lines))


def write_archive(folder: Path) -> None:
    """Write ml-1m.zip with these ratings into the folder."""
    movielens_archive.write(folder, ratings=ratings())
