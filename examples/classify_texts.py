"""From a table of texts to a classifier, and to its ONNX file asked with neither Keras nor ktransfer.

python examples/classify_texts.py TABLE BACKBONE [RUN FOLDER]

TABLE is CSV, TSV, JSON lines or Parquet with a column of texts and one of labels; BACKBONE a keras-hub preset
such as bert_tiny_en_uncased, or the folder of one.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import tokenizers

import ktransfer


def main(table, backbone, out=None):
    out = Path(out or Path(tempfile.mkdtemp()) / "run")
    run = ktransfer.train(table, backbone, out, formats=["onnx"], verbose=0)

    text = "Free entry! Text WIN to 80086 now"
    print("model", run.predict([text], top_k=1)[0][0])

    # The same as another program would: ids by tokenizer.json, probabilities by ONNX Runtime.
    facts = run.manifest["tokenizer"]
    encoding = tokenizers.Tokenizer.from_file(str(out / facts["path"])).encode(text)
    ids = {name: np.array([getattr(encoding, field)], "int32") for name, field in facts["inputs"].items()}
    session = onnxruntime.InferenceSession(out / "artifacts" / "model.onnx")
    probabilities = session.run(["probabilities"], ids)[0][0]
    best = probabilities.argmax()
    print("onnx ", {"label": run.labels[best], "probability": float(probabilities[best])})


if __name__ == "__main__":
    main(*sys.argv[1:])
