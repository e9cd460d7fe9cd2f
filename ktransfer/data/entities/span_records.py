"""Records of a text and its spans, as annotation programs and Hugging Face write them: JSON, JSON lines, Parquet."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ktransfer.data.entities.annotated import Annotated, Span, checked
from ktransfer.data.entities.conll import texts_of_tags
from ktransfer.data.entities.tag_schemes import is_tag
from ktransfer.data.examples import printable
from ktransfer.data.tables.file_bytes import named_rows, read_beginning, table_suffix
from ktransfer.data.tables.table_files import read_records, read_text
from ktransfer.data.tables.text_cells import check_texts
from ktransfer.errors import DataError

_TEXTS = ("text", "sentence", "content")
_SPANS = ("spans", "entities", "label", "labels", "annotations", "ner")
_TOKENS, _TAGS = ("tokens", "words"), ("ner_tags", "tags", "labels", "ner", "bio", "iob")
_STARTS, _ENDS = ("start", "start_offset", "start_char", "begin"), ("end", "end_offset", "end_char", "stop")
_LABELS = ("label", "type", "entity", "tag", "labels", "entity_group", "entity_type", "class")
_PEEK = 2**16  # bytes


def looks_like_spans(path: Path) -> bool:
    """Whether the beginning of a file is records of texts with spans, or of words with tags.

    Example:
        >>> looks_like_spans(Path("none.jsonl"))
        False
    """
    suffix = table_suffix(path)
    if suffix.endswith(".parquet"):
        return _parquet_looks(path)
    if not suffix.startswith((".json", ".jsonl", ".ndjson")):
        return False
    record = _first_record(read_beginning(path, most=_PEEK).decode("utf-8", "replace").removeprefix("\ufeff"))
    return record is not None and _layout([record]) is not None


def _first_record(content: str) -> Any:
    """The first object of JSON lines or of an array, however the rest of it goes on."""
    content = content.lstrip()
    decoder = json.JSONDecoder()
    for skip in ("", "["):
        if content.startswith(skip):
            try:
                value, _ = decoder.raw_decode(content.removeprefix(skip).lstrip())
            except (ValueError, RecursionError):
                continue
            if isinstance(value, list) and _is_spacy(value):
                return _of_spacy(value)
            if isinstance(value, list) and value:
                value = _of_spacy(value[0]) if _is_spacy(value[0]) else value[0]
            if isinstance(value, dict):
                pairs = value.get("annotations")
                if isinstance(pairs, list) and pairs and _is_spacy(pairs[0]):
                    return _of_spacy(pairs[0])
                return value
    return None


def _parquet_looks(path: Path) -> bool:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:  # its reader reports it
        return False
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            batch = next(file.iter_batches(batch_size=8), None)
        return batch is not None and _layout(batch.to_pylist()) is not None
    except (OSError, pyarrow.ArrowException):  # its reader reports the error
        return False


def read_spans(
    path: Path, *, text_column: str | None = None, column: str | None = None, encoding: str | None = None
) -> Annotated:
    """Read texts with spans, or words with tags, from JSON, JSON lines or Parquet.

    Read are `{"text", "spans": [{"start", "end", "label"}]}` and the layouts of spaCy, Prodigy, Doccano and Label
    Studio; and `{"tokens": [...], "ner_tags": [...]}` with the names of the tags.

    Args:
        path: The file.
        text_column: The key of the text, or of the words. Defaults to the usual ones.
        column: The key of the spans, or of the tags. Defaults to the usual ones.
        encoding: As Python names it. Defaults to UTF-8.

    Returns:
        `Annotated`.

    Raises:
        DataError: A record has no text or no spans, or these cannot be; the message names its row.

    Example:
        >>> read_spans(Path("train.jsonl")).layout  # doctest: +SKIP
        'character spans'
    """
    source = printable(path.name)
    records, rows = _records(path, encoding)
    layout = _layout(records, text_column, column)
    if layout is None:
        keys = ", ".join(map(repr, list(dict.fromkeys(key for record in records for key in record))[:8]))
        raise DataError(
            f"Expected records with a text and its spans, or words and their tags, in {source}, got the keys {keys}. "
            'Write {"text": ..., "spans": [{"start": 0, "end": 4, "label": "PER"}]}, or name them with --text-column '
            "and --label-column."
        )
    kind, text_key, span_key = layout
    if kind == "tags":
        return _of_tags(source, records, rows, text_key, span_key)
    texts = [_text(record, text_key) for record in records]
    texts = list(check_texts(texts, rows, source))
    spans = [
        [_span(item, text, source, row) for item in _items(record.get(span_key), source, row)]
        for record, text, row in zip(records, texts, rows, strict=True)
    ]
    name = "Label Studio" if kind == "studio" else "character spans"
    return checked(source, texts, spans, rows, name)


def _records(path: Path, encoding: str | None) -> tuple[list[Any], list[int]]:
    """`(objects, rows)`; spaCy's pairs are made objects."""
    if table_suffix(path) == ".json":
        try:
            value = json.loads(read_text(path, encoding))
        except (OSError, ValueError, RecursionError):
            value = None  # several values; the reader of tables reports errors
        if isinstance(value, dict) and isinstance(value.get("annotations"), list):
            value = value["annotations"]
        if isinstance(value, list) and value and all(map(_is_spacy, value)):
            return [_of_spacy(item) for item in value], list(range(1, len(value) + 1))
        if isinstance(value, dict) and _layout([value]) is not None:
            return [value], [1]
    names, table, rows = read_records(path, encoding, least=1)
    return [
        {name: cell for name, cell in zip(names or (), cells, strict=False) if cell is not None}
        for cells in table
    ], rows


def _is_spacy(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], dict)
        and isinstance(value[1].get("entities"), list)
    )


def _of_spacy(value: Any) -> dict[str, Any]:
    return {"text": value[0], "entities": value[1]["entities"]}


def _layout(
    records: Sequence[Mapping[str, Any]], text_key: str | None = None, span_key: str | None = None
) -> tuple[str, str, str] | None:
    """`(kind, key of the text, key of the spans)` of records that are alike; `None` where they are no such."""
    records = records[:200]
    keys = list(dict.fromkeys(key for record in records for key in record))

    def values(key: str) -> list[Any]:
        return [record[key] for record in records if record.get(key) is not None]

    for tokens in [text_key] if text_key else _TOKENS:
        if tokens in keys and all(isinstance(value, list | tuple) for value in values(tokens)):
            for tags in [span_key] if span_key else _TAGS:
                if tags in keys and all(isinstance(value, list | tuple) for value in values(tags)):
                    return "tags", tokens, tags
    is_studio = "data" in keys and "annotations" in keys and text_key is None
    if is_studio and all(isinstance(value, dict) for value in values("data")):
        return "studio", "data", "annotations"
    for text in [text_key] if text_key else _TEXTS:
        if text not in keys:
            continue
        for spans in [span_key] if span_key else _SPANS:
            if spans in keys and spans != text and _are_spans(values(spans)):
                return "spans", text, spans
    return None


def _are_spans(values: Sequence[Any]) -> bool:
    if not values or not all(isinstance(value, list | tuple) for value in values):
        return False
    items = [item for value in values for item in value]
    if not items:
        return True
    return all(
        (isinstance(item, dict) and any(key in item for key in (*_STARTS, "value")))
        or (isinstance(item, list | tuple) and len(item) >= 3 and type(item[0]) is type(item[1]) is int)
        for item in items
    )


def _text(record: Mapping[str, Any], key: str) -> Any:
    value = record.get(key)
    if key == "data" and isinstance(value, dict):
        texts = [value[name] for name in _TEXTS if isinstance(value.get(name), str)]
        return texts[0] if texts else next((each for each in value.values() if isinstance(each, str)), None)
    return value


def _items(value: Any, source: str, row: int) -> Iterator[Any]:
    if value is None:
        return
    if not isinstance(value, list | tuple):
        raise DataError(
            f"Expected a list of spans in {source}, got {value!r:.80} in row {row}. Write a list."
        )
    for item in value:
        if isinstance(item, dict) and isinstance(item.get("result"), list):  # an annotation of Label Studio
            if item.get("was_cancelled"):
                continue
            yield from (each for each in item["result"] if each.get("type", "labels") == "labels")
        else:
            yield item


def _span(item: Any, text: str, source: str, row: int) -> Span:
    stated = None
    if isinstance(item, dict) and isinstance(item.get("value"), dict):
        item = item["value"]
    if isinstance(item, dict):
        start, end, label = (_first(item, names) for names in (_STARTS, _ENDS, _LABELS))
        stated = item.get("text")
    elif isinstance(item, list | tuple) and len(item) >= 3:
        start, end, label = item[:3]
    else:
        start = end = label = None
    if isinstance(label, list | tuple) and len(label) == 1:
        label = label[0]
    whole = all(isinstance(each, int) and not isinstance(each, bool) for each in (start, end))
    if not whole or not isinstance(label, str) or not label.strip() or end < start:
        raise DataError(
            f"Expected spans with a start, an end and one label in {source}, got {item!r:.120} in row {row}. "
            'Write {"start": 0, "end": 4, "label": "PER"}.'
        )
    if isinstance(stated, str) and stated != text[start:end] and text.count(stated) and text.isascii():
        raise DataError(
            f"Expected spans whose offsets are those of their text in {source}, got {stated!r:.60} where the text has "
            f"{text[start:end]!r:.60} in row {row}. Fix the offsets."
        )
    return start, end, label.strip()


def _first(item: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((item[name] for name in names if item.get(name) is not None), None)


def _of_tags(
    source: str, records: Sequence[Mapping[str, Any]], rows: Sequence[int], token_key: str, tag_key: str
) -> Annotated:
    words = [[str(word) for word in record.get(token_key) or ()] for record in records]
    tags = [list(record.get(tag_key) or ()) for record in records]
    empty = [row for row, sentence in zip(rows, words, strict=True) if not sentence]
    if empty:
        raise DataError(
            f"Expected words in each row of {source}, got none in {named_rows(empty)}. Remove these."
        )
    for row, sentence, given in zip(rows, words, tags, strict=True):
        if len(sentence) != len(given):
            raise DataError(
                f"Expected a tag for each word in {source}, got {len(given)} tags for {len(sentence)} words in row "
                f"{row}. Fix that row."
            )
        wrong = [tag for tag in given if not is_tag(tag)]
        if wrong:
            hint = (
                "Write the names of the tags instead of their numbers"
                if isinstance(wrong[0], int)
                else "Fix it"
            )
            raise DataError(
                f"Expected tags such as O, B-PER and I-PER in {source}, got {wrong[0]!r:.60} in row {row}. {hint}."
            )
        blank = [word for word in sentence if not word.strip()]
        if blank:
            raise DataError(
                f"Expected words in {source}, got {blank[0]!r} in row {row}. Remove it with its tag."
            )
    lines = [[row] * len(sentence) for row, sentence in zip(rows, words, strict=True)]
    texts, spans, scheme, notes = texts_of_tags(source, words, tags, lines)
    found = checked(source, texts, spans, rows, f"words with tags, {scheme}")
    found.notes = notes + found.notes
    return found
