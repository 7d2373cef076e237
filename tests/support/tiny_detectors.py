"""Tiny, untrained detectors of the transformers library."""

SIZES = {"d_model": 32, "encoder_hidden_dim": 32, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_layers": 2, "num_queries": 20}


def rt_detr(**more):
    """Return an untrained RT-DETRv2 of a quarter of a million weights."""
    from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

    backbone = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    maps = {"encoder_in_channels": [16, 24, 32], "decoder_in_channels": [32] * 3}
    return RTDetrV2ForObjectDetection(RTDetrV2Config(backbone_config=backbone, **maps, **more))


def d_fine(**more):
    """Return an untrained D-FINE of about the same size."""
    from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config

    backbone = HGNetV2Config(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 16, 24, 32],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[16, 24, 32, 48],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        hidden_sizes=[16, 24, 32, 48],
        depths=[1, 1, 1, 1],
        out_features=["stage2", "stage3", "stage4"],
    )
    maps = {"encoder_in_channels": [24, 32, 48], "decoder_in_channels": [32] * 3}
    return DFineForObjectDetection(DFineConfig(backbone_config=backbone, **maps, **more))
