"""The Feast repository: definitions, point-in-time join, online store, item snapshot.

Feast decorates its classes with typeguard's `typechecked`, a check for its own development. Compiling the checks takes
half of the time of `import feast` (9 s of CPU with them, 4.5 s without, 2026-11-30), in every stage and worker. Where
this package is imported first, the decorator returns what it is given.
"""

from collections.abc import Callable
from typing import Any

import typeguard


def unchecked(target: Any = None, **_: Any) -> Any:
    """Stand in for typeguard's `typechecked`: return `target`, or a decorator that does, without instrumentation."""
    identity: Callable[[Any], Any] = lambda decorated: decorated  # noqa: E731
    return identity if target is None else target


typeguard.typechecked = unchecked
