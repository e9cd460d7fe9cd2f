"""Texts as a `Modality`. What a method needs is imported in it: most callers want but one of them."""

import hashlib


class TextModality:
    """Texts: a string each, ids for the backbone. See `Modality` for what its methods promise."""

    name, kind, task, noun = "text", "text", "text-classification", "texts"
    holder = "file"

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

        return TextPreprocessing.load(run.path / "tokenizer")


MODALITY = TextModality()
