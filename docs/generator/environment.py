"""The environment variables: those of the project (common/settings.py) and those that the Makefile sets."""

import re
from pathlib import Path

from common.settings import Settings, variable
from docs.generator.markdown import table, type_of, value

EXPORT = re.compile(r"^export (\w+) := (.*)$", re.MULTILINE)


def settings() -> str:
    """The variables that the project reads, by the fields of Settings."""
    properties = Settings.model_json_schema()["properties"]
    rows = (
        (f"`{variable(name)}`", type_of(field), value(field["default"]), field["description"])
        for name, field in properties.items()
    )
    return table(["variable", "type", "default", "meaning"], rows)


def exported(root: Path) -> str:
    """Name and value of each variable that the Makefile exports, except the search path of programs."""
    found = EXPORT.findall((root / "Makefile").read_text())
    return table(["variable", "value"], ((f"`{name}`", f"`{text}`") for name, text in found if name != "PATH"))
