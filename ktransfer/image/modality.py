"""Images as a `Modality`. What a method needs is imported in it: most callers want but one of them."""

import os


class ImageModality:
    """Image files: a path each, pixels for the backbone. See `Modality` for what its methods promise."""

    name, kind, task, noun = "image", "file", "image-classification", "images"
    holder = "folder"

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


MODALITY = ImageModality()
