"""`ktransfer predict`."""

from functools import partial
from typing import Annotated

import typer

from ktransfer.cli.options import AsJson, Encoding, RunFolder, TextColumn, TextColumns
from ktransfer.utils.terminal import print_json, print_line, quiet_imports, shortened


def predict(
    run: RunFolder,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Images, and folders of them. Of a run on texts: texts, tables of them, .txt files, each "
            "one text, and folders of these. Of a run on pairs: tables of both texts, and texts of which two "
            "are a pair."
        ),
    ],
    top_k: Annotated[int, typer.Option(min=1, help="Number of labels for each.")] = 3,
    text_column: TextColumn = None,
    text_columns: TextColumns = None,
    encoding: Encoding = None,
    as_json: AsJson = False,
) -> None:
    """Classify images or texts: the most probable labels with their probabilities."""
    from ktransfer.commands.checks import check_encoding, check_run, refuse_others
    from ktransfer.core.modality import modality_of_manifest

    manifest = check_run(run)
    modality = modality_of_manifest(manifest)
    refuse_others({"text_column": text_column, "text_columns": text_columns}, modality, run)
    check_encoding(encoding)
    modality.check_inputs(inputs, encoding=encoding)
    with quiet_imports():
        from ktransfer.commands.predict import predict as predict_run
        from ktransfer.runs.run import Run
    loaded = Run.load(run)
    noun, found = predict_run(
        loaded,
        inputs,
        top_k=top_k,
        text_column=text_column,
        text_columns=text_columns,
        encoding=encoding,
        say=partial(print_line, stderr=True),
    )
    for given, answers in found:
        if as_json:
            print_json({noun: given, "predictions": answers})
        else:
            print_line(f"{shortened(str(given))}: {loaded.task.answer_line(answers)}")
