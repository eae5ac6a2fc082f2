"""The exit status of every command: what it means, declared once for who ends a process and who reads its end."""

DONE = 0
FAILED = 1  # a PipelineError: one sentence says why

# python -m monitoring.drift
VERDICTS = {"ok": DONE, "watch": 1, "act": 2}
NO_VERDICT = 3  # the drift report could not be made

# python -m release.promote
REJECTED = 2  # the promotion policy keeps the champion

# python -m features.refresh
LOCKED = 75  # EX_TEMPFAIL of sysexits.h: the online store is locked or unreachable, the same command may be run later
