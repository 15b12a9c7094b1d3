"""What a stranger's SQL may do: read what is in the tables, and nothing of the host.

The engine's `readonly` forbids writing, but in the engine in process it still lets a query write files (INTO OUTFILE),
read them (the function `file`), kill other queries and call services. So a text is looked at too: not as it was sent,
but as the engine's own parser writes it back, which leaves no comments, no odd quoting and one statement. That text is
what runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Protocol

from services.monitor.errors import QueryFailed

READONLY: Final = 164
ACCESS_DENIED: Final = 497

SAFE_TABLE_FUNCTIONS: Final = frozenset(
    {
        "dictionary", "format", "fuzzjson", "fuzzquery", "generate_series", "generaterandom", "generateseries", "loop",
        "merge", "mergetreeindex", "mergetreeprojection", "null", "numbers", "numbers_mt", "primes",
        "sqlstandardvalues", "values", "view", "viewexplain", "viewifpermitted", "zeros", "zeros_mt",
    }
)  # fmt: skip
"""Table functions (lower case) that reach nothing outside of the engine. One that a later engine adds is refused."""

HOST_FUNCTIONS: Final = frozenset({"file", "catboostevaluate", "reversednsquery"})
"""Functions (lower case) that read the host's files or ask its network, beside the engine's AI functions."""

_SELECTS: Final = frozenset({"SELECT", "WITH", "EXPLAIN"})
_STATEMENTS: Final = _SELECTS | {"SHOW", "DESCRIBE", "EXISTS"}
_AFTER_WITH: Final = frozenset({"TOTALS", "ROLLUP", "CUBE", "FILL", "TIES"})
_TOKEN: Final = re.compile(
    r"'(?:[^'\\]|\\.)*'|`(?P<tick>(?:[^`\\]|\\.|``)*)`|\"(?P<double>(?:[^\"\\]|\\.|\"\")*)\""
    r"|(?P<word>[A-Za-z_]\w*)|(?P<other>\S)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Question:
    """One query as a client asks it."""

    text: str
    database: str = ""
    """Where names without a database are looked up; the usual one when empty."""
    format: str = "TabSeparated"
    """For a text without FORMAT."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Values of {name:Type}, escaped as in TabSeparated."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of the engine; the caller has chosen which ones a client may give."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine said."""

    data: bytes
    format: str
    rows: int
    read_rows: int
    read_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What one query may use."""

    seconds: float
    rows: int
    memory_mb: int


class Engine(Protocol):
    """Answers questions without changing anything."""

    limits: Limits

    async def about(self) -> tuple[str, str]:
        """(version, time zone)."""

    async def ask(self, question: Question) -> Answer:
        """Raises `QueryFailed` with ClickHouse's own code."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    """A quoted name without its quotes; strings are empty."""
    kind: str
    """`word`, `quoted`, `string` or `other`."""

    @property
    def is_name(self) -> bool:
        return self.kind in ("word", "quoted")

    def means(self, word: str) -> bool:
        return self.kind == "word" and self.text.upper() == word


def check(canonical: str, refused: frozenset[str]) -> str:
    """The format that a text asks for, "" for none; the text is one that the engine's parser has written.

    `refused` are functions in lower case. Raises `QueryFailed` for what does not only read tables.
    """
    tokens = [*_tokens(canonical), _Token("", "end")]
    first = next(token for token in tokens if token.text != "(")
    if first.kind != "word" or first.text.upper() not in _STATEMENTS:
        raise QueryFailed(READONLY, "READONLY", "Cannot execute query in readonly mode")
    _refuse_writing(tokens)
    _refuse_functions(tokens, refused)
    if first.text.upper() not in _SELECTS:
        _refuse_paths(tokens)
    return _format(tokens)


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        if match.lastgroup in ("tick", "double"):
            yield _Token(match[match.lastgroup], "quoted")
        elif match.lastgroup is None:
            yield _Token("", "string")
        else:
            yield _Token(match[0], match.lastgroup)


def _refuse_writing(tokens: Sequence[_Token]) -> None:
    for one, two, three in zip(tokens, tokens[1:], [*tokens[2:], tokens[-1]], strict=False):
        if one.means("INTO") and two.means("OUTFILE"):
            raise QueryFailed(READONLY, "READONLY", "INTO OUTFILE is not allowed: the answer goes to the client")
        if one.means("PARALLEL") and two.means("WITH") and three.text.upper() not in _AFTER_WITH:
            raise QueryFailed(READONLY, "READONLY", "PARALLEL WITH is not allowed in readonly mode")


def _refuse_functions(tokens: Sequence[_Token], refused: frozenset[str]) -> None:
    """A name is a function before a bracket, and in APPLY also without one."""
    for place, token in enumerate(tokens):
        if not token.is_name or token.text.lower() not in refused:
            continue
        before = [one.text.upper() for one in tokens[max(0, place - 2) : place]]
        if tokens[place + 1].text == "(" or before[-1:] == ["APPLY"] or before == ["APPLY", "("]:
            raise QueryFailed(
                ACCESS_DENIED,
                "ACCESS_DENIED",
                f"Not enough privileges. The function {token.text} reaches outside of the tables",
            )


def _refuse_paths(tokens: Sequence[_Token]) -> None:
    """The engine in process takes the names of files for tables: whether one is there is nobody's business."""
    for one, two in pairwise(tokens):
        odd = one.kind == "quoted" and not re.fullmatch(r"\w+", one.text)
        if odd or (one.text == ":" and two.means("IDENTIFIER")):
            raise QueryFailed(ACCESS_DENIED, "ACCESS_DENIED", "Not enough privileges. A table has a plain name here")


def _format(tokens: Sequence[_Token]) -> str:
    """The last FORMAT outside of brackets that a name follows, then the end or SETTINGS."""
    for place in range(len(tokens) - 2, 0, -1):
        name, after = tokens[place], tokens[place + 1]
        ends = after.kind == "end" or after.means("SETTINGS")
        if name.is_name and ends and tokens[place - 1].means("FORMAT"):
            return name.text
    return ""
