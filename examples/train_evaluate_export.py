"""Do what the command line does in Python: train, evaluate, export, and predict with the result.

python examples/train_evaluate_export.py [FOLDER OF CLASS FOLDERS] [BACKBONE] [RUN FOLDER]

With no arguments it draws a small task and takes the backbone that ktransfer ships.
"""

import sys
import tempfile
from pathlib import Path

import ktransfer
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task


def main(data=None, backbone=PRESET_PATH, out=None):
    scratch = Path(tempfile.mkdtemp())
    data = data or write_target_task(scratch / "things")
    out = out or scratch / "run"

    run = ktransfer.train(data, backbone, out, formats=["onnx"], verbose=0)

    evaluation, split = ktransfer.evaluate(run, data)
    print(f"{split}: accuracy {evaluation.accuracy:.3f}, macro F1 {evaluation.macro.f1:.3f}")

    image = next(path for path in sorted(Path(data).rglob("*")) if path.suffix in (".png", ".jpg"))
    print(image.name, run.predict([image], top_k=2)[0])

    # The same run, opened again as another program would.
    print(ktransfer.Run.load(out).manifest["artifacts"][0]["path"])


if __name__ == "__main__":
    main(*sys.argv[1:])
