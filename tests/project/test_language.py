"""The project speaks the language of its field: the words of its first weeks stay out of code, messages and pages.

docs/concepts/glossary.md defines the terms that are used instead.
"""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.paths import ROOT

pytestmark = pytest.mark.unit

PACKAGES = ("common", "features", "models", "serving", "release", "monitoring", "flows", "benchmarks", "tests")
SUFFIXES = {".py", ".j2", ".yaml", ".toml"}

REPLACED = {  # a word of an identifier: the terms that replace it
    "alone": "exclusive",
    "ask, asked, asks": "request, requested",
    "border, borders": "quality gate",
    "courtesy": "optional",
    "found": "result, actual, or the name of the thing",
    "honesty": "accuracy of profiles",
    "houses": "scenario shift",
    "judge, judged, judges": "evaluate",
    "menu": "items",
    "moment, moments": "timestamp, as_of",
    "patient": "with_read_timeout",
    "people": "users",
    "place, places": "index, indices, position",
    "settle": "freeze",
    "sought": "target",
    "sprawl": "distance factor",
    "stranger, strangers": "undeclared, unknown",
    "tell, tells, told": "report, notify",
    "town": "platform",
    "weigh, weighs": "test",
}
OLD = {word: new for words, new in REPLACED.items() for word in words.split(", ")}
PHRASES = re.compile(  # of docstrings, comments, messages and pages
    r"\b(told|tells?|sought|courtesy|patient|settled?|town|menu|sprawl|honesty|moments?|borders?(?![-:])|judge[ds]?|weighs?"
    r"|concludes?|listens? to|listened|brought up to|who gets in|second model|strangers?|stale)\b",
    re.IGNORECASE,
)
FIXED = {  # names that others gave or that files and answers of earlier versions have: they stay
    "stale",  # field of an answer and metric of the service
    "hinet_stale_rows",
    "hinet_stale_rows_total",
    "place",  # column of the scored-impression log
    "beside_star",  # name of weights in model folders
    "hinet.moment",  # metadata of the item snapshot
    "--moment",  # option of release.replay
    "--moments",  # option of benchmarks.pipeline.chaos
    "moments",  # key of reference.json: sums of powers of a column
    "judged",  # key of a day of the backtest
    "NOT_FOUND",  # of HTTP
}


def tokens(path: Path) -> Iterator[tuple[int, int, str]]:
    """Line, type and text of every token of a Python file."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        yield token.start[0], token.type, token.string


def files() -> Iterator[Path]:
    """Every file of code, template and settings, but for this one."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix in SUFFIXES and path != Path(__file__).resolve():
                yield path
    yield from (ROOT / name for name in ("dvc.yaml", "params.yaml", "prefect.yaml", "README.md"))


def old_names(path: Path) -> Iterator[str]:
    """Identifiers of a Python file that hold an old word."""
    for line, kind, text in tokens(path):
        if kind == tokenize.NAME and text not in FIXED:
            for word in sorted(set(text.lower().split("_")) & OLD.keys()):
                yield f"{path.relative_to(ROOT)}:{line}: {text}: write {OLD[word]}"


def old_phrases(path: Path) -> Iterator[str]:
    """Sentences of a file that hold an old word."""
    if path.suffix == ".py":
        sentences = [
            (line + offset, part)
            for line, kind, text in tokens(path)
            if kind in (tokenize.STRING, tokenize.COMMENT)
            for offset, part in enumerate(text.splitlines())
        ]
    else:
        sentences = list(enumerate(path.read_text().splitlines(), 1))
    for line, sentence in sentences:
        words = PHRASES.findall(sentence)
        if words and not any(re.search(rf"(?<![\w-]){re.escape(name)}(?!\w)", sentence) for name in FIXED):
            yield f"{path.relative_to(ROOT)}:{line}: {', '.join(words)}: {sentence.strip()}"


def test_identifiers_have_the_words_of_the_field() -> None:
    """No name holds a word that the glossary replaced."""
    assert [fault for path in files() if path.suffix == ".py" for fault in old_names(path)] == []


def test_sentences_have_the_words_of_the_field() -> None:
    """No docstring, comment, message or page holds one."""
    assert [fault for path in files() for fault in old_phrases(path)] == []


def test_the_old_words_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name and a sentence of the old dialect are both named with file and line."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "old.py"
    path.write_text('told = 1\n"""What the town was."""\n')
    assert list(old_names(path)) == ["old.py:1: told: write report, notify"]
    assert list(old_phrases(path)) == ['old.py:2: town: """What the town was."""']
