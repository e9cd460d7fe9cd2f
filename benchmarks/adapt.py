"""Adapters against all weights of the same blocks, and pretraining on unlabeled texts against none.

python benchmarks/adapt.py lora [--data snips] [--seeds 3] [--train 120] [--test 300]
python benchmarks/adapt.py pretrain [--budget 8m] [--labels 500]

"lora": of each seed the same examples, solved head, blocks, epochs and batches; once all weights of the blocks
train, once adapters. Nothing is chosen on the test examples: the weights are those of the last epoch. Bytes are those
of the optimizer's variables and of the gradients, which are as large as what trains. "pretrain": a backbone is adapted
to the unlabeled texts, then a classifier is trained by the preset `fast` on few labels, with and without; all seeds
share one adapted backbone.
"""

import argparse
import dataclasses
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


def pretrain(options):
    """Perplexity, and accuracy on few labels with and without pretraining."""
    import ktransfer
    from ktransfer.data.examples import normalised

    rows = []
    backbone = str(SHARED / "backbones" / MINILM)
    for data in options.data or ("snips",):
        splits = ktransfer.load_text_splits(SHARED / "data" / SOURCES[data])[0]
        test = subset(splits.validation, options.test, 0)
        evaluated = set(map(normalised, splits.validation.inputs))
        with tempfile.TemporaryDirectory() as folder:
            texts = [
                " ".join(text.split()) for text in splits.train.inputs if normalised(text) not in evaluated
            ]
            random.Random(0).shuffle(texts)
            path = Path(folder, "texts.txt")
            path.write_text("\n".join(texts[: options.texts]) + "\n", encoding="utf-8")
            adapted = ktransfer.pretrain(
                path,
                backbone,
                Path(folder, "adapted"),
                budget=options.budget,
                batch_size=16,
                verbose=0,
                say=note,
            )
            before, after = adapted.perplexity
            for seed in range(options.seeds):
                labeled = dataclasses.replace(
                    splits, train=subset(splits.train, options.labels, seed), validation=test
                )
                for name, path in {"plain": backbone, "pretrained": str(adapted.path)}.items():
                    accuracy = classify(labeled, path, seed, Path(folder, f"{name}{seed}"))
                    rows.append({"data": data, "seed": seed, "recipe": name, "accuracy": accuracy})
                    rows[-1] |= {"perplexity_before": before, "perplexity": after}
                    note(rows[-1])
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
    return run.manifest["metrics"]["validation"]["accuracy"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("lora", "pretrain"))
    parser.add_argument("--data", action="append", choices=tuple(SOURCES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=120, help="training examples of lora")
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--labels", type=int, default=500, help="labeled texts of pretrain")
    parser.add_argument("--texts", type=int, default=5_000, help="unlabeled texts of pretrain")
    parser.add_argument("--budget", default="20m", help="time of pretrain")
    options = parser.parse_args()
    if not (SHARED / "backbones" / MINILM).is_dir():
        refuse(f"Expected presets and data in {SHARED}, got none. Put them there.")
    {"lora": lora, "pretrain": pretrain}[options.what](options)


if __name__ == "__main__":
    main()
