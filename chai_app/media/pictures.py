"""Pictures, and clips as gif or png frames, by Pillow; each can carry a comment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadMedia

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

# Formats that hold their pictures themselves; others are programs (eps), or name fonts and files.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "AVIF", "ICO", "JPEG2000")


def read_image(path: Path) -> np.ndarray:
    """A picture as a person sees it, uint8 (H, W, 3): upright (its EXIF turn applied), what is transparent on white.

    Raises: BadMedia if it is not there or is no picture.
    """
    import numpy as np
    from PIL import Image, ImageOps

    check_is_file(path, "picture")
    try:
        with _opened(path) as picture:
            return np.asarray(_on_white(_eight_bits(ImageOps.exif_transpose(picture))))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadMedia(f"{path} is not a picture that can be read: choose a png, jpg or webp file.") from error


def _opened(path: Path) -> Image.Image:
    from PIL import Image

    Image.init()  # some formats are there only where Pillow was built with them
    return Image.open(path, formats=[each for each in _FORMATS if each in Image.OPEN])


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Deep greys scaled to what a screen shows; Pillow itself cuts off what is above 255."""
    import numpy as np
    from PIL import Image

    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;16"):
        return picture
    values = np.asarray(picture).astype(np.float32)
    white = 65535 if picture.mode != "F" else 1 if values.max() <= 1 else 255  # Pillow reads 10 and 12 bits as 16
    return Image.fromarray((values * (255 / white)).round().clip(0, 255).astype(np.uint8))


def _on_white(picture: Image.Image) -> Image.Image:
    from PIL import Image

    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def write_gif(path: Path, frames: np.ndarray, fps: float, comment: str) -> None:
    """Write uint8 (T, H, W, 3) frames as a gif that plays for ever; `comment` may be empty."""
    import numpy as np
    from PIL import Image

    # One palette for the whole clip, from at most 16 frames side by side: a palette per frame flickers.
    chosen = frames[np.linspace(0, len(frames) - 1, min(len(frames), 16)).astype(int)]
    palette = Image.fromarray(np.concatenate(list(chosen), axis=1)).quantize(255, Image.Quantize.MEDIANCUT)
    pictures = [Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for f in frames]
    # A gif counts in hundredths of a second: spread the rounding so that the whole clip keeps its length.
    ends = [round(100 * (i + 1) / fps) for i in range(len(frames))]
    durations_ms = [10 * max(end - start, 2) for start, end in zip([0, *ends], ends, strict=False)]
    pictures[0].save(
        path, "GIF", save_all=True, append_images=pictures[1:], duration=durations_ms, loop=0,
        comment=comment.encode(), optimize=False,
    )  # fmt: skip


def small_moving_picture(frames: np.ndarray, fps: float, longest_side: int = 128, most_frames: int = 9) -> bytes:
    """A WebP that shows uint8 (T, H, W, 3) frames in little space: a thumbnail that moves."""
    import io

    import numpy as np
    from PIL import Image

    shown = frames[np.linspace(0, len(frames) - 1, min(len(frames), most_frames)).round().astype(int)]
    pictures = [Image.fromarray(frame) for frame in shown]
    for picture in pictures:
        picture.thumbnail((longest_side, longest_side))
    buffer = io.BytesIO()
    duration_ms = round(1000 * len(frames) / fps / len(pictures))
    pictures[0].save(
        buffer, "WEBP", save_all=True, append_images=pictures[1:], duration=duration_ms, loop=0, quality=70
    )
    return buffer.getvalue()


def write_png(path: Path, frames: np.ndarray, comment: str) -> None:
    """Write uint8 (T, H, W, 3): one frame as the file `path`, several as 0001.png ... in a new folder `path`."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    def save(pixels: np.ndarray, target: Path) -> None:
        info = PngInfo()
        if comment:
            info.add_itxt("comment", comment)
        Image.fromarray(pixels).save(target, "PNG", pnginfo=info)

    if len(frames) == 1:
        save(frames[0], path)
        return
    path.mkdir()
    for i, pixels in enumerate(frames):
        save(pixels, path / f"{i + 1:04d}.png")


def picture_comment(path: Path) -> str:
    """The comment of a png or gif, or an empty text.

    Raises: BadMedia if it is no picture.
    """

    try:
        with _opened(path) as picture:
            comment: object = picture.info.get("comment", "")
    except Exception as error:  # each kind of picture has its own ways to be broken
        raise BadMedia(f"{path} is not a picture that can be read.") from error
    return comment.decode(errors="replace") if isinstance(comment, bytes) else str(comment)


def check_is_file(path: Path, what: str) -> None:
    """Raises: BadMedia if there is no file at `path`; `what` says to the person what was looked for."""
    if not path.is_file():
        raise BadMedia(f"There is no {what} at {path}: check the name.")
