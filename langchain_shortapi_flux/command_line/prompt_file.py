"""A file of prompts, read into requests: a prompt a line, a table (CSV, TSV), or JSON Lines.

All of it is checked, and every bad line is named, before anything is bought. It knows the formats
and nothing of what becomes of the requests.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from langchain_shortapi_flux.errors import InvalidRequest
from langchain_shortapi_flux.invalid_values import describe_invalid, shown
from langchain_shortapi_flux.job import FluxRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FILE_LIMIT_BYTES = 64 * 2**20
BAD_LINES_NAMED = 10
STDIN = "-"
FIELDS = tuple(FluxRequest.model_fields)
_TABLES = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class PromptLine:
    """A request, and the line of the file on which it begins, counted from 1."""

    number: int
    request: FluxRequest


@dataclass(frozen=True)
class PromptFile:
    """What a file asks for.

    Attributes:
        lines: In the file's order.
        ignored: The names of a table's columns that are no option.
    """

    lines: tuple[PromptLine, ...]
    ignored: tuple[str, ...] = ()


def read_prompt_file(name: str, options: Mapping[str, Any]) -> PromptFile:
    """Read a file by its name's ending: ``.csv``, ``.tsv``, ``.jsonl``, or a prompt a line.

    Args:
        name: Its path; ``-`` for stdin, which holds a prompt a line.
        options: For lines that do not say themselves; None is unset.

    Raises:
        InvalidRequest: It cannot be read, asks for nothing, or a line of it cannot be used. The
            text names such lines; nothing was sent.
    """
    problem: str
    try:
        text = _text(name)
        rows, ignored = _rows(text, "" if name == STDIN else Path(name).suffix.lower())
        return PromptFile(_checked(rows, options), ignored)
    except _Unusable as error:
        problem = str(error)
    shown_name = "stdin" if name == STDIN else name
    end = "\n" if "\n" in problem else "; "
    raise InvalidRequest(f"{shown_name}: {problem}{end}nothing was sent")


class _Unusable(Exception):
    """Why the file cannot be used, as the end of a sentence that begins with its name."""


@dataclass(frozen=True)
class _Row:
    """What a line says: its fields, or why it says nothing."""

    number: int
    fields: dict[str, Any] | str


def _text(name: str) -> str:
    content = _bytes(name)
    if len(content) > FILE_LIMIT_BYTES:
        raise _Unusable(f"larger than {FILE_LIMIT_BYTES:,} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = f"is not UTF-8 (byte 0x{content[error.start]:02x})"
    else:
        if (place := text.find("\0")) < 0:
            return text
        line = text.count("\n", 0, place) + 1
        problem = "holds a NUL; files are read as UTF-8. Is it UTF-16?"
    raise _Unusable(f"line {line} {problem}")


def _bytes(name: str) -> bytes:
    problem: str
    try:
        if name == STDIN:
            return b"" if sys.stdin is None else sys.stdin.buffer.read(FILE_LIMIT_BYTES + 1)
        with Path(name).open("rb") as file:
            return file.read(FILE_LIMIT_BYTES + 1)
    except IsADirectoryError:
        problem = "it is a folder"
    except OSError as error:
        problem = str(error.strerror)
    except ValueError:  # a NUL or a lone surrogate
        problem = "it is no path"
    raise _Unusable(problem)


def _rows(text: str, ending: str) -> tuple[Iterator[_Row], tuple[str, ...]]:
    if ending in _TABLES:
        return _table_rows(text, _TABLES[ending])
    if ending in _JSON_LINES:
        return _json_rows(text), ()
    if ending == ".json":
        # Read as a prompt a line, each bracket of it would be bought.
        raise _Unusable(
            "one JSON document is not read; write an object on each line and name the file .jsonl"
        )
    return _plain_rows(text), ()


def _plain_rows(text: str) -> Iterator[_Row]:
    for place, (number, line) in enumerate(_lines(text)):
        kind = _other_kind(line, first=place == 0)
        if kind is not None:
            yield _Row(number, f"this is {kind}, and each line would be bought as text")
        else:
            yield _Row(number, {"prompt": line.strip()})


def _other_kind(line: str, *, first: bool) -> str | None:
    """What a line of prompts gives itself away as, if it is none; stdin has no name to tell."""
    columns = {cell.strip().strip('"').lower() for cell in re.split(r"[,\t]", line)}
    if first and "prompt" in columns and len(columns) > 1 and columns & {*FIELDS} == columns:
        return "the first line of a table: name the file .csv or .tsv"
    if not line.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = isinstance(found, dict) and "prompt" in found
    return "a line of JSON: name the file .jsonl" if known else None


def _json_rows(text: str) -> Iterator[_Row]:
    for number, line in _lines(text):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield _Row(number, f"no JSON: {error}")
            continue
        if isinstance(found, dict):
            yield _Row(number, {name: one for name, one in found.items() if one is not None})
        else:
            yield _Row(number, f"{shown(found)}: allowed is an object such as {_EXAMPLE}")


_EXAMPLE = '{"prompt": "a red fox", "aspect_ratio": "16:9"}'


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank. Not ``splitlines``, which also ends one at U+2028."""
    for number, line in enumerate(StringIO(text, newline=None), 1):
        if line.strip():
            yield number, line


def _table_rows(text: str, delimiter: str) -> tuple[Iterator[_Row], tuple[str, ...]]:
    rows = _cells(text, delimiter)
    number, header = next(rows, (0, "it holds no prompt"))
    if isinstance(header, str):
        where = f"line {number}: " if number else ""
        raise _Unusable(f"{where}{header}")
    names = [name.strip() for name in header]
    fields = [name.lower().replace(" ", "_").replace("-", "_") for name in names]
    known = [field for field in fields if field in FIELDS]
    if "prompt" not in known:
        raise _Unusable(
            f"its first line names no column 'prompt', but {shown(', '.join(names))}; the columns "
            f"are {', '.join(FIELDS)}"
        )
    if len(known) != len(set(known)):
        raise _Unusable(f"its first line names a column twice: {shown(', '.join(names))}")
    ignored = [name for name, field in zip(names, fields, strict=True) if field not in FIELDS]

    def read() -> Iterator[_Row]:
        for number, cells in rows:
            if isinstance(cells, str):
                yield _Row(number, cells)
            elif len(cells) > len(fields):
                yield _Row(number, f"{len(cells)} cells, but {len(fields)} columns{_QUOTE_IT}")
            else:
                said = dict(zip(fields, cells, strict=False))
                given = {name: said[name].strip() for name in FIELDS if said.get(name, "").strip()}
                yield _Row(number, {"prompt": "", **given})

    return read(), tuple(name for name in ignored if name)


_QUOTE_IT = ' (a prompt with a comma stands in quotes: "a fox, a hare")'


def _cells(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """The rows that are not blank, each with the line on which it begins."""
    # In TSV a quote is a letter like any other, as those who publish prompts in it have it.
    quotes = None if delimiter == "\t" else '"'
    # Strict, for otherwise a quote that is never closed swallows the rest of the file.
    rows = csv.reader(
        StringIO(text, newline=""),
        delimiter=delimiter,
        quotechar=quotes,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        strict=True,
    )
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, f"no row of a table: {error}"
            return
        if any(cell.strip() for cell in row):
            yield number, row


def _checked(rows: Iterator[_Row], options: Mapping[str, Any]) -> tuple[PromptLine, ...]:
    lines: list[PromptLine] = []
    bad: list[str] = []
    given = {name: option for name, option in options.items() if option is not None}
    for row in rows:
        problem = row.fields
        if not isinstance(problem, str):
            try:
                request = FluxRequest.model_validate(given | problem)
                lines.append(PromptLine(row.number, request))
                continue
            except ValidationError as error:
                problem = describe_invalid(error.errors(), FIELDS)
        bad.append(f"  line {row.number}: {problem}")
    if bad:
        more = len(bad) - BAD_LINES_NAMED
        named = bad[:BAD_LINES_NAMED] + ([f"  and {more:,} more"] if more > 0 else [])
        counted = f"{len(bad):,} of {len(bad) + len(lines):,} lines cannot be used:"
        raise _Unusable("\n".join([counted, *named]))
    if not lines:
        raise _Unusable("it holds no prompt")
    return tuple(lines)
