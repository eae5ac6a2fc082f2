"""Runs a command and ends it, with all that it started, as soon as the process that requested it is gone.

Run as a file, in its own session, with a pipe as standard input that the requesting process holds open: however
that process dies (kill -9 too), the pipe closes. An orphan would go on writing outputs beside the next run.
"""

import os
import signal
import subprocess
import sys
import threading
import time

GRACE_SECONDS = 5.0  # between SIGINT and SIGKILL: on SIGINT, DVC releases its locks


def main(command: list[str]) -> int:
    """Run `command` and return its exit status; 128 + n after signal n, as a shell has it."""
    signal.signal(signal.SIGINT, lambda *_: None)  # a handler: what is ignored would be ignored by the command, too
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=end_with_parent, daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


def end_with_parent() -> None:
    """Wait for the pipe to close, then end the whole group, this process included."""
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGINT)
    time.sleep(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # at once: the thread is still reading
