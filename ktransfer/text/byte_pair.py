"""Byte pairs as GPT-2 and RoBERTa were trained with them."""

import keras_hub
from tokenizers import Tokenizer, models, pre_tokenizers


def byte_pair_tokenizer(tokenizer: keras_hub.tokenizers.BytePairTokenizer) -> Tokenizer:
    """A tokenizer with the same vocabulary, merges and special tokens that splits texts into words first.

    keras-hub 0.32 hands the library its pattern as a plain string, which occurs in no text, so that outside
    a TensorFlow graph it cuts nowhere: "B'day" becomes `B`, `'d`, `ay` in a graph, as in GPT-2's own encoder,
    and `B`, `'`, `day` outside.

    Example:

        byte_pair_tokenizer(tokenizer).encode("B'day").tokens   # ["B", "'d", "ay"]
    """
    merges = [tuple(merge.split(" ")) for merge in tokenizer.merges if "#version:" not in merge]
    made = Tokenizer(models.BPE(dict(tokenizer.vocabulary), merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=tokenizer.add_prefix_space)
    if tokenizer.unsplittable_tokens:
        made.add_special_tokens(list(tokenizer.unsplittable_tokens))
    return made
