"""Shared by every test: quiet TensorFlow, fixed seeds, and the location of real data where it exists."""

import os
from pathlib import Path
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests compile hundreds of tiny models; optimizing each for speed costs more than it saves.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import pytest
from spreading import mark_the_rest_slow

from ktransfer.utils.onednn import prefer_onednn

prefer_onednn()  # before TensorFlow is loaded, as in the command line

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Nothing of the user's is read or written."""
    os.environ["KTRANSFER_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True, scope="module")
def _seeded_module():
    """Seed TensorFlow once a module: `tf.random.set_seed` drops every kernel that TensorFlow holds."""
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _seeded():
    import keras
    import tensorflow as tf

    with mock.patch.object(tf.random, "set_seed"):
        keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def no_report():
    """Train without writing the page of a run, which takes a third of a short training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ktransfer.commands.fit._report", lambda *given: None)
        yield


@pytest.fixture(scope="session")
def flowers():
    return _shared("data/flowers")


@pytest.fixture(scope="session")
def resnet_preset():
    return _shared("backbones/resnet50_v2_3stage_imagenet")


@pytest.fixture(scope="session")
def mobilenet_preset():
    return _shared("backbones/mobilenet_v2_100_imagenet")


@pytest.fixture(scope="session")
def minilm():
    return _shared("backbones/minilm_l6_h384_uncased")


@pytest.fixture(scope="session")
def sms_spam():
    return _shared("data/sms_spam/SMSSpamCollection")


@pytest.fixture(scope="session")
def image_cases():
    return _shared("cases/images")


def _shared(name):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"real data is not here: {path}")
    return path


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Before `-m` chooses: of a test marked `spread` all but a few of its cases are slow."""
    mark_the_rest_slow(items)
