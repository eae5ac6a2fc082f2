"""Which run wrote a report, as the small print of the artifacts that show it."""

from common.run_identity import RunIdentity


def written_by(run: RunIdentity) -> str:
    """A line of Markdown: id of the run, its time, SHA-256 of its data."""
    data = f", data `{run.data}`" if run.data else ""
    return f"<sub>run `{run.id}`, {run.time}{data}</sub>"
