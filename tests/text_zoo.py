"""One tiny text backbone and tokenizer of each family, with random weights, and texts to trip them up."""

import keras_hub

models = keras_hub.models
WORDS = ["the", "quick", "brown", "fox", "café", "##s", "!", "you", "cafe"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
NASTY = [
    *("", " ", "the quick brown fox!", "foxs", "THE FOX", "café", "cafe\u0301", "[CLS] [PAD] <pad> </s>"),
    *(
        "日本語テキスト",
        "שלום עולם",
        "مرحبا",
        "👩‍👩‍👧‍👦🇫🇷",
        "a\u200bb\u00a0c\u2028d",
        "\x07a\x85b",
        "\ufeffß İ …",
    ),
    *("the " * 50, "x" * 300, "<|endoftext|>", "don't", "\ufffd", "1234567890 $^`~+"),
]


def word_piece(kind):
    return kind(vocabulary=PIECES, lowercase=True)


def byte_pair(kind, before=(), after=()):
    """Single bytes, as GPT-2 writes them, and a few merges, between the special tokens."""
    from tokenizers.pre_tokenizers import ByteLevel

    merges = ["t h", "th e", "Ġ the", "f o", "fo x"]
    tokens = [*before, *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in merges), *after]
    return kind(vocabulary={token: index for index, token in enumerate(tokens)}, merges=merges)


def sentence_piece(folder, kind, **options):
    import sentencepiece

    corpus = ["the quick brown fox", "you and the café", "a brown quick fox!"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_prefix=str(folder / kind.__name__),
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return kind(proto=str(folder / f"{kind.__name__}.model"))


SPECIAL = {
    "pad_id": 0,
    "unk_id": 1,
    "bos_id": 2,
    "eos_id": 3,
    "bos_piece": "[CLS]",
    "eos_piece": "[SEP]",
    "user_defined_symbols": ["[MASK]"],
}
SIZES = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16, "dropout": 0.0}
POSITIONS = {"max_sequence_length": 64}
ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")

FAMILIES = {
    "Bert": (lambda _: word_piece(models.BertTokenizer), POSITIONS),
    "DistilBert": (lambda _: word_piece(models.DistilBertTokenizer), POSITIONS),
    "Electra": (lambda _: word_piece(models.ElectraTokenizer), {"embedding_dim": 8, **POSITIONS}),
    "RoformerV2": (lambda _: word_piece(models.RoformerV2Tokenizer), {"head_size": 4}),
    "Roberta": (lambda _: byte_pair(models.RobertaTokenizer, ROBERTA), POSITIONS),
    "GPT2": (lambda _: byte_pair(models.GPT2Tokenizer, after=["<|endoftext|>"]), POSITIONS),
    "XLMRoberta": (lambda folder: sentence_piece(folder, models.XLMRobertaTokenizer), POSITIONS),
    "Albert": (
        lambda folder: sentence_piece(folder, models.AlbertTokenizer, **SPECIAL, pad_piece="<pad>"),
        {"embedding_dim": 8, **POSITIONS},
    ),
    "FNet": (
        lambda folder: sentence_piece(folder, models.FNetTokenizer, **SPECIAL, pad_piece="<pad>"),
        POSITIONS,
    ),
    "DebertaV3": (
        lambda folder: sentence_piece(folder, models.DebertaV3Tokenizer, **SPECIAL, pad_piece="[PAD]"),
        {"bucket_size": 16, **POSITIONS},
    ),
}


def backbone_of(name, vocabulary_size, **sizes):
    sizes = {**SIZES, **FAMILIES[name][1], **sizes}
    sizes["vocab_size" if name == "Electra" else "vocabulary_size"] = vocabulary_size
    if name == "FNet":
        del sizes["num_heads"]
    return getattr(models, f"{name}Backbone")(**sizes)


def write_preset(name, folder, **sizes):
    """`(backbone, preset folder)` of a family; `sizes` in the place of its own."""
    tokenizer = FAMILIES[name][0](folder)
    backbone = backbone_of(name, tokenizer.vocabulary_size(), **sizes)
    backbone.save_to_preset(str(folder / "preset"))
    tokenizer.save_to_preset(str(folder / "preset"))
    return backbone, str(folder / "preset")
