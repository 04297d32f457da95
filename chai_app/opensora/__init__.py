"""Open-Sora 1.2 as diffusers components: transformer, autoencoder, pipeline, and the loading of released weights.

Names are imported on first use, so that a face can list sizes and durations without waiting for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .autoencoder import AutoencoderKLOpenSora as AutoencoderKLOpenSora
    from .caption_cleaning import clean_caption as clean_caption
    from .given_frames import FrameCondition as FrameCondition
    from .pipeline import OpenSoraPipeline as OpenSoraPipeline
    from .pipeline import OpenSoraPipelineOutput as OpenSoraPipelineOutput
    from .sizes import ASPECT_RATIOS as ASPECT_RATIOS
    from .sizes import DURATIONS as DURATIONS
    from .sizes import RESOLUTIONS as RESOLUTIONS
    from .sizes import num_frames_for as num_frames_for
    from .sizes import video_size as video_size
    from .text_context import TextContext as TextContext
    from .transformer import OpenSoraTransformer3DModel as OpenSoraTransformer3DModel

_HOMES = {
    "AutoencoderKLOpenSora": "autoencoder",
    "clean_caption": "caption_cleaning",
    "FrameCondition": "given_frames",
    "OpenSoraPipeline": "pipeline",
    "OpenSoraPipelineOutput": "pipeline",
    "ASPECT_RATIOS": "sizes",
    "DURATIONS": "sizes",
    "RESOLUTIONS": "sizes",
    "num_frames_for": "sizes",
    "video_size": "sizes",
    "TextContext": "text_context",
    "OpenSoraTransformer3DModel": "transformer",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
