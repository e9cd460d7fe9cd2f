"""Writes what was measured into docs/benchmarks.md, between its markers.

python benchmarks/docs_tables.py benchmarks/results.jsonl docs/benchmarks.md

The table of a benchmark stands between `<!-- NAME -->` and `<!-- /NAME -->`; all else on the page is left as
it is, and so is a table of which the results have no line.
"""

import argparse
import json
from pathlib import Path

from harness import refuse

from ktransfer.utils.files import write_text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="JSON lines, as the benchmarks print them")
    parser.add_argument("docs", type=Path, help="the page to write")
    options = parser.parse_args()
    records = read_records(options.results)
    check_markers(options.docs, records)
    write_docs(options.docs, records)


def read_records(path):
    """The records of a file of JSON lines by benchmark, the last of each; of no file, none."""
    if not path.is_file():
        return {}
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {record["benchmark"]: record for record in records}


def write_records(path, records):
    write_text(path, "".join(json.dumps(record) + "\n" for record in records.values()))


def check_markers(docs, names):
    """End the program where a benchmark has no place on the page."""
    text = docs.read_text(encoding="utf-8")
    for name in names:
        if not 0 <= text.find(f"<!-- {name} -->") < text.find(f"<!-- /{name} -->"):
            refuse(
                f"Expected <!-- {name} --> and <!-- /{name} --> in {docs}, got a page without. Add them "
                "where the table is to stand."
            )


def write_docs(docs, records):
    write_tables(docs, {name: table(record) for name, record in records.items()})


def write_tables(docs, tables):
    """Put each table, Markdown by the name of its markers, in the place of what stands between them."""
    text = docs.read_text(encoding="utf-8")
    for name, lines in tables.items():
        before, begin, rest = text.partition(f"<!-- {name} -->")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        text = f"{before}{begin}\n{lines}{end}{after}"
    write_text(docs, text)


def table(record):
    """A record as a Markdown table, and below it when, where and with which settings it was measured."""
    rows = record["rows"]
    names = list(rows[0])
    numeric = [all(not isinstance(row[name], str) for row in rows) for name in names]
    lines = [
        [_words(name) for name in names],
        ["---:" if right else "---" for right in numeric],
        *([_cell(row[name]) for name in names] for row in rows),
    ]
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    machine = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    settings = ", ".join(
        f"{name.replace('_', ' ')} {_cell(value)}" for name, value in record["settings"].items()
    )
    return (
        f"{table}\n{record['date']}, `benchmarks/{record['benchmark']}.py`: {settings}; "
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, "
        f"{machine['backend']} backend, {versions}.\n"
    )


def _words(name):
    return name.replace("_", " ")


def _cell(value):
    """Three digits that count; numbers of whole things in full."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if not isinstance(value, float):
        return str(value)
    if 0 < abs(value) < 1e-3:
        return f"{value:.1e}"
    decimals = next(d for d, limit in ((3, 1), (2, 10), (1, 100), (0, float("inf"))) if abs(value) < limit)
    return f"{value:.{decimals}f}"


if __name__ == "__main__":
    main()
