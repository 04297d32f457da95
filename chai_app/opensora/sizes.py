"""Sizes and durations by name, as Open-Sora 1.2 was trained on them.

Aspect ratios are height to width: "9:16" is landscape. This file imports nothing heavy, so that a face can list the
choices at once.

Source: Open-Sora v1.2.0, opensora/datasets/aspect.py.
"""

from ..errors import BadRequest

# fmt: off
ASPECT_RATIOS: tuple[str, ...] = (
    "3:8", "9:21", "12:25", "1:2", "9:17", "27:50", "9:16", "5:8", "2:3",
    "3:4", "1:1", "4:3", "3:2", "16:9", "17:9", "2:1", "50:27",
)
_SIZES: dict[str, tuple[tuple[int, int], ...]] = {
    "144p": (
        (117, 312), (125, 291), (133, 277), (135, 270), (139, 262), (141, 260), (144, 256), (151, 241), (156, 234),
        (166, 221), (192, 192), (221, 165), (235, 156), (256, 144), (263, 139), (271, 135), (277, 132),
    ),
    "240p": (
        (196, 522), (210, 490), (222, 462), (226, 452), (232, 438), (236, 436), (240, 426), (252, 404), (262, 393),
        (276, 368), (320, 320), (370, 278), (392, 262), (426, 240), (440, 232), (452, 226), (462, 222),
    ),
    "360p": (
        (294, 784), (314, 732), (332, 692), (340, 680), (350, 662), (352, 652), (360, 640), (380, 608), (392, 588),
        (416, 554), (480, 480), (554, 416), (588, 392), (640, 360), (660, 350), (678, 340), (692, 332),
    ),
    "480p": (
        (392, 1046), (420, 980), (444, 925), (452, 904), (466, 880), (470, 870), (480, 854), (506, 810), (522, 784),
        (554, 738), (640, 640), (740, 555), (784, 522), (854, 480), (880, 466), (906, 454), (924, 444),
    ),
    "720p": (
        (588, 1568), (628, 1466), (666, 1388), (678, 1356), (698, 1318), (706, 1306), (720, 1280), (758, 1212),
        (784, 1176), (832, 1110), (960, 960), (1108, 832), (1176, 784), (1280, 720), (1320, 698), (1358, 680),
        (1386, 666),
    ),
    "1080p": (
        (882, 2352), (942, 2198), (998, 2080), (1018, 2036), (1048, 1980), (1058, 1958), (1080, 1920), (1138, 1820),
        (1176, 1764), (1248, 1664), (1440, 1440), (1662, 1246), (1764, 1176), (1920, 1080), (1980, 1048),
        (2036, 1018), (2078, 998),
    ),
    "2k": (
        (1176, 3136), (1256, 2930), (1330, 2770), (1358, 2716), (1398, 2640), (1412, 2612), (1440, 2560),
        (1518, 2428), (1568, 2352), (1662, 2216), (1920, 1920), (2218, 1664), (2352, 1568), (2560, 1440),
        (2638, 1396), (2716, 1358), (2772, 1330),
    ),
    "4k": (
        (1764, 4704), (1886, 4400), (1996, 4158), (2036, 4072), (2096, 3960), (2118, 3918), (2160, 3840),
        (2276, 3642), (2352, 3528), (2494, 3326), (2880, 2880), (3326, 2494), (3528, 2352), (3840, 2160),
        (3958, 2096), (4072, 2036), (4156, 1994),
    ),
}
# fmt: on

# Square sizes that other models are trained at; of Open-Sora's aspect ratios they have one, or none.
_SPARSE_SIZES: dict[str, dict[str, tuple[int, int]]] = {
    "256": {"12:25": (176, 368)},
    "512": {"12:25": (352, 736)},
    "1024": {"12:25": (704, 1472)},
    "2048": {"12:25": (1408, 2944)},
    "2880": {},
}

RESOLUTIONS: tuple[str, ...] = (*_SIZES, *_SPARSE_SIZES)

# Frames by name. "2s" is at 24 frames per second, and 51 frames are three chunks of the autoencoder.
# fmt: off
DURATIONS: dict[str, int] = {
    "1x": 51, "2x": 102, "4x": 204, "8x": 408, "16x": 816,
    "2s": 51, "4s": 102, "8s": 204, "16s": 408, "32s": 816,
}
# fmt: on


def video_size(resolution: str, aspect: str) -> tuple[int, int]:
    """Height and width in pixels, such as (240, 426) for "240p" and "9:16".

    Raises: BadRequest, naming the choices, if one of the names is unknown or there is no such pair.
    """
    if resolution not in RESOLUTIONS:
        raise BadRequest(f"Unknown resolution {resolution!r}: choose one of {', '.join(RESOLUTIONS)}.")
    if aspect not in ASPECT_RATIOS:
        raise BadRequest(f"Unknown aspect ratio {aspect!r} (height:width): choose one of {', '.join(ASPECT_RATIOS)}.")
    if resolution in _SIZES:
        return _SIZES[resolution][ASPECT_RATIOS.index(aspect)]
    sizes = _SPARSE_SIZES[resolution]
    if aspect not in sizes:
        choices = f"choose {' or '.join(sizes)}, or give" if sizes else "give"
        raise BadRequest(f"Resolution {resolution} has no size for {aspect}: {choices} height and width in pixels.")
    return sizes[aspect]


def num_frames_for(duration: str | int) -> int:
    """Frames of a clip, by name ("2s", "4x") or as a number.

    Raises: BadRequest, naming the choices, if it is neither, or less than 1.
    """
    if duration in DURATIONS:
        return DURATIONS[str(duration)]
    try:
        num_frames = int(duration)
    except ValueError:
        num_frames = 0
    if num_frames < 1:
        choices = ", ".join(DURATIONS)
        raise BadRequest(f"Unknown duration {str(duration)!r}: choose one of {choices}, or give a number of frames.")
    return num_frames


def latent_size(num_frames: int, height: int, width: int) -> tuple[int, int, int]:
    """Frames, rows and columns of a clip's latents: 5 for each 17 frames, a quarter of what is left; an eighth of the
    pixels. Sizes that do not divide are rounded up."""
    chunks, rest = divmod(num_frames, 17)
    return 5 * chunks + -(-rest // 4), -(-height // 8), -(-width // 8)
