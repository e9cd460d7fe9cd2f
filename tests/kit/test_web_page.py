"""The page of `export --format web`, in headless Chromium, answers as the Keras model does."""

import json
import shutil

import numpy as np
import pytest
from browser import chromium, complaints, overflow, requests, resize, without_alt
from exporting import CLASSES, KIT, SIZE, between, multi_label_model, small_model
from images import draw
from pages import (
    answers_to_files,
    answers_to_texts,
    hosted,
    open_page,
    require_packages,
    run_script,
    wait_for,
)
from PIL import Image
from text_zoo import write_preset

import ktransfer
from ktransfer.core.task import get_task
from ktransfer.errors import ExportError
from ktransfer.exporting.export_model import ExportOptions, export_model
from ktransfer.image.decoding import Resize, load_image, resize_pixels
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier
from ktransfer.text.tokenizer_texts import NASTY_TEXTS
from ktransfer.utils.files import write_text

MODES, LENGTH = ("crop", "pad", "stretch"), 16
RESIZES = [
    Resize(8, 8, mode, interpolation, antialias)
    for mode in MODES
    for interpolation, antialias in (
        ("bilinear", True),
        ("bilinear", False),
        ("bicubic", True),
        ("lanczos3", True),
        ("nearest", False),
    )
]
# Width and height: smaller, larger, long, tall, and one pixel.
SIZES = [(8, 8), (5, 7), (31, 17), (17, 64), (97, 9), (9, 200), (64, 16), (1, 1), (3, 40)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    require_packages()
    with chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


def write_images(folder):
    """Images of many kinds and sizes, in the formats that browsers and Pillow share."""
    folder.mkdir()
    for seed, size in enumerate([(48, 30), (30, 48), (SIZE, SIZE), (90, 20), (7, 5)]):
        draw(folder / f"rgb{seed}.png", seed=seed, size=size)
    for orientation in range(1, 9):  # of cameras that were held in some way
        exif = Image.Exif()
        exif[0x0112] = orientation
        draw(folder / f"turned{orientation}.jpg", seed=3, size=(60, 40), exif=exif, quality=95)
    picture = Image.open(draw(folder / "base.png", seed=9, size=(50, 40)))
    picture.convert("L").save(folder / "gray.png")
    picture.convert("L").save(folder / "gray.jpg")
    picture.quantize(16).save(folder / "palette.gif")
    picture.save(folder / "lossless.webp", lossless=True)
    picture.save(folder / "windows.bmp")
    clear = picture.convert("RGBA")
    clear.putalpha(Image.fromarray(np.kron([[0, 255], [255, 0]], np.ones((20, 25))).astype("uint8")))
    clear.save(folder / "half_clear.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A hosted page of an image classifier, its files and what the model answers to them."""
    require_packages()
    folder = tmp_path_factory.mktemp("images")
    files = write_images(folder / "files")
    model, preprocessing = small_model(), Preprocessing(Resize(SIZE, SIZE), 1.0, 0.0)
    names = list(map(str, files))
    export_model(
        model, folder / "artifacts", "web", class_names=CLASSES, examples=names, preprocessing=preprocessing
    )
    logits = model.predict(np.float32([load_image(file, preprocessing.resize) for file in names]), verbose=0)
    with hosted(folder) as address:
        yield address, files, get_task("single_label").probabilities(logits)


def by_label(answers, labels=CLASSES):
    return np.array([[dict(each)[label] for label in labels] for each in answers])


def test_image_files_are_answered_as_by_the_model(browser, images):
    address, files, expected = images
    assert open_page(browser, f"{address}/artifacts/web/") == f"Ready: {len(CLASSES)} labels."
    found = by_label(answers_to_files(browser, [f"/files/{file.name}" for file in files]))
    assert np.abs(found - expected).max() < 0.01
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))


def test_a_file_is_chosen_and_shown_with_bars(browser, images):
    address, files, expected = images
    open_page(browser, f"{address}/artifacts/web/")
    browser.find_element("id", "file").send_keys(str(files[0]))
    line = wait_for(browser, lambda line: line.endswith("ms)"))
    best = CLASSES[expected[0].argmax()]
    assert line.startswith(best)
    [first, *_] = rows = browser.find_elements("css selector", "#answers li")
    assert len(rows) == len(CLASSES)
    assert first.text.split("\n")[0].startswith(best)
    widths = browser.execute_script(
        "return [...document.querySelectorAll('.bar')].map(bar => parseFloat(bar.style.width) / 100)"
    )
    assert widths == pytest.approx(sorted(expected[0], reverse=True), abs=1e-4)
    for width in (320, 1280):
        resize(browser, width)
        assert overflow(browser) <= 0
    assert without_alt(browser) == 0
    # LiteRT writes how it starts to the console, and looks for a GPU.
    own = [line for line in complaints(browser) if "/runtime/" not in line and "adapters" not in line]
    assert own == []


def test_a_dropped_image_is_answered_and_another_file_refused_in_one_line(browser, images):
    address, files, expected = images
    open_page(browser, f"{address}/artifacts/web/")
    drop = (
        "const [name, blob] = [given[0], await (await fetch(given[1])).blob()];"
        "const data = new DataTransfer(); data.items.add(new File([blob], name));"
        "document.getElementById('drop').dispatchEvent(new DragEvent('drop', {dataTransfer: data}));"
    )
    run_script(browser, drop, "a.png", f"/files/{files[1].name}")
    line = wait_for(browser, lambda line: line.endswith("ms)"))
    assert line.startswith(CLASSES[expected[1].argmax()])
    run_script(browser, drop, "notes.txt", "/artifacts/labels.txt")
    line = wait_for(browser, lambda line: line.startswith("Expected"))
    assert (
        line
        == "Expected an image, got notes.txt, which this browser cannot decode. Convert it to JPEG or PNG."
    )
    assert browser.find_elements("css selector", "#answers li") == []


def test_two_models_are_loaded_by_one_page(browser, images):
    address, files, expected = images
    open_page(browser, f"{address}/artifacts/web/")
    found = run_script(
        browser,
        "const {load} = await import('./classifier.js'), second = await load();"
        "const {predictions} = await second.image(await (await fetch(given[0])).blob());"
        "return predictions.map(one => [one.label, one.probability]);",
        f"/files/{files[0].name}",
    )
    assert np.abs(by_label([found]) - expected[0]).max() < 0.01


def test_nothing_is_asked_of_another_host(browser, images):
    address, *_ = images
    requests(browser)
    open_page(browser, f"{address}/artifacts/web/")
    assert {url for url in requests(browser) if not url.startswith((address, "blob:"))} == set()


def test_a_page_from_a_file_says_how_to_host_it(browser, images, tmp_path):
    shutil.copy(KIT / "web" / "index.html", tmp_path)
    browser.get((tmp_path / "index.html").as_uri())
    line = browser.find_element("id", "status").text
    assert "`python -m http.server`" in line
    assert "\n" not in line


def test_a_model_that_is_not_on_the_server_is_named(browser, tmp_path):
    for name in ("index.html", "classifier.js"):
        shutil.copy(KIT / "web" / name, tmp_path)
    with hosted(tmp_path) as address:
        line = open_page(browser, f"{address}/")
    assert line == "Expected /facts.json, got status 404. Copy the whole folder to the server."


def test_pixels_are_resized_as_pillow_does_for_every_mode(browser, images):
    address, *_ = images
    open_page(browser, f"{address}/artifacts/web/")
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in SIZES]
    given = [[picture.ravel().tolist(), picture.shape[1], picture.shape[0]] for picture in pictures]
    asked = [
        {key: getattr(each, key) for key in ("height", "width", "mode", "interpolation", "antialias")}
        for each in RESIZES
    ]
    found = run_script(
        browser,
        "const {resized} = await import('./classifier.js'), [pictures, resizes] = given;"
        "return resizes.map(resize => pictures.map(([pixels, width, height]) =>"
        "  Array.from(resized(pixels, width, height, resize))));",
        given,
        asked,
    )
    wrong = [
        (resize, picture.shape)
        for resize, row in zip(RESIZES, found, strict=True)
        for picture, pixels in zip(pictures, row, strict=True)
        if not np.array_equal(
            np.reshape(pixels, (resize.height, resize.width, 3)), resize_pixels(picture, resize)
        )
    ]
    assert wrong == []


def test_several_labels_are_chosen_by_their_thresholds(browser, images, tmp_path):
    _, files, _ = images
    model, task, names = multi_label_model(), get_task("multi_label"), list(map(str, files))
    resize = Resize(SIZE, SIZE)
    probabilities = task.probabilities(
        model.predict(np.float32([load_image(file, resize) for file in names]), verbose=0)
    )
    decision = {"thresholds": between(probabilities)}
    options = {"class_names": CLASSES, "examples": names, "preprocessing": Preprocessing(resize, 1.0, 0.0)}
    export_model(model, tmp_path / "artifacts", "web", task="multi_label", decision=decision, **options)
    shutil.copytree(files[0].parent, tmp_path / "files")
    with hosted(tmp_path) as address:
        open_page(browser, f"{address}/artifacts/web/")
        found = run_script(
            browser,
            "const found = []; for (const name of given[0]) {"
            "  const answer = await classifier.image(await (await fetch(name)).blob());"
            "  found.push(answer.predictions.filter(one => one.chosen).map(one => one.label).sort()); } return found;",
            [f"/files/{file.name}" for file in files],
        )
    decided = task.decide(probabilities, decision)
    assert found == [
        sorted(label for label, chosen in zip(CLASSES, row, strict=True) if chosen) for row in decided
    ]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A hosted page of a text classifier, with the model and its preprocessing."""
    require_packages()
    folder = tmp_path_factory.mktemp("texts")
    backbone, preset = write_preset("Bert", folder)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=LENGTH)
    model = build_text_classifier(backbone, len(CLASSES), preprocessing)
    options = {
        "class_names": CLASSES,
        "examples": ["the quick brown fox", "you"],
        "preprocessing": preprocessing,
    }
    export_model(model, folder / "artifacts", "web", **options)
    with hosted(folder) as address:
        yield address, model, preprocessing


def test_texts_are_answered_as_by_the_model(browser, texts):
    address, model, preprocessing = texts
    assert open_page(browser, f"{address}/artifacts/web/") == f"Ready: {len(CLASSES)} labels."
    given = [*NASTY_TEXTS, "fox " * 200]
    # Selenium's own JSON has no halves of surrogate pairs.
    given = [text for text in given if text.encode("utf-8", "replace").decode() == text]
    found = by_label(answers_to_texts(browser, given))
    expected = get_task("single_label").probabilities(model.predict_on_batch(preprocessing(given)))
    assert np.abs(found - expected).max() < 1e-4
    ids = run_script(browser, "return given[0].map(text => classifier.ids(text))", given)
    assert ids == [row.tolist() for row in preprocessing.tokenize(given)]
    assert (
        run_script(browser, "return classifier.ids('\\ud800')") == preprocessing.tokenize(["?"])[0].tolist()
    )


def test_a_text_is_typed_and_answered(browser, texts):
    address, model, preprocessing = texts
    open_page(browser, f"{address}/artifacts/web/")
    browser.find_element("id", "text").send_keys("the quick fox")
    browser.find_element("id", "ask").click()
    line = wait_for(browser, lambda line: line.endswith("ms)"))
    logits = model.predict_on_batch(preprocessing(["the quick fox"]))
    assert line.startswith(CLASSES[logits[0].argmax()])
    assert not browser.find_element("id", "images").is_displayed()


def test_images_in_bytes_and_models_that_tflite_lacks_are_answered(browser, images, tmp_path, monkeypatch):
    """By LiteRT from uint8, and by ONNX Runtime."""
    _, files, _ = images
    names, model = list(map(str, files)), small_model()
    logits = model.predict(np.float32([load_image(file, Resize(SIZE, SIZE)) for file in names]), verbose=0)
    expected = get_task("single_label").probabilities(logits)
    plain = {
        "class_names": CLASSES,
        "examples": names,
        "preprocessing": Preprocessing(Resize(SIZE, SIZE), 1.0, 0.0),
    }
    options = ExportOptions(uint8=True)
    export_model(model, tmp_path / "bytes" / "artifacts", "web", options=options, **plain)
    assert (tmp_path / "bytes" / "artifacts" / "web" / "model.tflite").exists()

    def refuse(*_, **__):
        raise ExportError("Expected an operation of TFLite, got another. Choose another backbone.")

    monkeypatch.setattr("ktransfer.exporting.web.exporter.write_tflite", refuse)
    for name, asked in (("plain", ExportOptions()), ("plain_bytes", options)):
        export_model(model, tmp_path / name / "artifacts", "web", options=asked, **plain)
        folder = tmp_path / name / "artifacts" / "web"
        assert (folder / "model.onnx").exists()
        assert not list(folder.rglob("*litert*"))
    shutil.copytree(files[0].parent, tmp_path / "files")
    with hosted(tmp_path) as address:
        for name in ("bytes", "plain", "plain_bytes"):
            open_page(browser, f"{address}/{name}/artifacts/web/")
            found = by_label(answers_to_files(browser, [f"/files/{file.name}" for file in files]))
            assert np.abs(found - expected).max() < 0.01


def test_what_the_page_cannot_read_is_refused_before_converting(tmp_path, monkeypatch):
    file = draw(tmp_path / "a.png")
    sharp = Preprocessing(Resize(SIZE, SIZE, "crop", "bicubic", False), 1.0, 0.0)
    options = {"class_names": CLASSES, "examples": [file]}
    with pytest.raises(ExportError, match="bicubic without antialias"):
        export_model(small_model(), tmp_path / "artifacts", "web", preprocessing=sharp, **options)
    monkeypatch.setenv("NODE_PATH", "")
    monkeypatch.setattr("ktransfer.exporting.web.packages._MODULES", "no_modules")
    plain = Preprocessing(Resize(SIZE, SIZE), 1.0, 0.0)
    with pytest.raises(ExportError, match="npm install @litertjs/core@") as raised:
        export_model(small_model(), tmp_path / "artifacts", "web", preprocessing=plain, **options)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "artifacts").glob("*"))


def test_a_page_weighs_less_than_15_mb_without_its_model(browser, images, texts):
    for address, *_ in (images, texts):
        requests(browser)
        open_page(browser, f"{address}/artifacts/web/")
        loaded = {url for url in requests(browser) if url.startswith(address)}
        sizes = run_script(
            browser,
            "const sizes = {}; for (const url of given[0]) {"
            "  sizes[url] = (await (await fetch(url)).arrayBuffer()).byteLength; } return sizes;",
            sorted(loaded),
        )
        models = [url for url in sizes if url.endswith((".onnx", ".tflite"))]
        assert len(models) == 1
        assert len([url for url in sizes if url.endswith(".wasm")]) == 1
        assert sum(sizes.values()) - sizes[models[0]] < 15e6


@pytest.mark.slow
def test_photographs_are_answered_as_by_the_model(browser, flowers, mobilenet_preset, tmp_path):
    run = ktransfer.train(
        flowers, str(mobilenet_preset), tmp_path / "run", epochs=0, preset="fast", formats=["web"], verbose=0
    )
    photographs = sorted((flowers / "val").rglob("*.jpg"))[:100]
    (tmp_path / "photographs").mkdir()
    for place, photograph in enumerate(photographs):
        shutil.copy(photograph, tmp_path / "photographs" / f"{place}.jpg")
    expected = run.predict_probabilities(photographs)
    with hosted(tmp_path) as address:
        open_page(browser, f"{address}/run/artifacts/web/")
        names = [f"/photographs/{place}.jpg" for place in range(len(photographs))]
        found = by_label(answers_to_files(browser, names), run.labels)
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    assert np.abs(found - expected).max() < 0.01


@pytest.mark.slow
def test_messages_are_answered_as_by_the_model(browser, sms_spam, minilm, tmp_path):
    lines = sms_spam.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t", 1) for line in lines[:600]]
    write_text(
        tmp_path / "messages.csv",
        "label,text\n" + "".join(f'{label},"{text.replace(chr(34), chr(34) * 2)}"\n' for label, text in rows),
    )
    run = ktransfer.train(
        tmp_path / "messages.csv",
        str(minilm),
        tmp_path / "run",
        epochs=0,
        preset="fast",
        formats=["web"],
        verbose=0,
    )
    messages = [line.split("\t", 1)[1] for line in lines[-200:]]
    expected = run.predict_probabilities(messages)
    with hosted(tmp_path) as address:
        open_page(browser, f"{address}/run/artifacts/web/")
        found = by_label(answers_to_texts(browser, messages), run.labels)
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    assert np.abs(found - expected).max() < 0.01
    facts = json.loads((run.path / "artifacts" / "web" / "facts.json").read_text(encoding="utf-8"))
    assert facts["tokenizer"]["compared_texts"] > 100
