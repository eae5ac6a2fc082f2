"""How OpenMP's threads wait for each other: by spinning, unless processes of ours share the cores."""

import os

POLICY = "OMP_WAIT_POLICY"  # read once, when a process loads torch


def beside_others() -> dict[str, str]:
    """The environment of a process that shares its cores with others of ours; what is set already stays.

    Threads that spin take the core on which the thread that they wait for would run. A process that has the cores for
    itself is slower without spinning: docs/decisions/0049-openmp-waits.md.
    """
    return {POLICY: os.environ.get(POLICY, "PASSIVE")}
