"""The exit status of every command: what it means, declared once for who ends a process and who reads its end.

A crash has the status of no verdict: 1 (Python's traceback), 2 (wrong usage), 126 and 127 (a shell), 128 + n
(signal n).
"""

DONE = 0
FAILED = 1  # a PipelineError (one sentence says why), or a fault of the program with its traceback
USAGE = 2  # the command line is wrong: an unknown option, a value of another type; nothing was done

# python -m monitoring.drift
VERDICTS = {"ok": DONE, "watch": 10, "act": 11}
NO_VERDICT = 3  # the drift report could not be made; a sentence says why
UNREADABLE = 4  # the window cannot be read: it is not of the schema of the model

# python -m release.promote
REJECTED = 20  # the promotion policy keeps the champion

# python -m features.refresh
LOCKED = 75  # EX_TEMPFAIL of sysexits.h: the online store is locked or unreachable, the same command may be run later
