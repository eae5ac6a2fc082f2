"""How many examples an expensive property is tried on."""

import os


def examples(most: int) -> int:
    """`most` in `make slow`, which draws new ones; a quarter in the suite that has to pass, and at least two."""
    return most if os.environ.get("HYPOTHESIS_PROFILE") == "search" else max(most // 4, 2)
