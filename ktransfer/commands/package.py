"""`ktransfer package`: all that a run hands over in one archive."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktransfer.commands.checks import check_run
from ktransfer.core.modality import modality_of_manifest
from ktransfer.errors import RunError, listed
from ktransfer.exporting.artifact import Artifact, fingerprint
from ktransfer.exporting.formats import format_names
from ktransfer.exporting.registry import get_format
from ktransfer.reporting.model_card import backbone_license, model_card
from ktransfer.runs.exported import exported
from ktransfer.runs.manifest import MANIFEST
from ktransfer.security.safe_io import parse_json, read_bytes
from ktransfer.utils.files import replacing
from ktransfer.utils.kit import kit_files, kit_folder, program_folder
from ktransfer.utils.terminal import print_line

if TYPE_CHECKING:
    from ktransfer.commands.splits import Say
    from ktransfer.core.typing import PathLike

CARD, SUMS = "MODEL_CARD.md", "SHA256SUMS"
_LABELS = "labels.txt"
# What is of the machine of the training, and of no use elsewhere.
_PRIVATE = ("machine", "reproduce")
_PATHS = ("source", "validation", "data_dir", "exclude")
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that an archive can have
_CHUNK = 2**20  # bytes


def package(
    run: PathLike,
    out: PathLike,
    *,
    formats: Sequence[str] | None = None,
    license: str | None = None,
    say: Say = print_line,
) -> Path:
    """Write a run's artifacts into one archive, with a model card and the programs that use them.

    In it are `MODEL_CARD.md`; `artifacts/` with labels and, of texts, `tokenizer.json`; the folder of the deployment
    kit for each format in `programs/`; `manifest.json` without paths and the machine of the training; and `SHA256SUMS`
    for `sha256sum --check`. The same run gives the same bytes on any machine: nothing is compressed, files are sorted
    and have one date.

    Args:
        run: A run folder with artifacts; nothing in it is changed.
        out: The archive to write, `NAME.zip`. One that is there is replaced when the new one is whole.
        formats: Of the run's artifacts. Defaults to all of them.
        license: License of the backbone, for the card. Defaults to what the backbone's own folder names.
        say: Callable that receives progress messages. Defaults to `print_line`, which prints them.

    Returns:
        The archive.

    Raises:
        RunError: The run has no artifacts, or not these; a file of it is not the one that was exported; or the
            archive cannot be written there.
        ExportError: A format is unknown.

    Example:

        ktransfer.package("runs/flowers", "flowers.zip", formats=["onnx"])
    """
    run, out = Path(run), Path(out)
    asked = None if formats is None else format_names(formats)
    _check_out(out)
    manifest = check_run(run, model=False)
    artifacts = _chosen(exported(run, manifest), asked, run)
    sidecars = modality_of_manifest(manifest).written_sidecars(manifest)
    proved = {artifact.path: artifact.sha256 for artifact in artifacts}
    proved |= {facts["path"]: facts["sha256"] for facts in sidecars}
    for path, sha256 in proved.items():
        _check_file(run, path, sha256)
    contents = dict(_artifact_files(run, [*proved], artifacts))
    families = dict.fromkeys(get_format(artifact.format).family for artifact in artifacts)
    names = [family.name if family.program is None else family.program for family in families]
    named = {name: program_folder(name) for name in names if name}
    folders = {name: folder for name, folder in named.items() if folder is not None}
    for name, folder in folders.items():
        contents |= {
            f"programs/{name}/{path.relative_to(folder).as_posix()}": path for path in kit_files(folder)
        }
    if folders:
        contents["programs/README.md"] = kit_folder() / "README.md"
    card = model_card(
        run.resolve().name,
        manifest,
        _metrics(run),
        artifacts,
        license=license or backbone_license(manifest),
        programs=[*folders],
    )
    written: dict[str, bytes | Path] = dict(contents)
    written[CARD] = card.encode()
    written[MANIFEST] = _shared_manifest(manifest, artifacts)
    with replacing(out) as partial:
        _write(partial, written)
    sha256, size = fingerprint(out)
    given = ", ".join(artifact.format for artifact in artifacts)
    say(
        f"package    {out}  {size / 2**20:.1f} MiB, {len(written) + 1} files: {given}; SHA-256 {sha256[:16]}..."
    )
    return out


def _check_out(out: Path) -> None:
    if out.suffix.lower() != ".zip":
        raise RunError(f"Expected a name that ends in .zip for --out, got {out}. Pass such as flowers.zip.")
    if out.is_dir():
        raise RunError(
            f"Expected a file to write for --out, got {out}, which is a folder. Pass another name."
        )
    if not out.absolute().parent.is_dir():
        raise RunError(
            f"Expected a folder that exists for --out, got {out.absolute().parent}. Make it, or pass another."
        )


def _chosen(artifacts: list[Artifact], asked: Sequence[str] | None, run: Path) -> list[Artifact]:
    found = {artifact.format: artifact for artifact in artifacts}
    missing = [name for name in asked or () if name not in found]
    if missing:
        raise RunError(
            f"Expected formats that {run} has, {listed(found)}, got {listed(missing)}. Export them first by "
            f"`ktransfer export {run} --format {missing[0]}`."
        )
    return artifacts if asked is None else [found[name] for name in asked]


def _check_file(run: Path, path: str, sha256: str) -> None:
    if not (run / path).exists():
        raise RunError(
            f"Expected {run / path}, which the manifest names, got nothing there. Export it again."
        )
    found, _ = fingerprint(run / path)
    if found != sha256:
        raise RunError(
            f"Expected {run / path} as it was exported, SHA-256 {sha256[:12]}..., got {found[:12]}.... Export it again."
        )


def _artifact_files(
    run: Path, paths: Iterable[str], artifacts: Sequence[Artifact]
) -> Iterable[tuple[str, Path]]:
    labels = dict.fromkeys(f"{artifact.path.rpartition('/')[0]}/{_LABELS}" for artifact in artifacts)
    for name in (*paths, *labels):
        path = run / name
        if path.is_dir():
            for file in sorted(each for each in path.rglob("*") if each.is_file()):
                yield f"{name}/{file.relative_to(path).as_posix()}", file
        elif path.is_file() or name not in labels:
            yield name, path


def _metrics(run: Path) -> dict[str, Any]:
    path = run / "metrics.json"
    if not path.is_file():
        return {}
    try:
        metrics = parse_json(read_bytes(path))
    except (OSError, ValueError) as error:
        raise RunError(
            f"Expected readable metrics in {path}, got {error}. Write them by `ktransfer report {run}`."
        ) from error
    if not isinstance(metrics, dict) or not all(isinstance(each, dict) for each in metrics.values()):
        raise RunError(
            f"Expected metrics by split in {path}, got {metrics!r:.80}. Write them by `ktransfer report {run}`."
        )
    return metrics


def _shared_manifest(manifest: dict[str, Any], artifacts: Sequence[Artifact]) -> bytes:
    """The manifest as programs read it: of what is handed over, without what is of one machine."""
    shared = {name: value for name, value in manifest.items() if name not in _PRIVATE}
    data = dict(shared.get("data", {}))
    shared["data"] = data | {
        name: os.path.basename(str(data[name]).rstrip("/")) for name in _PATHS if data.get(name)
    }
    backbone = dict(shared.get("backbone", {}))
    if isinstance(backbone.get("name"), str) and "://" not in backbone["name"]:
        backbone["name"] = os.path.basename(backbone["name"].rstrip("/"))
    shared["backbone"] = backbone
    names = {artifact.format for artifact in artifacts}
    shared["artifacts"] = [entry for entry in manifest["artifacts"] if entry["format"] in names]
    text = json.dumps(shared, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


def _write(path: Path, contents: dict[str, bytes | Path]) -> None:
    sums = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            sums[name] = _add(archive, name, contents[name])
        lines = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
        _add(archive, SUMS, lines.encode())


def _add(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> str:
    """Add a file, and return the SHA-256 of what was added."""
    info = zipfile.ZipInfo(name, _TIME)
    info.create_system, info.external_attr = 3, 0o100644 << 16  # as on Linux, wherever it is made
    digest = hashlib.sha256()
    with archive.open(info, "w", force_zip64=True) as target:
        if isinstance(content, bytes):
            digest.update(content)
            target.write(content)
        else:
            with content.open("rb") as source:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    target.write(chunk)
    return digest.hexdigest()
