"""The cells of the export matrix as the tables of docs/export.md."""

import re

from docs_tables import check_markers, write_tables

FORMATS = (
    *("savedmodel", "tflite", "tflite-float16", "tflite-dynamic", "tflite-int8"),
    *("onnx", "onnx-float16", "onnx-int8"),
)


def write_page(page, cells, families):
    """Write a table for each task, and one of what was refused.

    Args:
        page: The Markdown file, with a pair of markers for each table.
        cells: (family, format) -> cell, as `export_matrix.py` keeps them.
        families: task -> names of the rows, in their order.
    """
    tables = {task: matrix_table(names, cells) for task, names in families.items()}
    tables["refused"] = refused_table(cells)
    check_markers(page, tables)
    write_tables(page, tables)


def matrix_table(families, cells):
    """A row a family, a column a format."""
    fixed = {format: _always_fixed(families, format, cells) for format in FORMATS}
    rows = [[f"`{format}`" for format in FORMATS]]
    rows += [[_shown(family, format, cells, fixed[format]) for format in FORMATS] for family in families]
    return _table(["", *families], rows) + _when_and_where(cells)


def _table(names, rows):
    lines = [[name, *row] for name, row in zip(names, rows, strict=True)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _when_and_where(cells):
    last = max(cells.values(), key=lambda cell: cell["date"])
    on = last["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in on["versions"].items())
    return f"\n{last['date']}; {on['processor']}, {on['cores']} cores, {on['system']}; {versions}.\n"


def _always_fixed(families, format, cells):
    """Axes that every file of the format has fixed; a cell does not repeat them."""
    made = [cells[of] for of in cells if of[0] in families and of[1] == format]
    made = [cell for cell in made if cell["outcome"] == "works"]
    return {axis for axis in ("batch", "sequence") if all(isinstance(cell[axis], int) for cell in made)}


def _shown(family, format, cells, fixed):
    cell = cells.get((family, format))
    if cell is None:
        return "not measured"
    if cell["outcome"] != "works":
        return f"**{cell['outcome']}**"
    whole = cells.get((family, format.partition("-")[0]), {}).get("size_bytes")
    if "-" in format and whole:
        size = f"{cell['size_bytes'] / whole:.2f} ×"
        parity = f"{cell['label_agreement']:.0%} ± {cell['max_abs_delta']:.1g}"
    else:
        size, parity = f"{cell['size_bytes'] / 1024:.0f} KiB", f"{cell['max_abs_delta']:.0e}"
    notes = [
        f"{axis} {cell[axis]}"
        for axis in ("batch", "sequence")
        if isinstance(cell[axis], int) and axis not in fixed
    ]
    return "<br>".join([size, f"{cell['latency_ms']:.2f} ms", parity, *notes])


def refused_table(cells):
    """A row for each cell that does not work."""
    found = [(of, cell) for of, cell in cells.items() if cell["outcome"] != "works"]
    if not found:
        return "Nothing.\n"
    rows = [["format", "why"], *([f"`{format}`", _why(cell["reason"])] for (_, format), cell in found)]
    return _table(["family", *(family for (family, _), _ in found)], rows)


def _why(reason):
    """The value in an error of the form: what was expected, the value, how to fix it."""
    received = re.split(r"Received: |, got ", reason, maxsplit=1)[-1]
    return received.split(". Export ")[0].replace("|", "\\|").rstrip(".")
