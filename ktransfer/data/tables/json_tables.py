"""Tables in JSON: an object a line, an array of objects, or the layouts that pandas writes."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ktransfer.data.examples import printable
from ktransfer.errors import DataError

_DO = "Write an array of objects, or one object a line, with a key for the text and one for the label."


def read_json_table(content: str, path: Path, suffix: str) -> tuple[list[str], list[list[Any]], list[int]]:
    """The rows of a table in JSON.

    Read are objects one a line (in a `.json` as well, as Hugging Face writes them), an array of objects, such
    an array as the one list in an object, `{"text": [...], "label": [...]}`, and the orientations `columns`,
    `index`, `split` and `table` of pandas.

    Args:
        content: Decoded.
        path: For messages.
        suffix: `.json`, `.jsonl` or `.ndjson`.

    Returns:
        `(names, records, rows)`: rows are lines, or numbers in the array from 1 on.

    Raises:
        DataError: It is no JSON, or of another layout, or has a key twice.

    Example:
        >>> read_json_table('{"text": ["a", "b"], "label": [0, 1]}', Path("a.json"), ".json")
        (['text', 'label'], [['a', 0], ['b', 1]], [1, 2])
    """
    content = content.lstrip("\ufeff")
    first = content.lstrip()[:1]
    if not first:
        raise DataError(f"Expected a table in {printable(str(path))}, got nothing. {_DO}")
    if suffix != ".json" and first == "{":
        return _read_lines(content, path)
    try:
        value = _loads(content)
    except (ValueError, RecursionError) as error:
        if "Extra data" in str(error):  # more than one value
            return _read_lines(content, path)
        if not isinstance(error, json.JSONDecodeError):
            raise DataError(f"Expected a table in {printable(str(path))}, got {error}. {_DO}") from error
        raise DataError(
            f"Expected a table in {printable(str(path))}, got row {error.lineno}, which is no JSON "
            f"({error.msg}). Fix that line."
        ) from error
    if suffix != ".json" and isinstance(value, list) and not all(isinstance(item, dict) for item in value):
        return _read_lines(content, path)
    return _read_whole(value, path)


def _read_lines(content: str, path: Path) -> tuple[list[str], list[list[Any]], list[int]]:
    objects, rows = [], []
    # Not splitlines: it breaks at characters that JSON strings may hold.
    for row, line in enumerate(re.split("\r\n|\n|\r", content), start=1):
        if not line.strip():
            continue
        try:
            value = _loads(line)
        except (ValueError, RecursionError) as error:
            raise _broken(path, row, f"which is no JSON ({error})", "Fix that line.") from error
        if not isinstance(value, dict):
            raise _broken(path, row, f"a JSON {type(value).__name__}", "Write one object a line.")
        objects.append(value)
        rows.append(row)
    return _of_objects(objects, rows)


def _read_whole(value: Any, path: Path) -> tuple[list[str], list[list[Any]], list[int]]:
    if isinstance(value, list):
        wrong = [row for row, item in enumerate(value, 1) if not isinstance(item, dict)]
        if wrong:
            kind = type(value[wrong[0] - 1]).__name__
            raise _broken(path, wrong[0], f"a JSON {kind}", "Write an array of objects.")
        return _of_objects(value, range(1, len(value) + 1))
    if not isinstance(value, dict):
        raise DataError(
            f"Expected a table in {printable(str(path))}, got a JSON {type(value).__name__}. {_DO}"
        )
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        return _of_split(value["columns"], value["data"], path)
    lists = {name: items for name, items in value.items() if isinstance(items, list)}
    tables = [name for name, items in lists.items() if items and all(isinstance(i, dict) for i in items)]
    if len(tables) == 1 and (len(lists) == 1 or "schema" in value):
        return _read_whole(lists[tables[0]], path)
    if len(tables) > 1:
        received = ", ".join(map(repr, tables[:5]))
        raise DataError(
            f"Expected one table in {printable(str(path))}, got the lists {received}. Write each into a file "
            "of its own, such as train.jsonl and val.jsonl."
        )
    if value and len(lists) == len(value):
        return _of_columns(value, path)
    if value and all(isinstance(item, dict) for item in value.values()):
        return _of_objects_in_an_object(value, path)
    # One line of JSON lines, or no table.
    if value and not any(isinstance(item, dict | list) for item in value.values()):
        return _of_objects([value], [1])
    received = (
        f"an object with the keys {', '.join(map(repr, list(value)[:5]))}" if value else "an empty object"
    )
    raise DataError(f"Expected a table in {printable(str(path))}, got {received}. {_DO}")


def _of_objects(
    objects: Sequence[dict[str, Any]], rows: Iterable[int]
) -> tuple[list[str], list[list[Any]], list[int]]:
    names = list(dict.fromkeys(name for value in objects for name in value))
    return names, [[value.get(name) for name in names] for value in objects], list(rows)


def _of_columns(columns: dict[str, list[Any]], path: Path) -> tuple[list[str], list[list[Any]], list[int]]:
    lengths = {name: len(items) for name, items in columns.items()}
    if len(set(lengths.values())) > 1:
        received = ", ".join(f"{name!r} with {length}" for name, length in list(lengths.items())[:5])
        raise DataError(
            f"Expected columns of the same length in {printable(str(path))}, got the lists {received}. {_DO}"
        )
    records = list(map(list, zip(*columns.values(), strict=True)))
    return list(columns), records, list(range(1, len(records) + 1))


def _of_split(
    names: list[Any], records: list[Any], path: Path
) -> tuple[list[str], list[list[Any]], list[int]]:
    for row, record in enumerate(records, 1):
        if not isinstance(record, list) or len(record) != len(names):
            received = f"{len(record)} values" if isinstance(record, list) else "no list"
            raise _broken(path, row, f"{received} for {len(names)} columns", _DO)
    return list(map(str, names)), records, list(range(1, len(records) + 1))


def _of_objects_in_an_object(
    value: dict[str, dict[str, Any]], path: Path
) -> tuple[list[str], list[list[Any]], list[int]]:
    """Read pandas' JSON: `{column: {row: value}}`, or by rows, `{row: {column: value}}`."""
    inner = Counter(key for item in value.values() for key in item)
    if all(key.isdecimal() for key in inner):
        rows = list(inner)
        records = [[column.get(row) for column in value.values()] for row in rows]
        return list(value), records, list(range(1, len(records) + 1))
    if all(key.isdecimal() for key in value) or len(value) > len(inner):
        return _of_objects(list(value.values()), range(1, len(value) + 1))
    received = f"an object of objects with the keys {', '.join(map(repr, list(value)[:5]))}"
    raise DataError(f"Expected a table in {printable(str(path))}, got {received}. {_DO}")


def _loads(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_each_once)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {name!r} given twice")
    return values


def _broken(path: Path, row: int, received: str, fix: str) -> DataError:
    return DataError(f"Expected a table in {printable(str(path))}, got row {row}, {received}. {fix}")
