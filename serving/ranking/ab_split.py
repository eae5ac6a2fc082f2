"""The split of an A/B test: which model answers a user, by a hash that is the same in every process and machine.

A user is in the share of the challenger if the first 8 bytes of SHA-256 of "SALT/USER" (UTF-8), read as a big-endian
number, are below share x 2^64. So a larger share contains a smaller one, and another salt draws other users.
"""

import hashlib
from typing import Any

from common.serve_params import ServeAB
from common.settings import Settings

CHAMPION, CHALLENGER = "champion", "challenger"  # arms


def arm_of(user: Any, share: float, salt: str) -> str:
    """The arm of a user."""
    return CHALLENGER if in_share(f"{salt}/{user}", share) else CHAMPION


def in_share(key: str, share: float) -> bool:
    """Whether a key is in a share of all keys: a larger share contains a smaller one."""
    first = hashlib.sha256(key.encode()).digest()[:8]
    return int.from_bytes(first, "big") < share * 2**64


def ab_settings(params: ServeAB, settings: Settings) -> ServeAB:
    """The A/B test of params.yaml, overridden by the environment: the parameters of a bento cannot be changed."""
    folder = settings.ab_challenger
    overrides = {
        "challenger": None if folder is None else str(folder),
        "share": settings.ab_share,
        "salt": settings.ab_salt,
        "timeout_ms": settings.ab_timeout_ms,
    }
    return params.model_copy(update={name: value for name, value in overrides.items() if value is not None})
