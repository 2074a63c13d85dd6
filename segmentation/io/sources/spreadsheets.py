"""Text tables as spreadsheets save them: with other delimiters, encodings and spaces than those of plain CSV."""

import codecs
import csv
import io
import re
from collections.abc import Iterator

from segmentation.errors import ParameterError

_DELIMITERS = ",;\t|"
_UNREADABLE = "a quote that is not closed, or a field that is too long"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode_table(data: bytes) -> str:
    """Decode a text table: by its byte order mark, else UTF-8; other bytes become lone surrogates, as in file names.

    Raises
    ------
    ParameterError
        It is UTF-16 or UTF-32 without a mark, or damaged.

    Examples
    --------
    >>> decode_table("Köln;1".encode("utf-16"))
    'Köln;1'
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "")
    try:
        text = data.decode(encoding) if encoding else data.decode("utf-8", "surrogateescape")
    except UnicodeDecodeError as error:
        raise ParameterError(f"it begins as {encoding.upper()} and is none, at byte {error.start:,}") from error
    if "\0" in text:
        raise ParameterError("it is no text in UTF-8, nor in UTF-16 with a byte order mark; save it as CSV in UTF-8")
    return text


def read_table(text: str, wanted: str) -> Iterator[dict[str, str]]:
    r"""Read a text table, row by row; rows of nothing are left out.

    Parameters
    ----------
    text : str
        A first row with the names of the columns, spaces around them without meaning, and upper and lower case.
    wanted : str
        A column that must be there: the delimiter is comma, semicolon, tab or bar, whichever gives it.

    Raises
    ------
    ParameterError
        There is no such column, which names those there are; or a row cannot be read.

    Examples
    --------
    >>> list(read_table("Path; id\na b.png; 7\n;\n", "path"))
    [{'path': 'a b.png', 'id': '7'}]
    """
    # Excel believes a first line of this kind, whatever the machine's language.
    declared = re.match(r"sep=(.)\r?\n", text)
    body = text[declared.end() :] if declared else text
    head = body.partition("\n")[0]
    delimiter = declared.group(1) if declared else next((d for d in _DELIMITERS if wanted in _columns(head, d)), ",")
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    names = [_column(name) for name in _first(reader)]
    if wanted not in names:
        found = ", ".join(filter(None, names)) or "none"
        raise ParameterError(f"it has the columns {found}; a column {wanted!r} is expected")
    try:
        for row in reader:
            if any(value.strip() for value in row):
                yield dict(zip(names, row, strict=False))
    except csv.Error as error:
        raise ParameterError(f"line {reader.line_num}: {_UNREADABLE}") from error


def _first(reader: Iterator[list[str]]) -> list[str]:
    try:
        return next(reader, [])
    except csv.Error as error:
        raise ParameterError(f"its first row: {_UNREADABLE}") from error


def _columns(head: str, delimiter: str) -> list[str]:
    return [_column(name) for name in next(csv.reader([head], delimiter=delimiter, skipinitialspace=True), [])]


def _column(name: str) -> str:
    return name.strip().lower()
