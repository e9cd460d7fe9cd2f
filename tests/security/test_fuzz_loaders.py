"""Damaged files of every kind that a stranger may send: each loads, or is an error that says how to mend it.

`pytest -m slow tests/security/test_fuzz_loaders.py -s` does over 10,000 cases and prints how many.
"""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path

import images as drawn
import numpy as np
import pytest
import text_zoo
import zoo
from fuzzing import SMALL, Watch, damaged_bytes, damaged_trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktransfer.audit.exclusions import read_exclusions
from ktransfer.commands.artifacts import artifacts
from ktransfer.commands.splits import read_splits
from ktransfer.data.modality import find_modality
from ktransfer.errors import KTransferError
from ktransfer.exporting.artifact import Artifact
from ktransfer.exporting.parity import Parity
from ktransfer.exporting.processes.ipc import receive, send
from ktransfer.features.store import FeatureStore
from ktransfer.image.backbones import load_backbone
from ktransfer.image.classifier import build_classifier
from ktransfer.image.decoding import Resize, load_image
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.run import Run
from ktransfer.text.backbones import load_text_backbone, load_text_preprocessing
from ktransfer.text.preprocessing import TextPreprocessing
from ktransfer.training.best_weights import BestWeights

LABELS = ["daisy", "rose", "tulip"]
PICTURES = ("png", "jpg", "gif", "webp", "bmp", "tif", "jp2", "avif", "ppm", "ico", "tga", "dib")
PREPROCESSING = Preprocessing(Resize(16, 16), 1 / 255, 0.0)
PARITY = Parity(1e-7, 1e-8, 2e-6, 3.0, 1.0, 8, (1, 8), 0.2, 0.2)
TENSOR = {"name": "image", "shape": [None, 16, 16, 3], "dtype": "float32"}


@pytest.fixture(scope="module")
def watch(tmp_path_factory):
    return Watch(tmp_path_factory.mktemp("watched"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What is damaged: small, and made by the code that makes it for people."""
    folder, found = tmp_path_factory.mktemp("real"), {}
    recipe = Recipe(stages=[Stage(depth=1, epochs=2, learning_rate=1e-3)])
    data = folder / "data"
    for label in LABELS[:2]:
        (data / label).mkdir(parents=True)
        for index in range(3):
            drawn.draw(data / label / f"{index}.png", seed=index)
    signature = {"inputs": [TENSOR], "output": TENSOR}
    run = Run.create(
        folder / "run",
        {
            "status": "trained",
            "task": "image-classification",
            "labels": LABELS,
            "preprocessing": PREPROCESSING.to_dict(),
            "backbone": {"name": "x", "fast_depthwise": True},
            "recipe": json.loads(recipe.to_json()),
            "formats": ["onnx"],
            "artifacts": [
                Artifact("onnx", "artifacts/m.onnx", "9f", 10, signature, "dynamic", PARITY).to_dict()
            ],
            "data": {
                "source": str(data),
                "validation": None,
                "validation_fraction": 0.5,
                "data_dir": None,
                "exclude": None,
                "skip_corrupt": False,
            },
        },
    )
    found["manifest"], found["recipe"] = run.manifest, run.manifest["recipe"]
    model = build_classifier(zoo.vgg(), 3, Preprocessing(Resize(zoo.SIZE, zoo.SIZE), 1 / 255, 0.0))
    run.save_model(model)
    found["keras"] = (run.path / "model.keras").read_bytes()
    for family in ("Bert", "GPT2", "Albert"):
        (folder / family).mkdir()
        backbone, preset = text_zoo.write_preset(family, folder / family)
        load_text_preprocessing(preset, backbone).save(folder / family / "tokenizer")
        found[family] = _read(folder / family / "tokenizer")
        found[f"{family}-preset"] = _read(folder / family / "preset")
    zoo.resnet().save_to_preset(str(folder / "preset"))
    converter = {"module": "keras_hub.src.models.resnet.resnet_image_converter"}
    converter |= {"class_name": "ResNetImageConverter", "config": {"image_size": [16, 16]}}
    converter |= {"registered_name": "keras_hub>ResNetImageConverter"}
    (folder / "preset" / "image_converter.json").write_text(json.dumps(converter))
    found["preset"] = _read(folder / "preset")
    best = BestWeights(rising=True, path=folder / "best.npz")
    best.offer(0.5, model.variables[:2], "epoch 1")
    found["npz"] = (folder / "best.npz").read_bytes()
    for suffix in PICTURES:
        found[suffix] = Path(drawn.draw(folder / f"a.{suffix}", seed=1)).read_bytes()
    store = FeatureStore(folder / "store")
    store.write("key", (4, 3), "float32", [np.ones((4, 3), "float32")], {"cut": "head"})
    found["store"] = _read(folder / "store" / "key")
    message = io.BytesIO()
    send(message, (["a"], {"image": np.ones((2, 3)), "text": np.array([b"x"], object)}))
    found["message"] = message.getvalue()
    return found


def _read(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }


def _write(folder, contents):
    """The folder holds these and nothing else; never deleted whole, which would take longer than a load."""
    folder.mkdir(exist_ok=True)
    for file in folder.rglob("*"):
        if file.is_file() and file.relative_to(folder).as_posix() not in contents:
            file.unlink()
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def dumped(tree):
    return json.dumps(tree).encode()


@st.composite
def one_damaged(draw, contents, *, skipped=(), strange=SMALL):
    """A folder's files, one of which is damaged: by its values if it is JSON, else by its bytes."""
    name = draw(st.sampled_from(sorted(set(contents) - set(skipped))))
    if name.endswith(".json") and draw(st.booleans()):
        return contents | {name: dumped(draw(damaged_trees(json.loads(contents[name]), strange)))}
    return contents | {name: draw(damaged_bytes(contents[name]))}


@st.composite
def damaged_archives(draw, content):
    """A `.keras` file: its bytes, its configuration or its members."""
    kind = draw(st.sampled_from(("bytes", "config", "members")))
    if kind == "bytes":
        return draw(damaged_bytes(content))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    if kind == "config":
        parts["config.json"] = dumped(draw(damaged_trees(json.loads(parts["config.json"]), SMALL)))
    else:
        name = draw(st.sampled_from(sorted(parts)))
        other = draw(st.sampled_from(("../escaped", "/escaped", "assets/../../escaped", "assets/x", name)))
        parts[other] = parts.pop(name) if draw(st.booleans()) else draw(damaged_bytes(parts[name]))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return made.getvalue()


def a_manifest(folder, manifest):
    run = Run.load(_write(folder / "run", {"manifest.json": dumped(manifest)}))
    for look in (lambda: (run.labels, run.task), lambda: run.preprocessing, lambda: run.recipe):
        with contextlib.suppress(KTransferError):
            look()
    with contextlib.suppress(KTransferError):
        artifacts(run)
    read_splits(run.manifest.get("data", {}), run.recipe.seed)


def a_model(folder, content):
    manifest = {"format": 1, "labels": LABELS, "status": "trained", "recipe": {}, "preprocessing": {}}
    run = Run.load(_write(folder / "model", {"manifest.json": dumped(manifest), "model.keras": content}))
    run.model  # noqa: B018


def a_text_preset(folder, contents):
    path = str(_write(folder / "text_preset", contents))
    load_text_preprocessing(path, load_text_backbone(path))


def an_image(folder, given):
    suffix, content, mode = given
    path = _write(folder / "image", {f"a.{suffix}": content}) / f"a.{suffix}"
    load_image(path, Resize(8, 8, mode=mode))


def a_table(folder, given):
    name, content, encoding = given
    path = _write(folder / "table", {name: content, "1.png": b"", "2.png": b""}) / name
    find_modality(path).read(path, encoding=encoding)


def a_store(folder, contents):
    store = FeatureStore(folder / "store")
    _write(folder / "store", {f"key/{name}": content for name, content in contents.items()})
    store.entries()
    rows = store.open("key")
    if rows is not None and len(rows):
        rows.read(np.array([0]))


def a_message(folder, content):
    with contextlib.suppress(EOFError, ValueError):  # told by who receives
        receive(io.BytesIO(content))


CSV = b'text,label\n"Free, entry!",spam\nSee you at six.,ham\n"Win ""now""",spam\n'
SETS = b'file,labels,who\n1.png,"[\'a\', \'b\']",x\n2.png,[],y\n1.png,"[""b"", 3]",x\n'
HOT = b"text,joy,anger\nFree entry!,1,0\nSee you at six.,0,0\nWin,1,1\n"
LINES = b'{"file": "1.png", "tags": ["a", "b"]}\n{"file": "./2.png", "tags": []}\n{"file": "1.png"}\n'
JSONL = b'{"text": "Free entry!", "label": "spam"}\n{"text": "caf\\u00e9", "label": "ham"}\n'


def parquet():
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": ["a b", "c d", "e"], "label": ["x", "y", "x"]}), sink)
    return sink.getvalue()


def tables():
    tables = {"a.csv": CSV, "a.tsv": CSV.replace(b",", b"\t"), "a.jsonl": JSONL, "a.parquet": parquet()}
    tables |= {"a": CSV.replace(b",", b"|"), "a.json": b'{"text": ["a", "b"], "label": {"0": 1, "1": 2}}'}
    tables |= {"a.csv.gz": gzip.compress(CSV), "a.tsv.bz2": bz2.compress(CSV), "a.csv.xz": lzma.compress(CSV)}
    tables |= {"sets.csv": SETS, "hot.csv": HOT, "lines.jsonl": LINES, "sets.csv.gz": gzip.compress(SETS)}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.csv", CSV)
    tables["a.csv.zip"] = archive.getvalue()
    encodings = st.sampled_from(
        (None, None, None, "utf-16", "latin-1", "punycode", "zlib_codec", "idna", "\0")
    )
    named = [st.tuples(st.just(name), damaged_bytes(content), encodings) for name, content in tables.items()]
    return st.one_of(*named)


def pictures(files):
    modes = st.sampled_from(("crop", "pad", "stretch"))
    return st.one_of(
        *(st.tuples(st.just(suffix), damaged_bytes(files[suffix]), modes) for suffix in PICTURES)
    )


# Name: (what is damaged, what loads it, cases by default, cases of the slow run).
LOADERS = {
    "manifest": (lambda files: damaged_trees(files["manifest"]), a_manifest, 60, 2_500),
    "manifest bytes": (
        lambda files: damaged_bytes(dumped(files["manifest"])),
        lambda folder, content: Run.load(_write(folder / "run", {"manifest.json": content})),
        20,
        1_000,
    ),
    "recipe": (
        lambda files: damaged_trees(files["recipe"]),
        lambda folder, tree: Recipe.from_json(dumped(tree)),
        40,
        1_000,
    ),
    "recipe bytes": (
        lambda files: damaged_bytes(dumped(files["recipe"])),
        lambda folder, content: Recipe.from_json(content),
        20,
        500,
    ),
    "model": (lambda files: damaged_archives(files["keras"]), a_model, 20, 1_200),
    **{
        f"tokenizer of {family}": (
            lambda files, family=family: one_damaged(files[family]),
            lambda folder, contents: TextPreprocessing.load(_write(folder / "tokenizer", contents)),
            15,
            500,
        )
        for family in ("Bert", "GPT2", "Albert")
    },
    "image preset": (
        lambda files: one_damaged(files["preset"]),
        lambda folder, contents: load_backbone(str(_write(folder / "preset", contents))),
        8,
        300,
    ),
    "text preset": (lambda files: one_damaged(files["Bert-preset"]), a_text_preset, 6, 300),
    "best weights": (
        lambda files: damaged_bytes(files["npz"]),
        lambda folder, content: BestWeights(
            rising=True, path=_write(folder / "best", {"best.npz": content}) / "best.npz"
        ),
        20,
        500,
    ),
    "images": (pictures, an_image, 40, 1_500),
    "tables": (lambda files: tables(), a_table, 60, 1_500),
    "exclusions": (
        lambda files: damaged_bytes(b"# list\nleak\ta/1.jpg\nduplicate\tb\\\\n\\n.jpg\n"),
        lambda folder, content: read_exclusions(_write(folder / "x", {"x.txt": content}) / "x.txt"),
        15,
        400,
    ),
    "features": (lambda files: one_damaged(files["store"]), a_store, 20, 600),
    "messages": (lambda files: damaged_bytes(files["message"]), a_message, 20, 500),
}


def fuzz(watch, damaged, load, count):
    @settings(
        max_examples=count,
        deadline=None,  # the watch has one, which is told apart from a slow machine's drawing
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged)
    def case(value):
        with watch.load(), contextlib.suppress(KTransferError):
            load(watch.inside, value)

    case()


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.filterwarnings("ignore")
def test_what_is_damaged_loads_or_is_an_error_that_a_user_can_mend(name, files, watch):
    damage, load, count, _ = LOADERS[name]
    fuzz(watch, damage(files), load, count)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ten_thousand_damaged_files(files, tmp_path, capsys):
    watch = Watch(tmp_path)
    for name, (damage, load, _, count) in LOADERS.items():
        before = watch.cases
        fuzz(watch, damage(files), load, count)
        with capsys.disabled():
            print(f"{name:<20}{watch.cases - before:>7,} cases")  # noqa: T201
    with capsys.disabled():
        print(f"{watch.cases:,} cases, none over {watch.slowest:.2f} s")  # noqa: T201
    assert watch.cases >= 10_000
