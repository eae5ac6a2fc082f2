"""Great Expectations is imported without pyspark, which stays there for the engine."""

import subprocess
import sys

import pytest

from common.paths import ROOT
from tests.support.spark import needs_spark

pytestmark = [pytest.mark.process, needs_spark]

CODE = """
import sys
{first}
import features.quality.results
print([name for name in ("pyspark", "pyspark.sql.connect") if name in sys.modules])
from pyspark.sql import SparkSession
print(SparkSession.__name__)
"""


@pytest.mark.parametrize(("first", "seen"), [("", "[]"), ("import pyspark.sql", "['pyspark']")])
def test_gates_import_nothing_of_spark(first: str, seen: str) -> None:
    """Pyspark is not imported with the gates, before or after them it can be."""
    command = [sys.executable, "-c", CODE.format(first=first)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == [seen, "SparkSession"]
