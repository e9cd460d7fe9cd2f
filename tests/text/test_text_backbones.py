import pytest

from ktransfer.errors import BackboneError
from ktransfer.text.backbones import load_text_backbone


def test_a_backbone_that_is_not_there_is_refused_with_what_is_near(tmp_path):
    with pytest.raises(BackboneError, match="Did you mean bert_tiny_en_uncased"):
        load_text_backbone("bert_tiny_en_uncasd")
    with pytest.raises(BackboneError, match=r"with config\.json, got .*, which has none"):
        load_text_backbone(str(tmp_path))
