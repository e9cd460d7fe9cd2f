"""LoRA adapters in the blocks of a backbone: attached, merged into the kernels, and kept in a file."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import gc
import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from ktransfer.errors import RecipeError, RunError, did_you_mean, listed
from ktransfer.models.blocks import Block, find_blocks, sublayers
from ktransfer.models.locate import find_backbone
from ktransfer.recipes.adapter import LoRA
from ktransfer.security.safe_io import parse_json
from ktransfer.utils.extras import need_modules
from ktransfer.utils.files import replacing

if TYPE_CHECKING:
    from ktransfer.core.typing import Array

FILE = "adapters.safetensors"
_FORMAT, _ENTRY = 1, "ktransfer"
_LARGEST = 2**30  # bytes of a file
_HEADER = 2**24  # bytes of the JSON in front of it
# Layers with `enable_lora`, Keras' public way to add two matrices to a layer that is built.
_KINDS = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
)


@dataclass(frozen=True, eq=False)
class Target:
    """A layer that gets an adapter.

    Attributes:
        name: The block and the layer, the same in every process: `"transformer_layer_5/query"`.
        layer: Of the backbone.
    """

    name: str
    layer: keras.layers.Layer


@dataclass(frozen=True)
class AdapterPlan:
    """The layers of the unfrozen blocks that get an adapter.

    Attributes:
        targets: From the topmost block down.
        left_out: Layers with a kernel that stay as they are, by the reason.
    """

    targets: tuple[Target, ...]
    left_out: dict[str, tuple[str, ...]]

    def count(self, rank: int) -> int:
        """The number of weights of the adapters."""
        return sum(_size(target.layer, rank) for target in self.targets)

    def lines(self) -> list[str]:
        """A line on each reason for layers without an adapter."""
        return [f"none in {listed(names)}: {reason}" for reason, names in self.left_out.items()]


def plan_adapters(blocks: Sequence[Block], depth: int, adapter: LoRA) -> AdapterPlan:
    """Choose the layers that get an adapter; nothing is changed.

    Args:
        blocks: What `find_blocks` returned.
        depth: How many blocks are unfrozen at most, from the top.
        adapter: Its rank and targets.

    Raises:
        RecipeError: No layer matches, or the rank is above the size of one that was named.

    Example:

        plan_adapters(find_blocks(backbone), 2, LoRA(rank=8)).targets[0].name
    """
    targets, every = [], []
    left_out: dict[str, list[str]] = {}
    for block in blocks[:depth]:
        seen: Counter[str] = Counter()
        for layer in _leaves(block):
            name = f"{block.name}/{layer.name}"
            seen[name] += 1
            name = name if seen[name] == 1 else f"{name}#{seen[name]}"
            every.append(name)
            reason = _reason_against(layer, name, adapter)
            if reason is None:
                targets.append(Target(name, layer))
            elif reason:
                left_out.setdefault(reason, []).append(name)
    if depth and not targets:
        names = [name.rpartition("/")[2] for name in every]
        hint = did_you_mean(adapter.targets[0], names) if adapter.targets else ""
        wanted = f"targets {listed(adapter.targets)}" if adapter.targets else "an adapter of its rank"
        found = listed(dict.fromkeys(every)) or "no layers with kernels"
        raise RecipeError(
            f"Expected a layer that takes {wanted} with rank {adapter.rank} in the unfrozen blocks, got {found}. {hint}"
            "Lower the rank, or choose other targets."
        )
    return AdapterPlan(tuple(targets), {reason: tuple(names) for reason, names in left_out.items()})


def attach_adapters(
    blocks: Sequence[Block],
    depth: int,
    adapter: LoRA,
    *,
    seed: int = 0,
    models: Sequence[keras.Model] = (),
) -> AdapterPlan:
    """Add adapters, whose product is zero at first, to layers of the top blocks.

    Layers that have adapters of this rank already keep them. Nothing is changed where one is refused.

    Args:
        blocks, depth, adapter: As in `plan_adapters`.
        seed: Of the first of both matrices. Defaults to 0.
        models: Models whose compiled functions for `evaluate` and `predict` were traced without adapters.

    Returns:
        The plan.

    Raises:
        RecipeError: As in `plan_adapters`; or a layer has an adapter of another rank.

    Example:

        attach_adapters(find_blocks(backbone), 2, LoRA(rank=8), models=[model])
    """
    plan = plan_adapters(blocks, depth, adapter)
    for target in plan.targets:
        layer, rank = target.layer, own_rank(target.layer, adapter.rank)
        alpha = adapter.scale * rank
        if layer.lora_enabled and (layer.lora_rank, float(layer.lora_alpha)) != (rank, alpha):
            raise RecipeError(
                f"Expected layers without adapters, or with adapters of rank {rank} and alpha {alpha:g}, got "
                f"rank {layer.lora_rank} and alpha {layer.lora_alpha:g} in {target.name}. Merge them with "
                "ktransfer.merge_adapters, or take the same."
            )
    for index, target in enumerate(plan.targets):
        initializer = keras.initializers.HeUniform(seed=(seed + index) % 2**31)
        if not target.layer.lora_enabled:
            rank = own_rank(target.layer, adapter.rank)
            target.layer.enable_lora(rank, lora_alpha=adapter.scale * rank, a_initializer=initializer)
        elif not np.any(_values(target.layer.lora_kernel_a)):
            # So Keras loads what it merged when it saved. With both matrices zero neither has a gradient.
            target.layer.lora_kernel_a.assign(initializer(target.layer.lora_kernel_a.shape))
    _forget_traces(models)
    return plan


def adapter_variables(blocks: Sequence[Block]) -> list[keras.Variable]:
    """The variables of the adapters in these blocks."""
    return [
        variable
        for block in blocks
        for layer in _leaves(block)
        if getattr(layer, "lora_enabled", False)
        for variable in (layer.lora_kernel_a, layer.lora_kernel_b)
    ]


def idle_variables(block: Block) -> set[int]:
    """The ids of adapter variables whose product is zero, which change nothing."""
    return {
        id(variable)
        for layer in _leaves(block)
        if getattr(layer, "lora_enabled", False) and not np.any(_values(layer.lora_kernel_b))
        for variable in (layer.lora_kernel_a, layer.lora_kernel_b)
    }


@dataclass(frozen=True, eq=False)
class Adapters:
    """Adapters apart from their layers, with the kernels that they are for.

    Attributes:
        adapter: Their rank, alpha and targets.
        names: Of their layers, as in `Target`.
        matrices: Both of each layer, float32 `(..., rank)` and `(rank, C)`.
        fingerprint: SHA-256 of the kernels without adapters.
        head: Weights of the classifier's head, in their order; empty of a backbone alone.
        kernels: Those without adapters; empty where the adapters are from a file.
    """

    adapter: LoRA
    names: tuple[str, ...]
    matrices: tuple[tuple[Array, Array], ...]
    fingerprint: str
    head: tuple[Array, ...] = ()
    kernels: tuple[Array, ...] = ()

    def scaled(self, share: float) -> Adapters:
        """Adapters whose product is a share of this one."""
        matrices = tuple((a, (share * b).astype("float32")) for a, b in self.matrices)
        return dataclasses.replace(self, matrices=matrices)

    def with_head_of(self, model: keras.Model) -> Adapters:
        """The same with the head that a classifier has now."""
        return dataclasses.replace(self, head=_head_values(model))

    def update(self, index: int) -> Array:
        """The product that is added to the kernel of a layer."""
        a, b = self.matrices[index]
        return (np.float32(self.adapter.scale) * np.matmul(a, b)).astype("float32")


def take_adapters(model: keras.Model, *, adapter: LoRA | None = None) -> Adapters:
    """Remove the adapters from a model's backbone, whose kernels are then those of before.

    Args:
        model: A backbone, or a classifier with one.
        adapter: What they were attached as; `None` reads rank and alpha off the layers.

    Returns:
        The adapters, with the head where there is one.

    Raises:
        RecipeError: There are none.

    Example:

        adapters = take_adapters(model)
    """
    found = read_adapters(model, adapter=adapter)
    with _quick_collection():
        for target in _adapted(model):
            layer = target.layer
            del layer.lora_kernel_a
            del layer.lora_kernel_b
            layer.lora_enabled, layer.lora_rank, layer.lora_alpha = False, None, None
    _forget_traces([model])
    return found


def read_adapters(model: keras.Model, *, adapter: LoRA | None = None) -> Adapters:
    """The adapters in a model's backbone, which stay where they are.

    Args:
        model, adapter: As in `take_adapters`.

    Raises:
        RecipeError: There are none.

    Example:

        read_adapters(model).names[0]   # "transformer_layer_5/query"
    """
    targets = _adapted(model)
    if not targets:
        raise RecipeError(
            f"Expected a model with adapters, got {model.name} without any. Train it with adapter=LoRA(rank=8)."
        )
    layers = [target.layer for target in targets]
    if adapter is None:
        plain = [int(layer.lora_rank) for layer in layers if _spread(layer) == 1]
        rank = max(plain, default=max(int(layer.lora_rank) * _spread(layer) for layer in layers))
        adapter = LoRA(rank=rank, alpha=rank * float(layers[0].lora_alpha) / layers[0].lora_rank)
    matrices = tuple((_values(layer.lora_kernel_a), _values(layer.lora_kernel_b)) for layer in layers)
    return Adapters(
        adapter,
        tuple(target.name for target in targets),
        matrices,
        _fingerprint(targets),
        _head_values(model),
        tuple(_values(_kernel(layer)) for layer in layers),
    )


def merge_adapters(model: keras.Model) -> int:
    """Add the adapters of a model's backbone to the kernels, and remove them.

    Args:
        model: A backbone, or a classifier with one; changed in place.

    Returns:
        How many layers had one.

    Raises:
        RecipeError: There are none.

    Example:

        ktransfer.merge_adapters(model)
    """
    adapters = take_adapters(model)
    add_adapters(model, adapters)
    return len(adapters.names)


def add_adapters(model: keras.Model, adapters: Adapters) -> None:
    """Add adapters to the kernels that they were trained on; the head is left as it is.

    Raises:
        RunError: The backbone has no such layers, or other kernels.

    Example:

        add_adapters(model, take_adapters(model))
    """
    targets = _matching(model, adapters, "the adapters")
    for index, target in enumerate(targets):
        kernel = _kernel(target.layer)
        kernel.assign(_values(kernel) + adapters.update(index))
    _forget_traces([model])


def merge_share(model: keras.Model, adapters: Adapters, share: float) -> Adapters:
    """Set the kernels to those without adapters, with a share of the adapters added.

    Args:
        model: The one that they were taken from.
        adapters: From `take_adapters`.
        share: From 0 (the kernels as pretrained) to 1.

    Returns:
        The adapters whose product is that share, with the model's head.

    Example:

        merge_share(model, take_adapters(model), 0.5)
    """
    known = {target.name: target for target in _all_targets(model)}
    for name, kernel in zip(adapters.names, adapters.kernels, strict=True):
        _kernel(known[name].layer).assign(kernel)
    found = adapters if share == 1 else adapters.scaled(share)
    add_adapters(model, found)
    return found.with_head_of(model)


def adapted_kernels(blocks: Sequence[Block]) -> list[keras.Variable]:
    """The kernels under the adapters in these blocks."""
    return [
        _kernel(layer)
        for block in blocks
        for layer in _leaves(block)
        if getattr(layer, "lora_enabled", False)
    ]


def save_adapters(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Write the adapters of a model's backbone, and the head if there is one, to a file of their own.

    The kernels are not in it: it loads into a model with the same backbone.

    Args:
        model: A backbone, or a classifier with one; left as it is.
        path: A `.safetensors` file.

    Raises:
        RecipeError: There are none.
        MissingExtraError: The package safetensors is not installed.

    Example:

        ktransfer.save_adapters(model, "adapters.safetensors")
    """
    write_adapters(read_adapters(model), path)


def write_adapters(adapters: Adapters, path: str | os.PathLike[str]) -> None:
    """Write adapters to a `.safetensors` file (see `save_adapters`)."""
    need_modules(["safetensors"], "a file of adapters")
    from safetensors.numpy import save

    tensors = {f"head/{index:03d}": np.ascontiguousarray(value) for index, value in enumerate(adapters.head)}
    for name, (a, b) in zip(adapters.names, adapters.matrices, strict=True):
        tensors |= {f"lora/{name}/a": np.ascontiguousarray(a), f"lora/{name}/b": np.ascontiguousarray(b)}
    facts = {
        "format": _FORMAT,
        "adapter": adapters.adapter.to_dict(),
        "layers": adapters.names,
        "fingerprint": adapters.fingerprint,
    }
    # One entry: the order of several is another at each call.
    content = save(tensors, metadata={_ENTRY: json.dumps(facts)})
    with replacing(path) as partial:
        partial.write_bytes(content)


def load_adapters(model: keras.Model, path: str | os.PathLike[str], *, merge: bool = True) -> Adapters:
    """Load what `save_adapters` wrote, or a run's `adapters.safetensors`, into a model with the same backbone.

    Args:
        model: A backbone as it was pretrained, or a classifier with one; changed in place. A classifier gets the head
            too.
        path: The file.
        merge: Add the adapters to the kernels, as for serving; `False` attaches them, to train them further.
            Defaults to `True`.

    Returns:
        The adapters.

    Raises:
        RunError: The file is damaged; or it is of another backbone, other blocks, or a head of another size.

    Example:

        ktransfer.load_adapters(model, "runs/reviews/adapters.safetensors")
    """
    adapters = _read(Path(path))
    targets = _matching(model, adapters, str(path))
    head = _head_variables(model)
    if head and [tuple(v.shape) for v in head] != [value.shape for value in adapters.head]:
        raise RunError(
            f"Expected a head of the weights {[list(v.shape) for v in head]}, as {model.name} has, got "
            f"{[list(value.shape) for value in adapters.head]} in {path}. Build the classifier with as many labels."
        )
    if any(target.layer.lora_enabled for target in targets):
        raise RunError(
            f"Expected a backbone without adapters, got {model.name}, which has some. Merge them with "
            "ktransfer.merge_adapters, or load the backbone again."
        )
    for variable, value in zip(head, adapters.head, strict=False):
        variable.assign(value)
    if merge:
        add_adapters(model, adapters)
        return adapters
    adapter = adapters.adapter
    for target, (a, b) in zip(targets, adapters.matrices, strict=True):
        rank = own_rank(target.layer, adapter.rank)
        target.layer.enable_lora(rank, lora_alpha=adapter.scale * rank)
        target.layer.lora_kernel_a.assign(a)
        target.layer.lora_kernel_b.assign(b)
    _forget_traces([model])
    return adapters


def read_file(path: str | os.PathLike[str]) -> Adapters:
    """The adapters in a file that `save_adapters` wrote, without kernels.

    Raises:
        RunError: It is damaged, or not there.

    Example:

        read_file("runs/reviews/adapters.safetensors").adapter.rank   # 8
    """
    return _read(Path(path))


def with_kernels(adapters: Adapters, pretrained: keras.Model, source: str) -> Adapters:
    """Adapters from a file with the kernels that they were trained on.

    Args:
        adapters: From `read_file`.
        pretrained: The backbone, or a classifier with it, as it was before.
        source: The file, for messages.

    Raises:
        RunError: It is another backbone, or one that was trained or merged since.

    Example:

        with_kernels(read_file(path), network.model, str(path)).kernels[0].shape
    """
    kernels = tuple(_values(_kernel(target.layer)) for target in _matching(pretrained, adapters, source))
    return dataclasses.replace(adapters, kernels=kernels)


@contextlib.contextmanager
def pretrained_kernels(model: keras.Model, adapters: Adapters) -> Iterator[None]:
    """Give a model with merged adapters the kernels without them for a while.

    Args:
        model: A classifier, changed in place and back.
        adapters: With `kernels`.

    Example:

        with pretrained_kernels(model, adapters):
            model.predict(texts)   # as the pretrained backbone does
    """
    known = {target.name: _kernel(target.layer) for target in _all_targets(model)}
    merged = [_values(known[name]) for name in adapters.names]
    try:
        for name, kernel in zip(adapters.names, adapters.kernels, strict=True):
            known[name].assign(kernel)
        yield
    finally:
        for name, kernel in zip(adapters.names, merged, strict=True):
            known[name].assign(kernel)


def adaptable_layers(model: keras.Model) -> list[Target]:
    """The layers of a model's backbone that adapters can be computed next to, from the topmost block down.

    Depthwise, grouped and causal convolutions are none.

    Args:
        model: A backbone, or a classifier with one.

    Example:

        adaptable_layers(model)[0].name   # "transformer_layer_5/query"
    """
    return [
        target
        for target in _all_targets(model)
        if getattr(target.layer, "groups", 1) == 1 and getattr(target.layer, "padding", "") != "causal"
    ]


def as_two_matrices(model: keras.Model, adapters: Adapters, index: int) -> tuple[Array, Array]:
    """The product that is added to a kernel as that of two matrices, of the kernel as one.

    Keras factors an attention kernel for each place on its output axes; here all of them are columns and rows of one
    product, whose rank is as many times as high.

    Args:
        model: A classifier with the layers.
        adapters: Of its backbone.
        index: Of the layer in `adapters.names`.

    Returns:
        float32 `(inputs, R)` and `(R, outputs)`; alpha counts in the second.

    Example:

        a, b = as_two_matrices(model, adapters, 0)   # (384, 12) and (12, 384) of twelve heads
    """
    known = {target.name: target.layer for target in _all_targets(model)}
    places = _spread(known[adapters.names[index]])
    a, b = adapters.matrices[index]
    rank, last = b.shape
    scaled = np.float32(adapters.adapter.scale) * b
    rows = np.zeros((places, rank, places, last), "float32")
    rows[range(places), :, range(places)] = scaled
    return a.reshape(-1, places * rank), rows.reshape(places * rank, places * last)


def _read(path: Path) -> Adapters:
    need_modules(["safetensors"], "a file of adapters")
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        if path.stat().st_size > _LARGEST:
            raise _damaged(path, f"more than {_LARGEST:,} bytes")
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        if not 0 < length <= min(_HEADER, len(content) - 8):
            raise _damaged(path, "no header")
        facts = parse_json(parse_json(content[8 : 8 + length])["__metadata__"][_ENTRY])
        if facts["format"] != _FORMAT:
            raise _damaged(path, f"format {facts['format']!r:.20}")
        tensors = load(content)
        names = tuple(map(str, facts["layers"]))
        adapter = LoRA(**facts["adapter"])
        matrices = tuple((tensors.pop(f"lora/{n}/a"), tensors.pop(f"lora/{n}/b")) for n in names)
        for a, b in matrices:
            if a.dtype != "float32" or b.dtype != "float32" or a.shape[-1:] != b.shape[:1] or b.ndim != 2:
                raise _damaged(path, f"matrices of {a.shape} and {b.shape}")
            if not (np.isfinite(a).all() and np.isfinite(b).all()):
                raise _damaged(path, "matrices with NaN or infinite values")
        head = tuple(tensors.pop(name) for name in sorted(tensors) if name.startswith("head/"))
        if tensors:
            raise _damaged(path, f"tensors that are of no adapter: {listed(tensors)}")
        fingerprint = str(facts["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RecipeError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}".rstrip(".")) from error
    return Adapters(adapter, names, matrices, fingerprint, head)


def _damaged(path: Path, received: str) -> RunError:
    return RunError(
        f"Expected a file of adapters that ktransfer wrote in {path}, got {received}. Check the path, or train again."
    )


def _matching(model: keras.Model, adapters: Adapters, source: str) -> list[Target]:
    """The layers that adapters are of, whose kernels are those that they were trained on."""
    known = {target.name: target for target in _all_targets(model)}
    missing = [name for name in adapters.names if name not in known]
    if missing:
        raise RunError(
            f"Expected a backbone with the layers that {source} has matrices for, got {model.name} without "
            f"{listed(missing)}. Load the backbone that they were trained on."
        )
    targets = [known[name] for name in adapters.names]
    for target, (a, b) in zip(targets, adapters.matrices, strict=True):
        shape = tuple(target.layer.kernel.shape)
        if (*a.shape[:-1], b.shape[-1]) != shape:
            raise RunError(
                f"Expected a kernel of the shape {(*a.shape[:-1], b.shape[-1])} in {target.name}, got {shape} in "
                f"{model.name}. Load the backbone that {source} was trained on."
            )
        if b.shape[0] != (rank := own_rank(target.layer, adapters.adapter.rank)):
            raise RunError(
                f"Expected matrices of rank {rank} for {target.name} in {source}, got {b.shape[0]}. Train again."
            )
    if (found := _fingerprint(targets)) != adapters.fingerprint:
        raise RunError(
            f"Expected the backbone that {source} was trained on, with kernels of the fingerprint "
            f"{adapters.fingerprint[:12]}, got {found[:12]} in {model.name}. Load the pretrained weights, "
            "not fine-tuned or merged ones."
        )
    return targets


def _backbone(model: keras.Model) -> keras.Model:
    """The backbone in a classifier, or the model itself."""
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model) and layer.weights]
    return find_backbone(model) if inner else model


def _head_variables(model: keras.Model) -> list[keras.Variable]:
    backbone = _backbone(model)
    if backbone is model:
        return []
    held = {id(variable) for variable in backbone.variables}
    return [variable for variable in model.weights if id(variable) not in held]


def _head_values(model: keras.Model) -> tuple[Array, ...]:
    return tuple(_values(variable) for variable in _head_variables(model))


def _all_targets(model: keras.Model) -> list[Target]:
    targets = []
    for block in find_blocks(_backbone(model)):
        seen: Counter[str] = Counter()
        for layer in _leaves(block):
            name = f"{block.name}/{layer.name}"
            seen[name] += 1
            if isinstance(layer, _KINDS):
                targets.append(Target(name if seen[name] == 1 else f"{name}#{seen[name]}", layer))
    return targets


def _adapted(model: keras.Model) -> list[Target]:
    return [target for target in _all_targets(model) if target.layer.lora_enabled]


def _leaves(block: Block) -> list[keras.layers.Layer]:
    """The layers of a block that have kernels and hold no other layers, each once."""
    found: dict[int, keras.layers.Layer] = {}
    for layer in block.layers:
        for inner in (layer, *sublayers(layer)):
            kernels = any(len(weight.shape) > 1 for weight in inner.weights)
            if kernels and not sublayers(inner, recursive=False):
                found.setdefault(id(inner), inner)
    return list(found.values())


def _reason_against(layer: keras.layers.Layer, name: str, adapter: LoRA) -> str | None:
    """The reason why a layer gets no adapter, `""` where it was not asked for; `None` where it gets one."""
    path = getattr(layer, "path", layer.name)
    if adapter.targets:
        named = any(target == layer.name or fnmatch.fnmatchcase(name, target) for target in adapter.targets)
        if not named and not any(fnmatch.fnmatchcase(str(path), target) for target in adapter.targets):
            return ""
    if not isinstance(layer, _KINDS) or getattr(layer, "kernel_constraint", None):
        return f"a layer of the kind {type(layer).__name__} takes none"
    shape = tuple(layer.kernel.shape)
    limit = min(math.prod(shape[:-1]) // _spread(layer), shape[-1] * _spread(layer))
    if getattr(layer, "groups", 1) > 1 and shape[-2] == 1:
        return "a depthwise kernel is small as it is"
    if adapter.rank > limit and adapter.targets:
        raise RecipeError(
            f"Expected a rank of at most {limit} for {name}, whose kernel is {' x '.join(map(str, shape))}, got "
            f"{adapter.rank}. Lower it, or choose other targets."
        )
    if adapter.rank > limit or (not adapter.targets and _size(layer, adapter.rank) >= math.prod(shape)):
        return f"the kernel is no larger than an adapter of rank {adapter.rank}"
    return None


def own_rank(layer: keras.layers.Layer, rank: int) -> int:
    """The rank that Keras is given for a layer, so that its whole kernel, as a matrix, changes by `rank` or more.

    Keras factors the kernel along its last axis. Where an EinsumDense has further output axes, as the heads of
    attention, each place on them has a matrix of its rank, and the whole kernel a rank as many times as high.

    Args:
        layer: Dense, EinsumDense or a convolution.
        rank: The adapter's.

    Example:

        own_rank(attention_query, 8)   # 1 with eight heads or more
    """
    return -(-rank // _spread(layer))


def _spread(layer: keras.layers.Layer) -> int:
    """The number of places that the output axes of a kernel have, without the last one."""
    if not isinstance(layer, keras.layers.EinsumDense):
        return 1
    inputs, kernel, output = re.split(r",|->", layer.equation.replace(" ", ""))
    shape = tuple(layer.kernel.shape)
    sides = [
        size
        for axis, size in zip(kernel[:-1], shape[:-1], strict=True)
        if axis in output and axis not in inputs
    ]
    return max(1, math.prod(sides))


def _size(layer: keras.layers.Layer, rank: int) -> int:
    shape = tuple(layer.kernel.shape)
    return own_rank(layer, rank) * (math.prod(shape[:-1]) + shape[-1])


def _kernel(layer: keras.layers.Layer) -> keras.Variable:
    """The variable of a layer's kernel; where it has adapters, `layer.kernel` is a sum."""
    named = [variable for variable in layer.variables if variable.name == "kernel"]
    return named[0]


def _fingerprint(targets: Sequence[Target]) -> str:
    digest = hashlib.sha256()
    for target in targets:
        value = np.ascontiguousarray(_values(_kernel(target.layer)), "float32")
        digest.update(f"{target.name} {value.shape}".encode())
        digest.update(value.data)
    return digest.hexdigest()


def _values(variable: keras.Variable) -> Array:
    # Copied: on the CPU an array may be a view of the variable.
    return np.array(keras.ops.convert_to_numpy(variable))


@contextlib.contextmanager
def _quick_collection() -> Iterator[None]:
    """Keras collects garbage after each variable that is deleted; let that pass over all objects that there are."""
    frozen = gc.get_freeze_count()
    if not frozen:
        gc.freeze()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()


def _forget_traces(models: Sequence[keras.Model]) -> None:
    """Let `evaluate` and `predict` trace these models as they are now."""
    for model in models:
        model.make_test_function(force=True)
        model.make_predict_function(force=True)
        if getattr(model, "compiled", False):
            model.make_train_function(force=True)
