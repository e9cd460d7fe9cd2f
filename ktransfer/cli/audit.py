"""`ktransfer audit`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ktransfer.cli.options import (
    AsJson,
    Data,
    DataDir,
    Encoding,
    FileColumn,
    LabelColumn,
    LabelSeparator,
    TaskName,
    TextColumn,
    TextColumns,
)
from ktransfer.errors import RunError
from ktransfer.utils.terminal import console, print_json, print_line, quiet_imports, shortened

if TYPE_CHECKING:
    from ktransfer.audit.findings import Audit


def audit(
    data: Data,
    backbone: Annotated[
        str | None, typer.Option(help="Backbone whose features find wrong labels and outliers, as in train.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for audit.json and audit.html; nothing is written if left out."),
    ] = None,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix", help="Write exclude.txt, the examples that train should leave out, into --out."
        ),
    ] = False,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Side of the images in pixels, for --backbone.")
    ] = None,
    scaling: Annotated[str | None, typer.Option(help="For a .keras file, as in train.")] = None,
    text_column: TextColumn = None,
    text_columns: TextColumns = None,
    file_column: FileColumn = None,
    label_column: LabelColumn = None,
    label_separator: LabelSeparator = None,
    task: TaskName = None,
    encoding: Encoding = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Find problems of the data: broken files, leaks (exit status 1), duplicates, odd images, labels."""
    from ktransfer.commands.checks import check_data, check_encoding, check_modality, check_path
    from ktransfer.core.modality import modalities

    check_encoding(encoding)
    check_path(data_dir, "--data-dir", folder=True)
    check_data(data)
    of_backbone = {"image_size": image_size, "scaling": scaling}
    if backbone is None and any(of_backbone.values()):
        raise RunError(
            "Expected --backbone with --image-size and --scaling, which are of it, got none. Pass it, or "
            "leave them out."
        )
    columns: dict[str, Any] = {
        "text_column": text_column,
        "text_columns": text_columns,
        "file_column": file_column,
        "label_column": label_column,
        "label_separator": label_separator,
        "task": task,
        "encoding": encoding,
    }
    modality = check_modality(data, of_backbone | columns)
    if backbone is not None:
        (modality or modalities()[0]).check_backbone_name(backbone, scaling=scaling)
    with quiet_imports():
        from ktransfer.commands.audit import audit as audit_data
    found = audit_data(
        data,
        backbone=backbone,
        out=out,
        fix=fix,
        image_size=image_size,
        scaling=scaling,
        **columns,
        data_dir=data_dir,
    )
    if as_json:
        print_json({"data": data, **found.to_dict()})
    else:
        _print(found)
        if out is not None:
            print_line(f"written to {out / 'audit.html'}, audit.json{' and exclude.txt' if fix else ''}")
    raise typer.Exit(1 if found.is_severe else 0)


def _print(found: Audit) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from ktransfer.audit.findings import KINDS

    for finding in found.of("layout"):
        print_line(f"note: {finding.detail}")
    total = found.examples
    noun = found.modality.noun
    counts = Counter(finding.kind for finding in found.findings if finding.kind != "layout")
    if not counts:
        print_line(f"nothing found in {total:,} {noun}")
        return
    table = Table("severity", "finding", box=box.SIMPLE)
    table.add_column("times", justify="right")
    table.add_column("the first")
    for kind, count in counts.items():
        first = found.of(kind)[0]
        item = first.items[0] if first.items else None
        named = item and found.modality.title(item)
        where = f"{shortened(named, 60)}: " if named else ""
        severity, meaning = KINDS[kind]
        # As text, for a file's name may hold what Rich takes for its markup.
        table.add_row(severity, Text(meaning), f"{count:,}", Text(f"{where}{first.detail}"))
    console().print(table)
    print_line(f"{total:,} {noun} looked at")
