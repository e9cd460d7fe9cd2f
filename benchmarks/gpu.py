"""Images a second on a GPU by stage and precision, against the guide's recipe and the card's limit.

KERAS_BACKEND=jax python benchmarks/gpu.py [--batch-sizes 64 256]

A ResNet-50 with random weights at 224 px trains on synthetic images through `fit`, fed by tf.data, as
training is: what is given is the median epoch after the first. The guide's recipe is plain Keras in float32,
frozen and then all unfrozen; it has no stage between. DATA and BACKBONES are not read.
"""

import statistics

from gpu_limit import card_name, limit_tflops, training_flops
from harness import arguments, note, refuse, report
from measuring import epoch_timer

RESNET_50 = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 128, 256, 512],
    "stackwise_num_blocks": [3, 4, 6, 3],
    "stackwise_num_strides": [1, 2, 2, 2],
    "block_type": "bottleneck_block",
}
SMALL = RESNET_50 | {"stackwise_num_filters": [64, 64, 64, 64], "stackwise_num_blocks": [1, 1, 1, 1]}
STAGES = {"head": 0, "upper third": 0.3, "all": "all"}
CLASSES, EPOCHS = 10, 4


def ours(network, depth, precision, batches):
    """Seconds of each epoch of `fine_tune`, and floating-point operations of an image in it."""
    import ktransfer
    from ktransfer.image.backbones import Preprocessing
    from ktransfer.image.decoding import Resize

    backbone = network(precision)
    preprocessing = Preprocessing(Resize(*backbone.input.shape[1:3]), 1 / 127.5, -1.0)
    model = ktransfer.build_classifier(backbone, CLASSES, preprocessing)
    timer, seconds = epoch_timer()
    stage = ktransfer.Stage(depth=depth, epochs=EPOCHS, learning_rate=1e-4)
    recipe = ktransfer.Recipe(stages=(stage,), head="train", precision=precision)
    ktransfer.fine_tune(model, batches, None, recipe, callbacks=[timer], verbose=0)
    return seconds, training_flops(backbone, depth)


def guide(network, trainable, batches):
    """Seconds of each epoch of the guide's recipe."""
    import keras

    backbone = network("float32")
    backbone.trainable = trainable
    image = keras.Input(backbone.input.shape[1:])
    features = backbone(keras.layers.Rescaling(1 / 127.5, -1.0)(image), training=False)
    model = keras.Model(image, keras.layers.Dense(CLASSES)(keras.layers.GlobalAveragePooling2D()(features)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-5 if trainable else 1e-3), loss, metrics=["accuracy"])
    timer, seconds = epoch_timer()
    model.fit(batches, epochs=EPOCHS, callbacks=[timer], verbose=0)
    return seconds


def measure(network, size, batch_size, steps, limits):
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (batch_size, size, size, 3)).astype("float32")
    labels = rng.integers(CLASSES, size=batch_size).astype("int32")
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat(steps).prefetch(2)

    def speed(seconds):
        return batch_size * steps / statistics.median(seconds[1:])

    plain = {name: speed(guide(network, name == "all", batches)) for name in ("head", "all")}
    for precision, limit in limits.items():
        for name, depth in STAGES.items():
            seconds, flops = ours(network, depth, precision, batches)
            row = {
                "stage": name,
                "precision": precision,
                "batch_size": batch_size,
                "guide_float32_images_per_second": plain.get(name),
                "ktransfer_images_per_second": speed(seconds),
                "ratio": speed(seconds) / plain[name] if name in plain else None,
                "share_of_limit": speed(seconds) * flops / 1e12 / limit,
            }
            note(row)
            yield row


def main():
    parser = arguments(__doc__)
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="images in a batch (64 256)")
    options = parser.parse_args()
    import keras
    import tensorflow as tf

    has_gpu = any(name.startswith(("gpu", "cuda")) for name in keras.distribution.list_devices())
    if not has_gpu and not options.smoke:
        refuse(
            f"Expected a GPU that Keras' {keras.backend.backend()} backend sees, got none. Set "
            "KERAS_BACKEND, or pass --smoke to try it on the CPU."
        )
    if keras.backend.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")  # TensorFlow only feeds; the memory is the backend's
    from keras_hub.models import ResNetBackbone

    size = options.image_size or (32 if options.smoke else 224)
    shape = {"image_shape": (size, size, 3), **(SMALL if options.smoke else RESNET_50)}
    limits = {precision: limit_tflops(precision, options.smoke) for precision in ("float32", "mixed_float16")}
    rows = []
    for batch_size in options.batch_sizes or ((4,) if options.smoke else (64, 256)):
        # As many images in each epoch, whatever the batch.
        steps = 2 if options.smoke else max(1, 5120 // batch_size)
        rows += measure(lambda dtype: ResNetBackbone(dtype=dtype, **shape), size, batch_size, steps, limits)
    report(rows, image_size=size, card=card_name(), **{f"limit_{p}_tflops": v for p, v in limits.items()})


if __name__ == "__main__":
    main()
