"""A model card in Markdown, made from a run's manifest and metrics (Mitchell et al. 2019, "Model Cards")."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktransfer.core.modality import modality_of_manifest
from ktransfer.core.task import get_task
from ktransfer.data.examples import printable
from ktransfer.security.safe_io import read_bytes

if TYPE_CHECKING:
    from ktransfer.exporting.artifact import Artifact

_LISTED = 30  # classes in full; of more the weakest
_WEAKEST = 5
_MOST_LICENSE = 2**20  # bytes of a file that is searched for a license
_LICENSE_FILES = ("README.md", "SOURCE.txt", "LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING")
_LICENSE = re.compile(
    r"^(?:.*[\s(])?licen[cs]e\s*[:=]\s*(?P<name>[^\s,;()]+(?:[ ,]+version [\d.]+)?)", re.I | re.M
)
_KNOWN_TITLES = ("Apache License", "MIT License", "BSD", "Creative Commons", "GNU")


def model_card(
    name: str,
    manifest: Mapping[str, Any],
    metrics: Mapping[str, Any],
    artifacts: Sequence[Artifact],
    *,
    license: str | None,
    programs: Sequence[str] = (),
) -> str:
    """Write the model card of a run.

    Args:
        name: Of the run, for the heading.
        manifest: From `read_manifest`.
        metrics: Content of `metrics.json`; empty where the run was not evaluated.
        artifacts: Those that are handed over.
        license: License of the backbone, as `backbone_license` finds it; `None` where it is not known.
        programs: Folders of `programs/` that are handed over as well. Defaults to none.

    Returns:
        Markdown, the same for the same arguments.

    Example:

        model_card("flowers", manifest, metrics, artifacts, license="Apache-2.0")
    """
    sections = [
        [f"# {_text(name)}", _summary(manifest)],
        ["## Use", *_use(manifest, artifacts, programs)],
        ["## Data", *_data(manifest)],
        ["## Figures", *_figures(manifest, metrics)],
        ["## Files", *_files(manifest, artifacts)],
        ["## Limits", "\n".join(f"- {line}" for line in _limits(manifest, metrics, artifacts))],
        ["## Licenses", "\n".join(f"- {line}" for line in _licenses(manifest, license, programs))],
    ]
    return "\n\n".join(paragraph for section in sections for paragraph in section) + "\n"


def backbone_license(manifest: Mapping[str, Any]) -> str | None:
    """The license that the backbone's own folder names, in the files that usually do.

    Args:
        manifest: From `read_manifest`.

    Returns:
        Its name and the file that has it, such as `"Apache-2.0 (README.md of the backbone)"`; `None` where no file
        names one, or the folder is not there.

    Example:

        backbone_license(manifest)   # "apache-2.0 (README.md of the backbone)"
    """
    arguments = manifest.get("reproduce", {}).get("arguments", {})
    for given in (manifest.get("backbone", {}).get("name"), arguments.get("backbone")):
        folder = Path(given) if isinstance(given, str) and "\0" not in given else None
        if folder is None or not folder.is_dir():
            continue
        for file in _LICENSE_FILES:
            found = _license_in(folder / file)
            if found:
                return f"{found} ({file} of the backbone)"
    return None


def _license_in(path: Path) -> str | None:
    try:
        text = read_bytes(path, most=_MOST_LICENSE).decode("utf-8", "replace")
    except (OSError, ValueError):
        return None
    if path.stem in ("LICENSE", "COPYING"):
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        version = next((line.split(",")[0] for line in lines[1:2] if line.startswith("Version")), "")
        title = next((line for line in lines[:3] if line.startswith(_KNOWN_TITLES)), None)
        return None if title is None else _text(f"{title} {version}".strip())
    found = _LICENSE.search(text)
    return None if found is None else _text(found["name"].strip("\"'*_.`"))


def _summary(manifest: Mapping[str, Any]) -> str:
    modality, task = modality_of_manifest(manifest), _task(manifest)
    labels = manifest["labels"]
    what = f"{task.title[0].upper()}{task.title[1:]} of {modality.reads(manifest['preprocessing'])}"
    made = f"made with ktransfer {_text(manifest.get('versions', {}).get('ktransfer', ''))}".rstrip()
    return (
        f"{what}; {len(labels)} {task.label_noun}: {_names(labels)}. A model fine-tuned from the backbone "
        f"{_text(_last(manifest.get('backbone', {}).get('name', 'unknown')))}, {made} on "
        f"{_text(manifest.get('created', '')[:10])}."
    )


def _use(
    manifest: Mapping[str, Any], artifacts: Sequence[Artifact], programs: Sequence[str]
) -> Iterator[str]:
    modality, labels = modality_of_manifest(manifest), artifacts[0].path.rpartition("/")[0]
    example = (
        f"{modality.sample} {modality.sample}" if "pair" in manifest["preprocessing"] else modality.sample
    )
    for program in programs:
        yield (
            f"With `programs/{program}`, which needs neither Keras nor ktransfer:\n\n"
            f"    pip install -r programs/{program}/requirements.txt\n"
            f"    python programs/{program}/predict.py . {example}"
        )
    for artifact in artifacts:
        if artifact.format == "web":
            yield (
                "A page for browsers, at http://localhost:8000/ while this runs:\n\n"
                f"    python -m http.server --directory {artifact.path} 8000"
            )
        if artifact.format == "keras-hub":
            load = f'keras_hub.models.{modality.hub_task}.from_preset("{artifact.path}")'
            yield f"In Keras; it gives logits:\n\n    {load}"
    yield f"`sha256sum --check SHA256SUMS` checks every file; `{labels}/labels.txt` has the labels in their order."


def _data(manifest: Mapping[str, Any]) -> Iterator[str]:
    facts = manifest.get("data", {})
    noun = "pairs" if facts.get("text_columns") else modality_of_manifest(manifest).noun
    prints = facts.get("fingerprint", {})
    yield f"Source: {_text(_last(facts.get('source', 'unknown')))}."
    rows = [
        [split, f"{count:,}", f"`{_text(prints.get(split, ''))[:16]}`"]
        for split, count in facts.get("examples", {}).items()
    ]
    yield _table(["split", noun, "fingerprint (SHA-256, first 16 digits)"], rows)
    if facts.get("exclude"):
        yield "Examples that an audit had found were left out of training."


def _figures(manifest: Mapping[str, Any], metrics: Mapping[str, Any]) -> Iterator[str]:
    if not metrics:
        yield "The run has no `metrics.json`: it was not evaluated. `ktransfer report RUN` evaluates it."
        return
    split = list(metrics)[-1]
    found = metrics[split]
    yield f"On the {_text(split)} split, {found.get('examples', 0):,} examples; intervals are of 95 %."
    rows = [
        [_text(title), f"{value:.4g}", "" if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}"]
        for title, value, interval in sorted(figures(found), key=lambda figure: figure[2] is None)
    ]
    yield _table(["figure", "value", "95 % interval"], rows)
    each = _by_class(found)
    if each:
        ranked = sorted(each.items(), key=lambda entry: (entry[1].get("f1", 0), entry[0]))
        shown = list(each.items()) if len(each) <= _LISTED else ranked[:_WEAKEST]
        if len(each) > _LISTED:
            yield f"The {_WEAKEST} weakest of {len(each):,}:"
        columns = [key for key in ("precision", "recall", "f1", "average_precision") if key in shown[0][1]]
        rows = [
            [_text(label), *(_number(score.get(key)) for key in columns), _number(score.get("support"))]
            for label, score in shown
        ]
        yield _table([manifest_noun(manifest), *columns, "examples"], rows)


def figures(evaluation: Mapping[str, Any], above: str = "") -> list[tuple[str, float, list[float] | None]]:
    """The numbers of one split of `metrics.json` that summarize it, with their intervals.

    Args:
        evaluation: What the file has of a split.
        above: What stands before each title. Defaults to nothing.

    Returns:
        Title, value, and interval or `None` of each; numbers by class and of reliability are left out.

    Example:
        >>> figures({"accuracy": 0.9, "accuracy_interval": [0.83, 0.94], "examples": 130})
        [('accuracy', 0.9, [0.83, 0.94])]
        >>> figures({"r2": {"value": 0.7, "interval": [0.6, 0.8]}})
        [('r2', 0.7, [0.6, 0.8])]
    """
    found: list[tuple[str, float, list[float] | None]] = []
    for key, value in evaluation.items():
        title = f"{above} {key}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            interval = value.get("interval")
            if key.startswith("per_"):
                continue
            if _is_number(value.get("value")):
                found.append((title, value["value"], _interval(interval)))
                continue
            inner = figures({name: each for name, each in value.items() if name != "interval"}, title)
            # The interval next to several numbers is of their F1.
            found += [
                (name, number, _interval(interval) if name == f"{title} f1" else own)
                for name, number, own in inner
            ]
        elif _is_number(value) and key not in ("examples", "support"):
            found.append((title, float(value), _interval(evaluation.get(f"{key}_interval"))))
    return found


def manifest_noun(manifest: Mapping[str, Any]) -> str:
    """The noun in the heading of a table by class, such as `"classes"`."""
    return _task(manifest).label_noun


def _files(manifest: Mapping[str, Any], artifacts: Sequence[Artifact]) -> Iterator[str]:
    task = _task(manifest).row_task
    rows = []
    for artifact in artifacts:
        parity = artifact.parity
        given = ", ".join(
            f"{_text(each['name'])} {each['dtype']} {_shape(each['shape'])}"
            for each in artifact.signature["inputs"]
        )
        proof = (
            f"{parity.max_abs_delta:.1e}{parity.unit}; {task.agreement_title} {parity.label_agreement:.1%} "
            f"of {parity.examples}"
        )
        rows.append(
            [artifact.format, f"`{_text(artifact.path)}`", f"{artifact.size_bytes / 2**20:.1f}", given, proof]
        )
    yield _table(["format", "file", "MiB", "takes", "largest difference from the Keras model"], rows)
    yield "Each was run by its own runtime on validation examples and compared with the Keras model at export."


def _limits(
    manifest: Mapping[str, Any], metrics: Mapping[str, Any], artifacts: Sequence[Artifact]
) -> Iterator[str]:
    task, data = _task(manifest), manifest.get("data", {})
    modality = modality_of_manifest(manifest)
    yield f"It reads {modality.reads(manifest['preprocessing'])}; {modality.fitting}."
    if task.reads == "single_label":
        yield "It answers one of its classes for any input, also for one that is of none of them."
    yield "The figures hold for examples drawn like those above; for others they were not measured."
    split = list(metrics)[-1] if metrics else None
    if split == "validation":
        yield "The validation split chose which weights were kept, so its figures are a little too good."
    each = _by_class(metrics[split]) if split else {}
    if each:
        label, score = min(each.items(), key=lambda entry: (entry[1].get("f1", 0), entry[0]))
        yield (
            f"Weakest: {_text(label)}, F1 {_number(score.get('f1'))} on {_number(score.get('support'))} examples."
        )
    train = data.get("examples", {}).get("train")
    if isinstance(train, int):
        yield f"It was fine-tuned on {train:,} examples."
    for artifact in artifacts:
        if artifact.limits is not None:
            yield f"`{artifact.format}` is less exact than the model: see its row above."
        if artifact.flex_ops:
            yield f"`{artifact.format}` needs the Flex delegate: {_text(', '.join(artifact.flex_ops))}."
        needs = artifact.min_runtime or {}
        if needs.get("version"):
            yield f"`{artifact.format}` needs {_text(needs['name'])} {_text(needs['version'])} or later."
        if artifact.batch != "dynamic":
            yield f"`{artifact.format}` takes {artifact.batch} example at a time."
        if isinstance(artifact.sequence, int):
            yield f"`{artifact.format}` takes texts padded to {artifact.sequence} tokens."
    for sentence in manifest.get("trouble", []):
        yield f"In training: {_text(sentence)}"


def _licenses(manifest: Mapping[str, Any], license: str | None, programs: Sequence[str]) -> Iterator[str]:
    backbone = manifest.get("backbone", {})
    name = _text(_last(backbone.get("name", "unknown")))
    if backbone.get("random_weights"):
        yield f"Backbone {name}: random weights were trained; there is no license of pretrained ones."
    elif license is None:
        yield f"Backbone {name}: license not known. Look it up where the backbone is from before you pass this on."
    else:
        yield f"Backbone {name}: {_text(license)}."
    yield f"Data {_text(_last(manifest.get('data', {}).get('source', 'unknown')))}: license not recorded in a run."
    if programs:
        yield "`programs/`: Apache-2.0, from ktransfer."


def _task(manifest: Mapping[str, Any]) -> Any:
    return get_task(manifest.get("task", "single_label")).with_facts(manifest.get("data", {}).get("target"))


def _by_class(evaluation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    for key, value in evaluation.items():
        if key.startswith("per_") and isinstance(value, Mapping):
            return {label: score for label, score in value.items() if isinstance(score, Mapping)}
    return {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _interval(value: Any) -> list[float] | None:
    known = isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))
    return list(value) if known else None


def _number(value: Any) -> str:
    if not _is_number(value):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _shape(shape: Iterable[int | None]) -> str:
    return "x".join("?" if size is None else str(size) for size in shape)


def _names(labels: Sequence[str]) -> str:
    shown = ", ".join(map(_text, labels[:_LISTED]))
    return shown + (f", and {len(labels) - _LISTED:,} more" if len(labels) > _LISTED else "")


def _last(path: Any) -> str:
    """The last name of a path: where files lie on the machine of the training is of no use elsewhere."""
    text = str(path)
    if "://" in text or text.startswith("tfds:"):
        return text
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1] or text


def _text(text: Any) -> str:
    """Text that Markdown shows as it is, in a cell of a table too."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", printable(str(text)))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
