"""Adapters against all weights of the same blocks, and pretraining on unlabeled texts against none.

python benchmarks/adapt.py lora [--data snips] [--seeds 3] [--train 120] [--test 300]
python benchmarks/adapt.py pretrain [--budget 8m] [--labels 500]
python benchmarks/adapt.py causal [--epochs 20] [--labels 500]

"lora": of each seed the same examples, solved head, blocks, epochs and batches; once all weights of the blocks
train, once adapters. Nothing is chosen on the test examples: the weights are those of the last epoch. Bytes are those
of the optimizer's variables and of the gradients, which are as large as what trains. "pretrain": a backbone is adapted
to the unlabeled texts, then a classifier is trained by the preset `fast` on few labels, with and without; all seeds
share one adapted backbone. "causal": the same for a small GPT-2 of random weights, whose byte pairs are learned from
the unlabeled texts.
"""

import argparse
import dataclasses
import json
import math
import random
import tempfile
import time
from pathlib import Path

from harness import SHARED, note, refuse, report

MINILM, IMAGES = "minilm_l6_h384_uncased", "mobilenet_v2_100_imagenet"
SOURCES = {"sms_spam": "sms_spam/SMSSpamCollection", "snips": "snips", "flowers": "flowers"}
DEPTH, EPOCHS, RANK = {"sms_spam": 3, "snips": 3, "flowers": 4}, 4, 8
ALL, LORA = "all weights", "adapters"


def subset(examples, count, seed):
    """So many examples, chosen at random."""
    indices = list(range(len(examples)))
    random.Random(seed).shuffle(indices)
    return examples.subset(sorted(indices[:count]))


def network(data, train, recipe):
    """A classifier with its preprocessing, on the pretrained backbone."""
    from ktransfer.core.modality import modality

    name = MINILM if data != "flowers" else IMAGES
    options = (
        {"image_size": 128, "scaling": None, "fast_depthwise": True}
        if name == IMAGES
        else {"sequence_length": None}
    )
    kind = modality("image" if name == IMAGES else "text")
    return kind.network(str(SHARED / "backbones" / name), train, recipe, **options)


def train_once(data, train, test, recipe, store):
    """Accuracy on test after the last epoch, and what trained."""
    from ktransfer.features.cached_features import FrozenFeatures
    from ktransfer.training.fine_tune_cached import fine_tune_cached
    from ktransfer.training.linear_probe import head_score, solve_head

    found = network(data, train, recipe)
    model = found.model
    features = FrozenFeatures(
        model, train, test, recipe, preprocessing=found.preprocessing, store=store, say=note
    )
    solve_head(model, features.pooled(), train.labels)
    head = head_score(model, features.pooled("validation"), test.labels)
    start = time.perf_counter()
    history = fine_tune_cached(model, features, verbose=0)
    seconds = time.perf_counter() - start
    trained = sum(variable.numpy().nbytes for variable in model.trainable_variables)
    # Without adapters, which are no part of the pretrained model.
    whole = sum(v.numpy().nbytes for v in model.weights if not v.name.startswith("lora_"))
    state = sum(variable.numpy().nbytes for variable in model.optimizer.variables)
    return {
        "head": head,
        "accuracy": history["val_accuracy"][-1],
        "trained_share": trained / whole,
        "optimizer_and_gradient_bytes": state + trained,
        "fit_seconds": seconds,
    }


def lora(options):
    """Rows of each data set, seed and recipe."""
    import ktransfer
    from ktransfer.features.store import FeatureStore
    from ktransfer.recipes.default_recipes import with_adapter

    rows = []
    for data in options.data or SOURCES:
        source = SHARED / "data" / SOURCES[data]
        load = (
            ktransfer.load_splits if data == "flowers" else lambda path: ktransfer.load_text_splits(path)[0]
        )
        splits = load(source)
        for seed in range(options.seeds):
            train, test = (
                subset(splits.train, options.train, seed),
                subset(splits.validation, options.test, 0),
            )
            rate = 5e-4 if data == "flowers" else 1e-4
            stage = ktransfer.Stage(
                depth=DEPTH[data], epochs=EPOCHS, learning_rate=rate, warmup=0.5, schedule="cosine"
            )
            recipe = ktransfer.Recipe(
                stages=(stage,),
                batch_size=16,
                augmentation=train.modality.augmentation.none(),
                final_weights="interpolated",
                seed=seed,
            )
            pair = {ALL: recipe, LORA: with_adapter(recipe, ktransfer.LoRA(rank=RANK))}
            with tempfile.TemporaryDirectory() as folder:
                store = FeatureStore(Path(folder))
                for name, each in pair.items():
                    row = {"data": data, "seed": seed, "recipe": name}
                    rows.append(row | train_once(data, train, test, each, store))
                    note(rows[-1])
    report(
        rows,
        train=options.train,
        test=options.test,
        seeds=options.seeds,
        rank=RANK,
        epochs=EPOCHS,
        depth=str({name: DEPTH[name] for name in options.data or SOURCES}),
    )


def causal(options):
    """Perplexity of a small GPT-2 by round, and accuracy on few labels on it and on its random weights."""
    import ktransfer

    rows = []
    for data in options.data or ("snips",):
        splits = ktransfer.load_text_splits(SHARED / "data" / SOURCES[data])[0]
        with tempfile.TemporaryDirectory() as folder:
            path, texts = write_unlabeled(splits, Path(folder, "texts.txt"), options.texts)
            backbone = write_gpt2(texts, Path(folder, "gpt2"), seed=0)
            adapted = ktransfer.pretrain(
                path,
                str(backbone),
                Path(folder, "adapted"),
                epochs=options.epochs,
                learning_rate=1e-3,
                batch_size=16,
                budget=options.budget,
                verbose=0,
                say=note,
            )
            rows += compared(splits, options, Path(folder), data, str(backbone), adapted)
            curve = [round(math.exp(row["held_out"]), 1) for row in adapted.facts["curve"]]
    report(
        rows,
        labels=options.labels,
        texts=options.texts,
        epochs=options.epochs,
        seeds=options.seeds,
        curve=curve,
    )


def write_gpt2(texts, folder, seed):
    """A preset of a GPT-2 of two layers with random weights, and byte pairs of the texts."""
    import keras
    import keras_hub
    from tokenizers import ByteLevelBPETokenizer

    learned = ByteLevelBPETokenizer()
    learned.train_from_iterator(
        texts, vocab_size=2_000, special_tokens=["<|endoftext|>"], show_progress=False
    )
    found = json.loads(learned.to_str())["model"]
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in found["merges"]]
    tokenizer = keras_hub.models.GPT2Tokenizer(vocabulary=found["vocab"], merges=merges)
    keras.utils.set_random_seed(seed)
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=2,
        num_heads=4,
        hidden_dim=128,
        intermediate_dim=512,
        max_sequence_length=64,
    )
    backbone.save_to_preset(str(folder))
    tokenizer.save_to_preset(str(folder))
    return folder


def write_unlabeled(splits, path, count):
    """Write training texts without those of validation, one a line; the file and the texts."""
    from ktransfer.data.examples import normalised

    evaluated = set(map(normalised, splits.validation.inputs))
    texts = [" ".join(text.split()) for text in splits.train.inputs if normalised(text) not in evaluated]
    random.Random(0).shuffle(texts)
    path.write_text("\n".join(texts[:count]) + "\n", encoding="utf-8")
    return path, texts[:count]


def compared(splits, options, folder, data, plain, adapted):
    """Rows of each seed: accuracy on few labels with the plain backbone and with the adapted one."""
    rows = []
    test = subset(splits.validation, options.test, 0)
    before, after = adapted.perplexity
    for seed in range(options.seeds):
        labeled = dataclasses.replace(
            splits, train=subset(splits.train, options.labels, seed), validation=test
        )
        for name, path in {"plain": plain, "pretrained": str(adapted.path)}.items():
            accuracy = classify(labeled, path, seed, folder / f"{name}{seed}")
            rows.append({"data": data, "seed": seed, "recipe": name, "accuracy": accuracy})
            rows[-1] |= {"perplexity_before": before, "perplexity": after}
            note(rows[-1])
    return rows


def pretrain(options):
    """Perplexity, and accuracy on few labels with and without pretraining."""
    import ktransfer

    rows = []
    backbone = str(SHARED / "backbones" / MINILM)
    for data in options.data or ("snips",):
        splits = ktransfer.load_text_splits(SHARED / "data" / SOURCES[data])[0]
        with tempfile.TemporaryDirectory() as folder:
            path, _ = write_unlabeled(splits, Path(folder, "texts.txt"), options.texts)
            adapted = ktransfer.pretrain(
                path,
                backbone,
                Path(folder, "adapted"),
                budget=options.budget,
                batch_size=16,
                verbose=0,
                say=note,
            )
            rows += compared(splits, options, Path(folder), data, backbone, adapted)
    report(rows, labels=options.labels, texts=options.texts, budget=options.budget, seeds=options.seeds)


def classify(splits, backbone, seed, folder):
    """Accuracy of `ktransfer train --preset fast` on validation."""
    import csv

    import ktransfer

    folder.mkdir()
    for name, split in (("train", splits.train), ("val", splits.validation)):
        with Path(folder, f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            rows = zip(split.inputs, split.labels, strict=True)
            csv.writer(file).writerows(
                [("text", "label"), *((t, split.class_names[label]) for t, label in rows)]
            )
    run = ktransfer.train(
        folder,
        backbone,
        folder / "run",
        preset="fast",
        seed=seed,
        formats=(),
        cache_dir=folder / "cache",
        verbose=0,
        say=note,
    )
    return run.manifest["metrics"]["validation"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("lora", "pretrain", "causal"))
    parser.add_argument("--data", action="append", choices=tuple(SOURCES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=120, help="training examples of lora")
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--labels", type=int, default=500, help="labeled texts of pretrain and causal")
    parser.add_argument("--texts", type=int, default=5_000, help="unlabeled texts of pretrain and causal")
    parser.add_argument("--budget", default="20m", help="time of pretrain and causal")
    parser.add_argument("--epochs", type=float, default=20, help="passes of causal over the texts")
    options = parser.parse_args()
    if not (SHARED / "backbones" / MINILM).is_dir():
        refuse(f"Expected presets and data in {SHARED}, got none. Put them there.")
    {"lora": lora, "pretrain": pretrain, "causal": causal}[options.what](options)


if __name__ == "__main__":
    main()
