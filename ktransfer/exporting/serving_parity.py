"""Does an artefact that takes raw texts, image files or images of any size read them as the run does?"""

from ktransfer.data.modality import TEXTS
from ktransfer.exporting.parity import TOLERANCE


def measure_raw_parity(artefact, serving, format, labels=None):
    """Compare answers to examples as people have them with the model's, which reads them as the run does.

    Args:
        artefact: Callable, inputs by name to probabilities `(B, C)`.
        serving: `Serving` with its preprocessing.
        format: `"savedmodel"` takes texts or image files, `"onnx"` images of any size.
        labels: True classes of the examples, int `(N,)`.

    Returns:
        `Parity`, and of texts how many have other ids inside the artefact.
    """
    # Here, as either loads what the other has no use for.
    if serving.preprocessing.task == TEXTS:
        from ktransfer.text.in_graph_tokenizer import measure_text_parity

        return measure_text_parity(artefact, serving)
    from ktransfer.image.file_parity import measure_file_parity, measure_size_parity

    measure = measure_file_parity if format == "savedmodel" else measure_size_parity
    return measure(artefact, serving, labels), None


def measure_files_read(artefact, serving):
    """Compare the pixels that a SavedModel reads from image files with those of the run."""
    from ktransfer.image.file_parity import measure_pixels  # loads what texts have no use for

    return measure_pixels(artefact, serving)


def check_raw_parity(parity, task, format, tolerance=TOLERANCE):
    """Raise `ExportError` unless the answers are the model's.

    Texts have to come out as the very same ids. A pixel of an image may differ by a grey level, which
    `FilesRead.check` holds; so images are evaluated by their labels.
    """
    if task == TEXTS:
        parity.check(f"{format} (raw text)", tolerance)
        return
    from ktransfer.image.file_parity import LIMITS

    parity.check_labels(f"{format} (image files)", **LIMITS)
