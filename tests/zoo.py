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
        stackwise_expansion=[[32], [48, 48], [96]],
        stackwise_num_blocks=[1, 2, 1],
        stackwise_num_filters=[[16], [24, 24], [48]],
        stackwise_kernel_size=[[3], [3, 3], [5]],
        stackwise_num_strides=[[1], [2, 1], [2]],
        stackwise_se_ratio=[[None], [0.25, 0.25], [None]],
        stackwise_activation=[["relu"], ["hard_swish", "hard_swish"], ["relu"]],
        stackwise_padding=[[1], [1, 1], [2]],
        output_num_filters=96,
        input_activation="hard_swish",
        output_activation="hard_swish",
        input_num_filters=16,
        image_shape=(None, None, 3),
        depthwise_filters=16,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=96,
        squeeze_and_excite=0.5,
    )


def efficientnet(block_types=("v1", "v1", "v1"), squeeze_ratio=0.25, **options):
    return keras_hub.models.EfficientNetBackbone(
        stackwise_kernel_sizes=[3, 3, 3],
        stackwise_num_repeats=[1, 2, 2],
        stackwise_input_filters=[16, 16, 32],
        stackwise_output_filters=[16, 32, 32],
        stackwise_expansion_ratios=[1, 4, 4],
        stackwise_squeeze_and_excite_ratios=[squeeze_ratio] * 3,
        stackwise_strides=[1, 2, 2],
        stackwise_block_types=list(block_types),
        stackwise_force_input_filters=[0] * 3,
        stackwise_nores_option=[False] * 3,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        num_features=64,
        **options,
    )


def efficientnet_lite():
    """As the preset has it: nothing squeezed, and an activation that eight bits hold."""
    return efficientnet(squeeze_ratio=0, activation="relu6", dropout=0)


def densenet():
    return keras_hub.models.DenseNetBackbone(stackwise_num_repeats=[2, 2], growth_rate=16)


def cspnet():
    """As darknet53."""
    return keras_hub.models.CSPNetBackbone(
        stem_filters=8,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 2],
        stackwise_strides=[1, 2],
        stackwise_num_filters=[16, 48],
        block_type="dark_block",
        stage_type="dark",
    )


def csp_resnext():
    """As cspresnext50: a max-pool padded with minus infinity, grouped convolutions, stages across."""
    return keras_hub.models.CSPNetBackbone(
        stem_filters=8,
        stem_kernel_size=7,
        stem_strides=4,
        stem_pooling="max",
        stackwise_depth=[1, 2],
        stackwise_strides=[1, 2],
        stackwise_num_filters=[32, 64],
        block_type="bottleneck_block",
        stage_type="csp",
        groups=4,
        block_ratio=[0.5],
        cross_linear=True,
    )


def hgnetv2(light=False):
    """With `light` as every preset: the convolutions of the last stage a pointwise and a depthwise one."""
    return keras_hub.models.HGNetV2Backbone(
        depths=[1, 2],
        embedding_size=16,
        hidden_sizes=[32, 64],
        stem_channels=[3, 16, 16],
        hidden_act="relu",
        use_learnable_affine_block=False,
        stackwise_stage_filters=[(16, 16, 32, 1, 1, 3), (32, 16, 64, 2, 1, 3)],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, light],
        image_shape=(SIZE, SIZE, 3),
    )


def vgg(filters=(8, 8, 16)):
    return keras_hub.models.VGGBackbone(
        stackwise_num_repeats=[1, 2, 1], stackwise_num_filters=[*filters], image_shape=(SIZE, SIZE, 3)
    )


def xception():
    return keras_hub.models.XceptionBackbone(
        stackwise_conv_filters=[[16, 16], [16, 32], [32, 64]], stackwise_pooling=[True, True, False]
    )


def vit():
    return keras_hub.models.ViTBackbone(
        image_shape=(SIZE, SIZE, 3), patch_size=8, num_layers=3, num_heads=2, hidden_dim=48, mlp_dim=96
    )


def deit():
    return keras_hub.models.DeiTBackbone(
        image_shape=(SIZE, SIZE, 3),
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=48,
        intermediate_dim=96,
    )


def dinov2():
    return keras_hub.models.DINOV2Backbone(
        patch_size=8,
        num_layers=2,
        hidden_dim=48,
        num_heads=2,
        intermediate_dim=96,
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
        hidden_dims=[16, 48],
    )


def swin():
    return keras_hub.models.SwinTransformerBackbone(
        image_shape=(SIZE, SIZE, 3), embed_dim=24, depths=(1, 2), num_heads=(1, 2), window_size=4
    )


BACKBONES = {
    "resnet_v1": resnet,
    "resnet_v2": lambda: resnet(pre_activation=True, block="bottleneck_block"),
    "resnet_vd": lambda: resnet(block="basic_block_vd"),
    "mobilenet": mobilenet,
    "efficientnet_v1": efficientnet,
    "efficientnet_v2": lambda: efficientnet(("fused", "fused", "unfused")),
    "efficientnet_lite": efficientnet_lite,
    "densenet": densenet,
    "cspnet": cspnet,
    "csp_resnext": csp_resnext,
    "hgnetv2": hgnetv2,
    "hgnetv2_light": lambda: hgnetv2(light=True),
    "vgg": lambda: vgg((16, 16, 32)),
    "xception": xception,
    "vit": vit,
    "deit": deit,
    "dinov2": dinov2,
    "mit": mit,
    "swin": swin,
}
