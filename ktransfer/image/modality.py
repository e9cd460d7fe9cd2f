"""Images as a `Modality`. What a method needs is imported in it: most callers want but one of them."""

import os


class ImageModality:
    """Image files: a path each, pixels for the backbone. See `Modality` for what its methods promise."""

    name, kind, task, noun = "image", "file", "image-classification", "images"
    holder, raw = "folder", "as image files"
    content, near_before_training = "path", True
    wide_cards = False
    options = ("image_size", "scaling", "skip_corrupt", "file_column")
    columns = ("file_column", "label_column", "group_column", "label_separator", "task", "encoding")
    facts = ("skip_corrupt",)
    export_options = frozenset({"any_size", "uint8"})

    def identity(self, content):
        return os.path.realpath(content)

    def content_keys(self, inputs):
        from ktransfer.data.file_digests import content_keys

        return content_keys(inputs)

    def digests(self, inputs):
        from ktransfer.data.file_digests import digests

        return map(os.path.basename, inputs), digests(inputs)

    def load_preprocessing(self, run):
        from ktransfer.errors import RunError
        from ktransfer.image.preprocessing import Preprocessing

        try:
            return Preprocessing.from_dict(run.manifest["preprocessing"])
        except (TypeError, ValueError, KeyError) as error:
            raise RunError(
                f"How images are read was expected in {run.path / 'manifest.json'}. Received: {error}. Train again."
            ) from error

    def serving(self, model, class_names, examples, preprocessing):
        from ktransfer.image.serving import serve_images

        return serve_images(model, class_names, examples, preprocessing)

    def as_asked(self, serving, *, any_size, uint8):
        from ktransfer.image.serving import in_uint8, of_any_size

        serving = of_any_size(serving) if any_size else serving
        return in_uint8(serving) if uint8 else serving

    def saved_model_signatures(self, serving, serve, *, default, module):
        from ktransfer.image.in_graph.signatures import file_signatures

        return {default: serve, **(file_signatures(serving) if serving.files else {})}

    def described_signatures(self, serving, signature):
        from ktransfer.image.file_parity import FILE, PIXEL_FILE, PIXELS

        resize = serving.preprocessing.resize
        pixels = {"name": "pixels", "shape": [None, resize.height, resize.width, 3], "dtype": "float32"}
        return {
            **signature,
            FILE.name: {"inputs": [FILE.describe({})], "output": signature["output"]},
            PIXELS: {"inputs": [PIXEL_FILE.describe({})], "output": pixels},
        }

    def sequence(self, serving, fixed):
        return None

    def raw_parity(self, artefact, serving, format, labels):
        from ktransfer.image.file_parity import measure_file_parity, measure_size_parity

        measure = measure_file_parity if format == "savedmodel" else measure_size_parity
        return measure(artefact, serving, labels), None

    def check_raw_parity(self, parity, format, tolerance):
        from ktransfer.image.file_parity import LIMITS

        # A pixel may differ by a grey level, which `FilesRead.check` holds; so labels count.
        parity.check_labels(f"{format} (image files)", **LIMITS)

    def files_read(self, artefact, serving):
        from ktransfer.image.file_parity import measure_pixels

        return measure_pixels(artefact, serving)

    def load_splits(self, source, *, task=None, **options):
        from ktransfer.data.tasks import read_as
        from ktransfer.image.sources import load_image_splits

        return read_as(load_image_splits, source, task=task, **options)

    def read(self, data, *, class_names=None, data_dir=None, **columns):
        from ktransfer.data.tasks import read_as
        from ktransfer.image.sources import read_images

        columns = {name: columns.get(name) for name in (*self.columns, "group_by")}
        return read_as(read_images, data, class_names=class_names, data_dir=data_dir, **columns)

    def group_hint(self, examples):
        from ktransfer.data.groups import suggest_groups

        return suggest_groups(examples.inputs, examples.label_names)

    def readable(self, examples, facts, progress=None):
        from ktransfer.image.checks import require_readable

        return require_readable(examples, skip_corrupt=facts["skip_corrupt"], progress=progress)

    def reads_as_missing(self, name):
        return False  # a folder was given its name by somebody

    def written_beside(self, manifest):
        return []

    def write_beside(self, preprocessing, folder, examples):
        return {}, ()

    def network(
        self,
        name,
        examples,
        recipe,
        *,
        random_weights=False,
        image_size=None,
        scaling=None,
        fast_depthwise=True,
        **others,
    ):
        from ktransfer.image.network import image_network

        return image_network(
            name,
            len(examples.class_names),
            recipe,
            random_weights=random_weights,
            image_size=image_size,
            scaling=scaling,
            fast_depthwise=fast_depthwise,
        )

    def default_recipe(self, *, examples, **options):
        from ktransfer.image.default_recipe import image_recipe

        return image_recipe(images=examples, **options)

    def examine(self, items, *, workers=None, progress=None):
        from ktransfer.image.audit_checks import examine_images

        return examine_images(items, workers=workers, progress=progress)

    def item_keys(self, root):
        from ktransfer.image.audit_checks import path_below

        # Files that a table names lie below its folder.
        root = os.path.dirname(os.path.abspath(root)) if root and os.path.isfile(root) else root
        return lambda path, label: path_below(path, root)

    def shown(self, content):
        from ktransfer.data.examples import printable

        return printable(content)

    def title(self, item):
        return self.shown(item.key)

    def named(self, item):
        return self.shown(item.key)

    def as_html(self, content):
        from ktransfer.image.thumbnails import audit_picture

        return audit_picture(content)

    @property
    def augmentation(self):
        from ktransfer.image.augmentation import Augmentation

        return Augmentation

    def find_inputs(self, inputs, *, encoding=None, **columns):
        from ktransfer.image.inputs import find_images

        self._refuse_encoding(encoding)
        return find_images(inputs)

    def check_inputs(self, inputs, *, encoding=None):
        from ktransfer.image.inputs import find_images

        self._refuse_encoding(encoding)
        find_images(inputs, decode=False)

    def _refuse_encoding(self, encoding):
        from ktransfer.errors import DataError

        if encoding is not None:
            raise DataError(f"Expected images without --encoding, got --encoding {encoding}. Leave it out.")

    def check_backbone_name(self, name, *, scaling=None):
        from ktransfer.image.backbone_names import check_image_backbone_name

        check_image_backbone_name(name, scaling=scaling)

    def by_name(self, inputs):
        from ktransfer.image.serving import INPUT

        return {INPUT: inputs}

    def prove_beside(self, path, serving):
        pass  # nothing was written

    def reads(self, preprocessing):
        return f"images of {preprocessing['height']} x {preprocessing['width']} pixels"

    def card(self, content, *, picture):
        from ktransfer.image.report import image_card

        return image_card(content, picture=picture)

    def explained(self, run, answers, card_of):
        from ktransfer.image.report import explained_images

        return explained_images(run, answers, card_of)

    def save_preprocessing(self, preprocessing, run):
        pass  # the manifest holds all of it

    @property
    def fine_tuning(self):
        from ktransfer.image.default_recipe import FINE_TUNING

        return FINE_TUNING

    @property
    def suffixes(self):
        from ktransfer.image.decoding import IMAGE_EXTENSIONS

        return IMAGE_EXTENSIONS

    def published_backbones(self):
        import keras_hub

        return keras_hub.models.ImageClassifier.presets | keras_hub.models.DINOV2Backbone.presets

    def asked_augmentation(self, options):
        return None  # the recipe has it; no option says how strong


MODALITY = ImageModality()
