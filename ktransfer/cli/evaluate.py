"""`ktransfer evaluate`."""

from functools import partial

from ktransfer.cli.options import (
    AsJson,
    Data,
    DataDir,
    Encoding,
    FileColumn,
    LabelColumn,
    LabelSeparator,
    RunFolder,
    TextColumn,
    TextColumns,
)
from ktransfer.utils.files import write_json
from ktransfer.utils.terminal import print_evaluation, print_json, print_line, quiet_imports


def evaluate(
    run: RunFolder,
    data: Data,
    data_dir: DataDir = None,
    text_column: TextColumn = None,
    text_columns: TextColumns = None,
    file_column: FileColumn = None,
    label_column: LabelColumn = None,
    label_separator: LabelSeparator = None,
    encoding: Encoding = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a run on labeled images or texts: accuracy, precision, recall, F1, confusion matrix."""
    from ktransfer.commands.checks import (
        check_data,
        check_encoding,
        check_path,
        check_run,
        refuse_others,
    )
    from ktransfer.core.modality import modality_of_manifest

    manifest = check_run(run)
    options = {
        "text_column": text_column,
        "text_columns": text_columns,
        "file_column": file_column,
        "label_column": label_column,
        "label_separator": label_separator,
        "encoding": encoding,
    }
    refuse_others(options, modality_of_manifest(manifest), run)
    check_encoding(encoding)
    check_data(data)
    check_path(data_dir, "--data-dir", folder=True)
    with quiet_imports():
        from ktransfer.commands.evaluate import evaluate as evaluate_run
        from ktransfer.runs.run import Run
    loaded = Run.load(run)
    result, split = evaluate_run(
        loaded,
        data,
        data_dir=data_dir,
        **options,
        say=partial(print_line, stderr=as_json),
    )
    values = {"data": data, "split": split, **result.to_dict()}
    write_json(run / "evaluation.json", values)
    result.save_picture(run / "evaluation.png")
    if as_json:
        print_json(values)
        return
    print_evaluation(result, loaded.noun)
    print_line(f"written to {run / 'evaluation.json'}, drawn to {run / 'evaluation.png'}")
