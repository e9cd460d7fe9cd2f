"""Texts as a `Modality`. What a method needs is imported in it: most callers want but one of them."""

import hashlib

_TOKENIZED = 2_000  # texts that a tokenizer.json is proved on


class TextModality:
    """Texts: a string each, ids for the backbone. See `Modality` for what its methods promise."""

    name, kind, task, noun = "text", "text", "text-classification", "texts"
    holder, raw = "file", "as raw texts"
    content, near_before_training = "text", False
    wide_cards = True
    columns = ("text_column", "label_column", "group_column", "label_separator", "task", "encoding")
    facts = columns
    options = ("text_column", "sequence_length", "text_augmentation")
    export_options = frozenset()

    def identity(self, content):
        from ktransfer.data.examples import normalised

        return normalised(content)

    def content_keys(self, inputs):
        return map(self.identity, inputs)

    def digests(self, inputs):
        texts = (text.encode("utf-8", "surrogatepass") for text in inputs)
        return [""] * len(inputs), [hashlib.sha256(text).digest() for text in texts]

    def load_preprocessing(self, run):
        from ktransfer.text.preprocessing import TextPreprocessing
        from ktransfer.text.token_preprocessing import preprocessing_of

        return preprocessing_of(run.task, TextPreprocessing.load(run.path / "tokenizer"))

    def serving(self, model, class_names, examples, preprocessing):
        from ktransfer.text.serving import serve_texts

        return serve_texts(model, class_names, examples, preprocessing)

    def as_asked(self, serving, *, any_size, uint8):
        if any_size:
            serving.require_files()
        return serving  # ids are whole numbers already

    def saved_model_signatures(self, serving, serve, *, default, module):
        from ktransfer.text.in_graph_tokenizer import text_signature

        return {default: text_signature(serving, serve, module), "ids": serve}

    def described_signatures(self, serving, signature):
        from ktransfer.text.in_graph_tokenizer import TEXT

        return {"inputs": [TEXT.describe({})], "output": signature["output"], "ids": signature}

    def sequence(self, serving, fixed):
        return serving.inputs[0].shape(fixed)[1] or "dynamic"

    def raw_parity(self, artefact, serving, format, labels):
        from ktransfer.text.in_graph_tokenizer import measure_text_parity

        return measure_text_parity(artefact, serving)

    def check_raw_parity(self, parity, format, tolerance):
        parity.check(f"{format} (raw text)", tolerance)  # texts have to come out as the very same ids

    def files_read(self, artefact, serving):
        return None

    def load_splits(self, source, *, task=None, **options):
        from ktransfer.data.tasks import read_as
        from ktransfer.text.entity_sources import has_entities, load_entity_splits
        from ktransfer.text.sources import load_text_splits

        if has_entities(source, task):
            return load_entity_splits(source, **options)
        return read_as(load_text_splits, source, task=task, **options)

    def read(self, data, *, class_names=None, data_dir=None, **columns):
        from ktransfer.data.tasks import read_as
        from ktransfer.text.entity_sources import has_entities, read_entities
        from ktransfer.text.sources import read_texts

        columns = {name: columns.get(name) for name in (*self.columns, "group_by")}
        if has_entities(data, columns["task"]):
            del columns["task"]
            return read_entities(data, class_names=class_names, **columns)
        return read_as(read_texts, data, class_names=class_names, data_dir=data_dir, **columns)

    def group_hint(self, examples):
        return None  # a text has no name

    def readable(self, examples, facts, progress=None):
        return examples

    def reads_as_missing(self, name):
        from ktransfer.data.label_names import reads_as_missing

        return reads_as_missing(name)

    def written_beside(self, manifest):
        return [manifest["tokenizer"]] if "tokenizer" in manifest else []

    def write_beside(self, preprocessing, folder, examples):
        from ktransfer.text.tokenizer_json import write_tokenizer

        texts = examples.evenly(_TOKENIZED).inputs
        found = write_tokenizer(preprocessing.as_tokenizer(), folder, texts=preprocessing.encoded(texts))
        path = f"{folder.name}/{found['path']}"
        tied = f", {found['tied_texts']} of them as probable" if found["tied_texts"] else ""
        line = f"tokenizer  ids agree on {found['compared_texts']} texts{tied}  {folder.parent / path}"
        return {"tokenizer": {**found, "path": path}}, (line,)

    def network(self, name, examples, recipe, *, random_weights=False, sequence_length=None, **others):
        from ktransfer.text.network import text_network

        return text_network(
            name,
            len(examples.task.output_names(examples.class_names)),
            recipe,
            random_weights=random_weights,
            texts=examples.inputs,
            sequence_length=sequence_length,
            task=examples.task,
        )

    def default_recipe(self, *, examples, **options):
        from ktransfer.text.default_recipe import text_recipe

        return text_recipe(texts=examples, **options)

    def examine(self, items, *, workers=None, progress=None):
        from ktransfer.text.audit_checks import examine_texts

        return examine_texts(items)

    def item_keys(self, root):
        from ktransfer.text.audit_checks import text_keys

        return text_keys()

    def shown(self, content):
        return content

    def title(self, item):
        return item.input

    def named(self, item):
        from ktransfer.utils.terminal import shortened

        return shortened(item.input)

    def as_html(self, content):
        from ktransfer.audit.html_page import quoted

        return quoted(content)

    @property
    def augmentation(self):
        from ktransfer.text.augmentation import TextAugmentation

        return TextAugmentation

    def find_inputs(self, inputs, *, column=None, encoding=None):
        from ktransfer.text.inputs import find_texts

        return find_texts(inputs, column=column, encoding=encoding)

    def check_inputs(self, inputs, *, encoding=None):
        pass  # words are as good as files

    def check_backbone_name(self, name, *, scaling=None):
        from ktransfer.models.backbone_names import check_backbone_name

        check_backbone_name(name, scaling=scaling)

    def by_name(self, inputs):
        return inputs

    def prove_beside(self, path, serving):
        from ktransfer.text.tokenizer_json import load_tokenizer, prove_tokenizer

        preprocessing = serving.preprocessing
        texts = preprocessing.encoded(serving.examples.texts)
        prove_tokenizer(load_tokenizer(path), preprocessing.as_tokenizer(), texts)

    def reads(self, preprocessing):
        return f"texts of up to {preprocessing['sequence_length']} tokens"

    def card(self, content, *, picture):
        from ktransfer.text.report import text_card

        return text_card(content)

    def explained(self, run, answers, card_of):
        from ktransfer.text.report import explained_texts

        return explained_texts(run, answers, card_of)

    def save_preprocessing(self, preprocessing, run):
        preprocessing.save(run.path / "tokenizer")

    @property
    def fine_tuning(self):
        from ktransfer.text.default_recipe import FINE_TUNING

        return FINE_TUNING

    @property
    def suffixes(self):
        from ktransfer.data.tables.file_bytes import TABLE_SUFFIXES

        return (".txt", *TABLE_SUFFIXES)

    def published_backbones(self):
        import keras_hub

        return keras_hub.models.TextClassifier.presets

    def asked_augmentation(self, options):
        share = options.get("text_augmentation")
        return None if share is None else self.augmentation(swap=share, deletion=share, typos=share)


MODALITY = TextModality()
