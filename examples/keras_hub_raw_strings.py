"""keras-hub's TextClassifier on raw strings, with `ProgressiveUnfreezing` in its own `fit`.

python examples/keras_hub_raw_strings.py [PRESET]

PRESET is a name that keras-hub can load, such as "bert_tiny_en_uncased"; with none a tiny random BERT is made.
"""

import sys

import keras
import keras_hub
import numpy as np

import ktransfer

GOOD = ["a lovely film", "great fun and well made", "I loved every minute", "a joy to watch"]
BAD = ["a dull film", "no fun and badly made", "I hated every minute", "a pain to watch"]


def tiny():
    words = sorted({word for text in GOOD + BAD for word in text.lower().split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(vocabulary), num_layers=2, num_heads=2, hidden_dim=32, intermediate_dim=64
    )
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=vocabulary, lowercase=True)
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=12)
    return keras_hub.models.BertTextClassifier(backbone, num_classes=2, preprocessor=preprocessor)


def main(preset=None):
    keras.utils.set_random_seed(0)
    make = keras_hub.models.TextClassifier.from_preset
    classifier = make(preset, num_classes=2) if preset else tiny()
    texts, labels = np.array((GOOD + BAD) * 8), np.array(([1] * len(GOOD) + [0] * len(BAD)) * 8)
    classifier.compile(
        keras.optimizers.AdamW(5e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    unfreezing = ktransfer.ProgressiveUnfreezing(classifier.backbone)
    history = classifier.fit(texts, labels, batch_size=16, epochs=6, callbacks=[unfreezing], verbose=2)
    print("stages", history.history["stage"], "accuracy", round(history.history["accuracy"][-1], 3))


if __name__ == "__main__":
    main(*sys.argv[1:])
