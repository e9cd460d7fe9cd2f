"""Tiny keras-hub image backbones with random weights, one for each way such a graph is drawn."""

import keras_hub

SIZE = 32  # pixels, both sides


def resnet(pre_activation=False, block="basic_block"):
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[2, 2],
        stackwise_num_strides=[1, 2],
        block_type=block,
        use_pre_activation=pre_activation,
        image_shape=(None, None, 3),
    )


def mobilenet():
    return keras_hub.models.MobileNetBackbone(
        stackwise_expansion=[[16], [24, 24], [48]],
        stackwise_num_blocks=[1, 2, 1],
        stackwise_num_filters=[[8], [8, 8], [16]],
        stackwise_kernel_size=[[3], [3, 3], [5]],
        stackwise_num_strides=[[1], [2, 1], [2]],
        stackwise_se_ratio=[[None], [0.25, 0.25], [None]],
        stackwise_activation=[["relu"], ["hard_swish", "hard_swish"], ["relu"]],
        stackwise_padding=[[1], [1, 1], [2]],
        output_num_filters=32,
        input_activation="hard_swish",
        output_activation="hard_swish",
        input_num_filters=8,
        image_shape=(None, None, 3),
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=32,
        squeeze_and_excite=0.5,
    )


def efficientnet(block_types=("v1", "v1", "v1")):
    return keras_hub.models.EfficientNetBackbone(
        stackwise_kernel_sizes=[3, 3, 3],
        stackwise_num_repeats=[1, 2, 2],
        stackwise_input_filters=[8, 8, 16],
        stackwise_output_filters=[8, 16, 16],
        stackwise_expansion_ratios=[1, 4, 4],
        stackwise_squeeze_and_excite_ratios=[0.25, 0.25, 0.25],
        stackwise_strides=[1, 2, 2],
        stackwise_block_types=list(block_types),
        stackwise_force_input_filters=[0] * 3,
        stackwise_nores_option=[False] * 3,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        num_features=32,
    )


def densenet():
    return keras_hub.models.DenseNetBackbone(stackwise_num_repeats=[2, 2], growth_rate=8)


def cspnet():
    return keras_hub.models.CSPNetBackbone(
        stem_filters=8,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 2],
        stackwise_strides=[1, 2],
        stackwise_num_filters=[8, 16],
        block_type="dark_block",
        stage_type="dark",
    )


def hgnetv2():
    return keras_hub.models.HGNetV2Backbone(
        depths=[1, 2],
        embedding_size=8,
        hidden_sizes=[16, 32],
        stem_channels=[3, 8, 8],
        hidden_act="relu",
        use_learnable_affine_block=False,
        stackwise_stage_filters=[(8, 8, 16, 1, 1, 3), (16, 8, 32, 2, 1, 3)],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, False],
        image_shape=(SIZE, SIZE, 3),
    )


def vgg():
    return keras_hub.models.VGGBackbone(
        stackwise_num_repeats=[1, 2, 1], stackwise_num_filters=[8, 8, 16], image_shape=(SIZE, SIZE, 3)
    )


def xception():
    return keras_hub.models.XceptionBackbone(
        stackwise_conv_filters=[[8, 8], [8, 16], [16, 16]], stackwise_pooling=[True, True, False]
    )


def vit():
    return keras_hub.models.ViTBackbone(
        image_shape=(SIZE, SIZE, 3), patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32
    )


def deit():
    return keras_hub.models.DeiTBackbone(
        image_shape=(SIZE, SIZE, 3),
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
    )


def dinov2():
    return keras_hub.models.DINOV2Backbone(
        patch_size=8,
        num_layers=2,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=32,
        image_shape=(SIZE, SIZE, 3),
        position_embedding_shape=(SIZE, SIZE),
    )


def mit():
    return keras_hub.models.MiTBackbone(
        layerwise_depths=[1, 2],
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        image_shape=(SIZE, SIZE, 3),
        hidden_dims=[8, 16],
    )


def swin():
    return keras_hub.models.SwinTransformerBackbone(
        image_shape=(SIZE, SIZE, 3), embed_dim=8, depths=(1, 2), num_heads=(1, 2), window_size=4
    )


BACKBONES = {
    "resnet_v1": resnet,
    "resnet_v2": lambda: resnet(pre_activation=True, block="bottleneck_block"),
    "mobilenet": mobilenet,
    "efficientnet_v1": efficientnet,
    "efficientnet_v2": lambda: efficientnet(("fused", "fused", "unfused")),
    "densenet": densenet,
    "cspnet": cspnet,
    "hgnetv2": hgnetv2,
    "vgg": vgg,
    "xception": xception,
    "vit": vit,
    "deit": deit,
    "dinov2": dinov2,
    "mit": mit,
    "swin": swin,
}
