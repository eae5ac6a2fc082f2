"""A tiny archive of MovieLens-1M in the official layout."""

import zipfile
from pathlib import Path

from common.params import Dataset

USERS = "1::F::1::10::48067\n2::M::56::16::70072\n3::M::25::15::55117-1234\n4::F::18::0::01234\n"
MOVIES = "1::Toy Story (1995)::Animation|Children's|Comedy\n2::Alien: Part 2 :: Café (1986)::Action|Sci-Fi\n"
RATINGS = "1::1::5::978300760\n2::1::4::978302109\n3::2::3::978301968\n4::2::1::978300275\n9::2::5::978300276\n"


def write(folder: Path, **files: str | None) -> Path:
    """ml-1m.zip in `folder`, with the official files or those given instead (None: without it)."""
    texts = {"ratings": RATINGS, "users": USERS, "movies": MOVIES, **files}
    with zipfile.ZipFile(folder / "ml-1m.zip", "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in texts.items():
            if text is not None:
                made.writestr(f"ml-1m/{name}.dat", text.encode("latin-1", "surrogateescape"))
    return folder / "ml-1m.zip"


def dataset(folder: Path) -> Dataset:
    """The parameters that the reader uses."""
    return Dataset.model_construct(name="movielens-1m", path=str(folder))
