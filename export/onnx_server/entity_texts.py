"""From a text to the windows of ids that a model of entities takes, and from their probabilities to entities."""

from .entities import Entities
from .texts import TextReader


class EntityReader(TextReader):
    """Cuts a text into windows, word by word; none of it is left out.

    Args:
        tokenizer: As of `TextReader`.
        manifest: Of the run.
        inputs: The model's, as of `TextReader`.
        labels: The tags of words that the model gives.

    Raises:
        ValueError: The words of the run are found by a rule that is not known here.

    Example:
        >>> reader = EntityReader(tokenizer, manifest, artifact["signature"]["inputs"], labels)
        >>> len(reader("In Rome"))
        1
    """

    def __init__(self, tokenizer, manifest, inputs, labels):
        super().__init__(tokenizer, manifest["tokenizer"], inputs)
        self._entities = Entities(tokenizer, manifest, labels)

    def __call__(self, text):
        """Return the `Windows` of a text, each a row for the model."""
        return self._entities.windows(text)

    def found(self, windows, answers):
        """Return the entities of a text by the probabilities `(tokens, tags)` of each of its windows."""
        return self._entities.found(windows, answers)
