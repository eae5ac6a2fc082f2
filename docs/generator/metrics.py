"""The Prometheus metrics of the service, read from the source text of `serving/`."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.generator.arguments import constants, evaluate
from docs.generator.markdown import table

PREFIX = "hinet_"
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}  # of the series


@dataclass(frozen=True)
class Metric:
    """A metric: its name in the code, kind (counter, histogram or gauge), help text and labels."""

    name: str
    kind: str
    text: str
    labels: tuple[str, ...]

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which Prometheus reads it."""
        return tuple(self.name + suffix for suffix in SUFFIXES[self.kind])


def metrics(root: Path) -> str:
    """A row for each metric, by name."""
    rows = (
        (
            f"`{one.series[0].removesuffix('_bucket')}`",
            one.kind,
            ", ".join(f"`{label}`" for label in one.labels),
            one.text,
        )
        for one in sorted(declared(root), key=lambda one: one.name)
    )
    return table(["metric", "kind", "labels", "meaning"], rows)


def declared(root: Path) -> Iterator[Metric]:
    """Every metric that a module of `serving/` makes; one that two modules make comes once."""
    found = {}
    for path in sorted((root / "serving").rglob("*.py")):
        tree = ast.parse(path.read_text())
        names = constants(root, tree) | {"by": ["scenario"]}
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) >= 3):
            name, text, labels = (evaluate(argument, names) for argument in call.args[:3])
            if isinstance(name, str) and name.startswith(PREFIX):
                found[name] = Metric(name, ast.unparse(call.func).lower(), text, tuple(labels))
    return iter(found.values())
