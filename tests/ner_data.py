"""Sentences with entities that a tiny model can learn, as files."""

import numpy as np

PEOPLE, PLACES = ("fox", "brown fox"), ("café", "cafe")


def sentences(count=90, seed=0):
    """`(words, tags)` of each: a fox is a person, a café a place; every fifth has neither."""
    random = np.random.default_rng(seed)
    found = []
    for index in range(count):
        words = [(word, "O") for word in random.choice(["the", "quick", "you", "a"], random.integers(2, 7))]
        for kind, names in (("PER", PEOPLE), ("LOC", PLACES)):
            if index % 5 and random.random() < 0.7:
                first, *rest = names[random.integers(len(names))].split()
                tagged = [(first, f"B-{kind}"), *((word, f"I-{kind}") for word in rest)]
                place = int(random.integers(len(words) + 1))
                # Not within another entity.
                while place < len(words) and words[place][1].startswith("I"):
                    place += 1
                words[place:place] = tagged
        words.append((str(index), "O"))
        found.append(tuple(zip(*words, strict=True)))
    return found


def write_conll(path, found, separator="\t"):
    lines = ["\n".join(f"{w}{separator}{t}" for w, t in zip(*each, strict=True)) for each in found]
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_folder(folder, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    rows = sentences(150, seed)
    write_conll(folder / "train.conll", rows[:90])
    write_conll(folder / "dev.conll", rows[90:120])
    write_conll(folder / "test.conll", rows[120:])
    return folder
