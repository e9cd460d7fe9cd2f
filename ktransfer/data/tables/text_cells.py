"""A column of texts: whether its cells are texts, and what it is called."""

from collections.abc import Sequence
from pathlib import Path

from ktransfer.data.tables.column_contents import require_texts
from ktransfer.data.tables.columns import TEXT_NAMES, InputKind
from ktransfer.data.tables.file_bytes import named_rows
from ktransfer.errors import DataError


def read_text_cells(
    cells: Sequence[object], rows: Sequence[int | str], source: str, folder: Path | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The texts of a column.

    Args:
        cells: As their format has them.
        rows: The row of each.
        source: The column and its file, for messages.
        folder: Not used: texts lie in no folder.

    Returns:
        `(texts, texts)`: what they are called to a person is what they are.

    Raises:
        DataError: A cell is empty or no text, or the column holds names of files or numbers.

    Example:
        >>> read_text_cells(["see you at six"], [2], "column 'text' of reviews.csv")[0]
        ('see you at six',)
    """
    texts = check_texts(cells, rows, source)
    require_texts(texts, rows, source)
    return texts, texts


def check_texts(
    cells: Sequence[object], rows: Sequence[int | str], source: str, *, flag: str = "--text-column"
) -> tuple[str, ...]:
    """Raise `DataError` for a cell that is empty or no Unicode text, with its row or file."""

    def refuse(wrong: Sequence[int | str], received: str, expected: str, fix: str) -> None:
        if wrong:
            where = named_rows(wrong, "row" if isinstance(wrong[0], int) else "file")
            raise DataError(f"Expected {expected} in {source}, got {received} in {where}. {fix}")

    pairs = list(zip(cells, rows, strict=True))
    kind = next((type(text).__name__ for text in cells if not isinstance(text, str | None)), "null")
    refuse(
        [row for text, row in pairs if not isinstance(text, str)],
        f"a value of type {kind}",
        "a text in every row",
        f"Remove it, or pass another {flag}.",
    )
    texts = [(text, row) for text, row in pairs if isinstance(text, str)]
    refuse(
        [row for text, row in texts if not text.strip()],
        "an empty text",
        "a text in every row",
        "Remove it.",
    )
    # Half of a UTF-16 pair, as JSON can hold it, is no text and cannot be written to a file.
    refuse(
        [row for text, row in texts if not _encodes(text)],
        "half of a surrogate pair",
        "Unicode text",
        "Fix or remove it.",
    )
    refuse([row for text, row in texts if "\0" in text], "a NUL character", "text", "Remove it.")
    return tuple(text for text, _ in texts)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


TEXT_CELLS = InputKind("texts", "text_column", TEXT_NAMES, read_text_cells)
