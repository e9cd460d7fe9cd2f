"""Every family in every format, tiny and trained: what works, how well, and what is refused and why.

python benchmarks/export_matrix.py [--only MobileNet BERT] [--format onnx-int8]

Writes what is found to benchmarks/export_matrix.jsonl as it is found, and the tables of docs/export.md from
it. Cells that were measured with the same code and libraries are left as they are, so that it can be stopped
and begun again. A converter that ends its process costs its own cell only.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from export_page import FORMATS, write_page
from harness import machine, note

from ktransfer.utils.files import write_text

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS, PAGE = HERE / "export_matrix.jsonl", ROOT / "docs" / "export.md"
# As a person calls them -> as the tests' zoos do.
IMAGES = {
    "MobileNet": "mobilenet",
    "EfficientNet": "efficientnet_v1",
    "EfficientNet v2": "efficientnet_v2",
    "EfficientNet-Lite": "efficientnet_lite",
    "ResNet": "resnet_v1",
    "ResNet v2": "resnet_v2",
    "ResNet vd": "resnet_vd",
    "DenseNet": "densenet",
    "CSPNet, Darknet": "cspnet",
    "CSPNet, ResNeXt": "csp_resnext",
    "HGNetV2": "hgnetv2_light",
    "VGG": "vgg",
    "Xception": "xception",
    "ViT": "vit",
    "DeiT": "deit",
    "DINOv2": "dinov2",
    "MiT": "mit",
    "Swin": "swin",
}
TEXTS = {
    "BERT": "Bert",
    "DistilBERT": "DistilBert",
    "RoBERTa": "Roberta",
    "XLM-RoBERTa": "XLMRoberta",
    "ALBERT": "Albert",
    "DeBERTa-v3": "DebertaV3",
    "ELECTRA": "Electra",
    "FNet": "FNet",
    "RoFormer-v2": "RoformerV2",
    "GPT-2": "GPT2",
}
FAMILIES, TASKS = IMAGES | TEXTS, {"images": list(IMAGES), "texts": list(TEXTS)}
_LIBRARIES = ("tensorflow", "keras", "keras-hub", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=FORMATS, metavar="FORMAT")
    parser.add_argument("--again", action="store_true", help="measure what was measured already, too")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON lines, a cell each")
    parser.add_argument("--page", type=Path, default=PAGE, help="with the tables' markers")
    options = parser.parse_args()
    code, on = code_version(), machine()
    on["versions"] |= {name: metadata.version(name) for name in _LIBRARIES}
    for family in options.only:
        cells = read_cells(options.results)
        done = [] if options.again else [of for of, cell in cells.items() if cell["code"] == code]
        wanted = [format for format in options.format if (family, format) not in done]
        for cell in cells_of(family, wanted):
            cell = {"family": family, "date": time.strftime("%Y-%m-%d"), "code": code, "machine": on} | cell
            write_cells(options.results, read_cells(options.results) | {(family, cell["format"]): cell})
            note(f"{family}, {cell['format']}: {cell['outcome']} {cell.get('reason', '')}")
    write_page(options.page, read_cells(options.results), TASKS)


def cells_of(family, formats):
    """Yield a cell for each format, as `export_cells.py` prints it; one that ended its process has failed."""
    formats = list(formats)
    with tempfile.TemporaryDirectory() as folder:
        while formats:
            command = [sys.executable, HERE / "export_cells.py", FAMILIES[family], folder, *formats]
            with (
                tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr,
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
            ):
                for line in process.stdout:
                    if line.startswith("{"):
                        yield json.loads(line)
                        formats.pop(0)
                status = process.wait()
                stderr.seek(0)
                lines = [line for line in stderr.read().splitlines() if line.strip()]
            if formats:
                reason = f"its process ended with status {status}: {lines[-1] if lines else 'no output'}"
                yield {"format": formats.pop(0), "outcome": "failed", "reason": reason}


def code_version():
    """A digest of what a cell hangs on: the exporters, the tiny classifiers, the libraries."""
    files = sorted((ROOT / "ktransfer" / "exporting").rglob("*.py"))
    files += [
        file for room in ("image", "text") for file in sorted((ROOT / "ktransfer" / room).rglob("*.py"))
    ]
    files.append(ROOT / "ktransfer" / "quantization" / "layer_sensitivity.py")
    files += [ROOT / "tests" / f"{name}.py" for name in ("zoo", "text_zoo", "trained")]
    digest = hashlib.sha256(repr([metadata.version(name) for name in _LIBRARIES]).encode())
    for file in [*files, HERE / "export_cells.py"]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def read_cells(path):
    """(family, format) -> cell, from a file of JSON lines, the last of each; of no file, none."""
    if not path.is_file():
        return {}
    cells = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {(cell["family"], cell["format"]): cell for cell in cells}


def write_cells(path, cells):
    order = [(family, format) for family in FAMILIES for format in FORMATS]
    lines = (json.dumps(cells[of]) + "\n" for of in order if of in cells)
    write_text(path, "".join(lines))


if __name__ == "__main__":
    main()
