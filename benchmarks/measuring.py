"""Helpers of benchmarks: repeats in turn, timed epochs, a classifier and its training step."""

import statistics
import time


def medians(functions, repeats):
    """Median seconds of each function by name, run in turn so that other work on the machine meets all.

    Each is run once before, unmeasured: whatever a first use costs is not what is compared.
    """
    seconds = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def epoch_timer():
    """A callback, and the list that it fills with the seconds of each epoch, validation included."""
    import keras

    started, seconds = [], []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: started.append(time.perf_counter()),
        on_epoch_end=lambda epoch, logs: seconds.append(time.perf_counter() - started[-1]),
    )
    return callback, seconds


def classifier(preset, image_size, classes, **options):
    """A classifier on a preset, its backbone, its preprocessing; `options` are of `load_backbone`."""
    import ktransfer

    backbone, preprocessing = ktransfer.load_backbone(str(preset), image_size=image_size, **options)
    return ktransfer.build_classifier(backbone, classes, preprocessing), backbone, preprocessing


def training_step(model, backbone, depth, images, labels):
    """A function that trains one batch, with the top `depth` of the backbone unfrozen."""
    import ktransfer
    from ktransfer.models.freezing import resolve_depth
    from ktransfer.training.fine_tune import compile_classifier

    blocks = ktransfer.find_blocks(backbone)
    ktransfer.set_depth(backbone, blocks, resolve_depth(depth, blocks))
    stage = ktransfer.Stage(depth=depth, epochs=1, learning_rate=1e-4)
    compile_classifier(model, ktransfer.Recipe(stages=(stage,), head="train"))
    return lambda: model.train_on_batch(images, labels)
