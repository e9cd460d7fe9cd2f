"""From two texts to the token ids that a model of pairs takes."""

from .errors import Refused, shown
from .pairs import Pairs
from .texts import TextReader, Tokens


class PairReader(TextReader):
    """Packs both texts of a pair into one row of ids, as in training.

    Args:
        tokenizer, facts, inputs: As of `TextReader`.

    Raises:
        ValueError: The pairs of the run are cut by a rule that is not known here.

    Example:
        >>> reader = PairReader(tokenizer, manifest["tokenizer"], artifact["signature"]["inputs"])
        >>> reader(("A plane lands.", "A plane takes off."))["segment_ids"].max()
        1
    """

    texts = 2

    def __init__(self, tokenizer, facts, inputs):
        super().__init__(tokenizer, facts, inputs)
        self._pairs = Pairs(tokenizer, facts)

    def __call__(self, pair):
        """Return `Tokens` of a pair `(first, second)`, at most `sequence_length` of them."""
        packed, is_cut = self._pairs.packed(*pair)
        tokens = Tokens((name, ids.astype(self._dtypes[name])) for name, ids in packed.items())
        tokens.is_cut = is_cut
        return tokens

    @staticmethod
    def of_json(value):
        """Return a pair of JSON, a list of two strings; refuses other values."""
        if not isinstance(value, list) or len(value) != 2:
            raise Refused(400, f"Expected a list of two texts, got {shown(value)}. Send both of a pair.")
        first, second = map(TextReader.of_json, value)
        return first, second
