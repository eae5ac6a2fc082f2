"""The tables of the benchmark: speed beside the roof, AUC beside that of the CPU, and what was not run or failed."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.gpu.plan import CPU

GOAL = 2_000_000  # samples/s of the authors' sizes on one H200
AUC_LIMIT = 0.01  # of a difference from the CPU, as in the CUDA tests
Row = dict[str, Any]


def speeds(report: Row) -> list[Row]:
    """Each measured variant with its share of the roof of the same size and precision, None without a roof."""
    roofs = {(part["size"], part["variant"]): part["result"] for part in _done(report, "roof")}
    rows = []
    for part in _done(report, "steps"):
        limit = roofs.get((part["size"], part["variant"].split(",")[0]))
        rate = part["result"]["samples_per_second"]
        share = None if limit is None else round(rate / limit["samples_per_second"], 3)
        tflops = None if limit is None else round(rate * limit["operations_per_sample"] / 1e12, 2)
        rows.append(
            {"size": part["size"], "variant": part["variant"], **part["result"], "tflops": tflops} | {"roof": share}
        )
    return rows


def aucs(report: Row) -> list[Row]:
    """Each AUC with its difference from that of the same training on the CPU, None without one."""
    rows = [{"size": part["size"], "variant": part["variant"], **part["result"]} for part in _done(report, "auc")]
    on_cpu = {row["size"]: row["auc"] for row in rows if row["variant"] == CPU}
    differences = [round(row["auc"] - on_cpu[row["size"]], 5) if row["size"] in on_cpu else None for row in rows]
    return [{**row, "difference": difference} for row, difference in zip(rows, differences, strict=True)]


def failures(report: Row) -> list[str]:
    """A sentence for each part that failed, and for each AUC too far from that of the CPU."""
    failed = [f"{_name(part)}: {part['reason']}" for part in report["parts"] if part["status"] == "failed"]
    far = [
        f"the AUC of {_name(row)} is {row['auc']}, {row['difference']:+} from the CPU's: expected at most {AUC_LIMIT}"
        for row in aucs(report)
        if row["difference"] is not None and abs(row["difference"]) > AUC_LIMIT
    ]
    return failed + far


def show(report: Row) -> None:
    """Print the tables."""
    console = Console(width=110)
    console.print(
        f"{report['gpu'] or 'no GPU'}, {report['processor']}, torch {report['torch']}, {report['measured_at']}"
    )
    console.print(_table("training", speeds(report), ("samples_per_second", "kernels", "tflops", "roof")))
    roofs = [{**part, **part["result"]} for part in _done(report, "roof")]
    console.print(_table("roof: the matrix products alone", roofs, ("samples_per_second", "products", "tflops")))
    console.print(_table("AUC", aucs(report), ("auc", "difference")))
    for part in _done(report, "tests"):
        console.print(f"tests that need a GPU: {part['result']['summary']}")
    for part in report["parts"]:
        if part["status"] == "not run":
            console.print(f"not run: {_name(part)}: {part['reason']}")
    for sentence in failures(report):
        console.print(f"FAILED: {sentence}")
    authors = [row["samples_per_second"] for row in speeds(report) if row["size"].startswith("authors")]
    if authors:
        console.print(f"authors' sizes: {max(authors):,} samples/s at most; the goal is {GOAL:,} on one H200")


def _done(report: Row, kind: str) -> Iterator[Row]:
    return (part for part in report["parts"] if part["kind"] == kind and part["status"] == "done")


def _name(part: Row) -> str:
    return ", ".join(part[word] for word in ("kind", "size", "variant") if part.get(word))


def _table(title: str, rows: list[Row], columns: tuple[str, ...]) -> Table:
    table = Table("size", "variant", *(column.replace("_", " ") for column in columns), title=title)
    for row in rows:
        table.add_row(row["size"], row["variant"], *(_text(row[column]) for column in columns))
    return table


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:,}"
