"""The families that are known (docs/models.md says what each can do here, and how to add one)."""

from .base import Family

WAN = Family(
    name="Wan",
    transformer="WanTransformer3DModel",
    pipelines=("WanPipeline", "WanImageToVideoPipeline"),
    attention="blocks.0.attn1",
)
SKYREELS = Family(
    name="SkyReels V2",
    transformer="SkyReelsV2Transformer3DModel",
    pipelines=("SkyReelsV2Pipeline", "SkyReelsV2ImageToVideoPipeline"),
    attention="blocks.0.attn1",
)
LTX = Family(
    name="LTX-Video",
    transformer="LTXVideoTransformer3DModel",
    # Folders of 0.9.5 and later say LTXConditionPipeline, and the other two load them.
    pipelines=("LTXPipeline", "LTXImageToVideoPipeline", "LTXConditionPipeline"),
    layout="packed",
)
LTX2 = Family(
    name="LTX-2",
    transformer="LTX2VideoTransformer3DModel",
    pipelines=("LTX2Pipeline", "LTX2ImageToVideoPipeline"),
    layout="packed",
)
COGVIDEOX = Family(
    name="CogVideoX",
    transformer="CogVideoXTransformer3DModel",
    pipelines=("CogVideoXPipeline", "CogVideoXImageToVideoPipeline"),
    layout="BTCHW",
    noise="diffusion",
    text="first",
)
HUNYUAN = Family(
    name="HunyuanVideo 1.5",
    transformer="HunyuanVideo15Transformer3DModel",
    pipelines=("HunyuanVideo15Pipeline", "HunyuanVideo15ImageToVideoPipeline"),
    attention="transformer_blocks.0.attn",
)
MOCHI = Family(
    name="Mochi",
    transformer="MochiTransformer3DModel",
    pipelines=("MochiPipeline",),
    noise="reversed flow",
)
LATTE = Family(
    name="Latte",
    transformer="LatteTransformer3DModel",
    pipelines=("LattePipeline",),
    channels="in_channels",  # what comes out has the variance beside it
    noise="diffusion",
)
ALLEGRO = Family(
    name="Allegro",
    transformer="AllegroTransformer3DModel",
    pipelines=("AllegroPipeline",),
    noise="diffusion",
)

FAMILIES = (WAN, SKYREELS, LTX, LTX2, COGVIDEOX, HUNYUAN, MOCHI, LATTE, ALLEGRO)
