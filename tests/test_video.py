"""What a video file promises: it holds the frames, the right speed and colours, and its metadata, or is not there."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from chai_app.errors import BadMedia, BadRequest, CannotWrite
from chai_app.media import video
from chai_app.media.chroma import yuv420
from chai_app.media.pictures import read_image
from chai_app.media.video import check_writable, final_path, glimpse, read_metadata, read_video, write_video

METADATA = {"chai": {"request": {"prompt": 'ein roter Ball, „schön" ⟨x⟩\nline two', "seed": 7}, "report": {"fps": 8}}}
COLOURS = {"red": (200, 30, 40), "blue": (20, 90, 220), "yellow": (240, 220, 30)}


def stripes(num_frames: int = 9, height: int = 48, width: int = 64) -> np.ndarray:
    """Calm coloured stripes with a white box that walks to the right: uint8 (T, H, W, 3)."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    for i, colour in enumerate(COLOURS.values()):
        frames[:, :, i * width // 3 :] = colour
    for i in range(num_frames):
        frames[i, 4:12, 2 * i : 2 * i + 8] = 255
    return frames


def encoded(path: Path, frames, pix_fmt: str, codec: str, options: dict, times=None, matrix=None) -> Path:
    """A video by another program: frames as PyAV takes them in `pix_fmt`, at 8 a second or at `times` in ms."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8, options=options)
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.set_display_matrix(matrix)
        pictures = [av.VideoFrame.from_ndarray(pixels, format=pix_fmt) for pixels in frames]
        stream.width, stream.height, stream.pix_fmt = pictures[0].width, pictures[0].height, pix_fmt
        for i, frame in enumerate(pictures):
            frame.pts, frame.time_base = times[i] if times else 125 * i, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small disk of its own at `folder`; the test is passed over where such a disk may not be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".png"])
def test_frames_speed_and_metadata_come_back(tmp_path, suffix):
    frames = stripes(height=96, width=192)
    written = write_video(tmp_path / f"clip{suffix}", frames, 8, METADATA)
    clip = read_video(written.path)
    assert clip.frames.shape == frames.shape
    assert clip.fps == pytest.approx(8, rel=0.02)
    assert np.abs(clip.frames.astype(int) - frames).mean() < 3
    assert read_metadata(written.path) == METADATA
    assert written.size_bytes > 0 and written.notes == ()
    assert sorted(p.name for p in tmp_path.iterdir()) == [written.path.name]


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_colours_are_right_within_rounding(tmp_path, suffix):
    """4:2:0 rounds and smears edges; the middle of a stripe must be right to 4 of 255."""
    clip = read_video(write_video(tmp_path / f"clip{suffix}", stripes(), 8).path)
    for i, colour in enumerate(COLOURS.values()):
        assert np.abs(clip.frames[:, 40, 10 + i * 64 // 3].astype(int) - colour).max() <= 4


def coloured(num_frames: int = 9, height: int = 64, width: int = 96) -> np.ndarray:
    """A red box and a yellow ball that move over a soft background: uint8 (T, H, W, 3)."""
    rows, columns = np.mgrid[:height, :width]
    frames = np.stack([np.stack([90 + rows, 150 - rows // 2, 200 - columns], -1)] * num_frames).astype(np.uint8)
    for i, frame in enumerate(frames):
        frame[30:54, 10 + 2 * i : 40 + 2 * i] = (210, 30, 35)
        frame[(rows - 18) ** 2 + (columns - 70 + i) ** 2 < 120] = (240, 220, 30)
    return frames


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_video_that_is_read_and_written_again_and_again_keeps_its_colours(tmp_path, suffix):
    """4:2:0 costs what it costs the first time, and nothing after: the rest is the codec's own loss."""
    frames = again = coloured()
    errors = []
    for _ in range(8):
        again = read_video(write_video(tmp_path / f"clip{suffix}", again, 8).path).frames
        errors.append(np.abs(again.astype(int) - frames).mean())
    assert errors[0] < 2.5
    assert errors[-1] < errors[0] + 0.3


@pytest.mark.parametrize("size", [(16, 16), (64, 96), (48, 250)])
def test_planes_that_are_read_are_written_as_they_were(tmp_path, size):
    height, width = size
    planes = np.random.default_rng(0).uniform(100, 150, (height * 3 // 2, width)).astype(np.uint8)
    options = {"qp": "0", "chroma_sample_location": "left", "colorspace": "bt709"}
    path = encoded(tmp_path / "exact.mp4", [planes], "yuv420p", "libx264", options)
    again = yuv420(read_video(path).frames[0]).astype(int)
    assert np.abs(again - planes).max() <= 2, "red, green and blue are whole numbers"


def test_colour_stands_on_even_columns_and_between_rows():
    rows, columns = np.mgrid[:64, :64]
    for ramp, places in ((columns, np.arange(32) * 2), (rows.T, np.arange(32) * 2 + 0.5)):
        frame = np.zeros((64, 64, 3), np.uint8)
        frame[..., 0] = ramp * 3 if ramp is columns else ramp.T * 3
        v = yuv420(frame)[80:].reshape(32, 32)
        told = (v if ramp is columns else v.T)[16].astype(float)
        expected = 128 + 3 * places * 112 / 255  # V of BT.709, where only red grows
        assert np.abs(told - expected)[4:28].max() <= 0.6


def test_mp4_is_what_browsers_play(tmp_path):
    path = write_video(tmp_path / "clip.mp4", stripes(), 23.976, METADATA).path
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == pytest.approx(23.976)
        assert stream.frames == 9
        assert next(container.decode(stream)).colorspace == 1  # BT.709, said aloud
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index stands in front"


def test_odd_sizes_gain_one_row_or_column_and_say_so(tmp_path):
    frames = stripes(height=95, width=191)
    written = write_video(tmp_path / "odd.mp4", frames, 8)
    clip = read_video(written.path)
    assert clip.frames.shape == (9, 96, 192, 3)
    assert np.abs(clip.frames[:, :95, :191].astype(int) - frames).mean() < 3
    assert written.notes == ("mp4 needs even sizes: the last row or column is doubled to 192x96.",)
    assert write_video(tmp_path / "odd.gif", frames, 8).notes == ()


def test_one_frame_as_png_is_one_exact_picture(tmp_path):
    frames = stripes(num_frames=1)
    written = write_video(tmp_path / "still.png", frames, 24, METADATA)
    assert written.path == tmp_path / "still.png"
    assert np.array_equal(read_image(written.path), frames[0])
    assert read_metadata(written.path) == METADATA


def test_several_frames_as_png_are_a_folder_of_exact_pictures(tmp_path):
    frames = stripes()
    write_video(tmp_path / "clip.png", stripes(num_frames=12), 8)
    written = write_video(tmp_path / "clip.png", frames, 8, METADATA)  # replaces the twelve
    assert written.path == final_path(tmp_path / "clip.png", 9) == tmp_path / "clip"
    assert sorted(p.name for p in written.path.iterdir()) == [f"{i:04d}.png" for i in range(1, 10)]
    assert np.array_equal(read_video(written.path).frames, frames)


def test_a_folder_with_other_things_is_never_replaced_by_frames(tmp_path):
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "diary.txt").write_text("mine")
    with pytest.raises(CannotWrite, match="holds other things"):
        check_writable(tmp_path / "clip.png", 9)
    with pytest.raises(CannotWrite, match="holds other things"):
        write_video(tmp_path / "clip.png", stripes(), 8)
    assert (tmp_path / "clip" / "diary.txt").read_text() == "mine"


def test_a_gif_keeps_the_length_of_the_clip(tmp_path):
    """A gif counts in 1/100 s, so 24 frames a second cannot be told frame by frame: the sum must be right."""
    path = write_video(tmp_path / "clip.gif", stripes(num_frames=24), 24).path
    with av.open(str(path)) as container:
        seconds = sum(float(p.duration * p.time_base) for p in container.demux(video=0) if p.duration)
    assert seconds == pytest.approx(1.0, abs=0.02)


def test_unknown_kind_of_file_is_refused_with_the_choices(tmp_path):
    for name in ("clip.avi", "clip"):
        with pytest.raises(BadRequest, match=r"end its name in \.mp4, \.webm, \.gif, \.png"):
            check_writable(tmp_path / name, 9)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    for attempt in (lambda p: check_writable(p, 9), lambda p: write_video(p, stripes(), 8)):
        with pytest.raises(CannotWrite, match="nowhere is not there: make it first"):
            attempt(tmp_path / "nowhere" / "clip.mp4")


def test_a_closed_folder_is_named(tmp_path, monkeypatch):
    """Made by hand, since root may write everywhere."""

    def refused(self, *_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refused)
    with pytest.raises(CannotWrite, match=r"clip\.mp4 cannot be written, because .* is closed to you"):
        check_writable(tmp_path / "clip.mp4", 9)


def test_a_folder_on_a_read_only_disk_is_named(tmp_path):
    with mounted(tmp_path / "disk", "ro"), pytest.raises(CannotWrite, match="is closed to you: name another place"):
        check_writable(tmp_path / "disk" / "clip.mp4", 9)


def test_a_full_disk_leaves_the_older_video_and_nothing_else(tmp_path, monkeypatch):
    path = write_video(tmp_path / "clip.mp4", stripes(), 8, METADATA).path
    before = path.read_bytes()

    def disk_full(temporary, *_):
        temporary.write_bytes(b"half a video")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(video, "_encode", disk_full)
    with pytest.raises(CannotWrite, match=r"The disk is full, so .*clip\.mp4 was not written"):
        write_video(path, stripes(), 8)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".png"])
def test_a_really_full_disk_is_told_in_one_sentence(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(video, "check_folder", lambda path: None)  # it would refuse so small a disk beforehand
    noise = np.random.default_rng(0).integers(0, 256, (9, 128, 128, 3), dtype=np.uint8)
    with mounted(tmp_path / "disk", "size=16k"):
        with pytest.raises(CannotWrite, match="The disk is full"):
            write_video(tmp_path / "disk" / f"clip{suffix}", noise, 8)
        assert list((tmp_path / "disk").iterdir()) == []


def test_a_disk_without_room_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(CannotWrite, match="is full: free some space"):
        check_writable(tmp_path / "clip.mp4", 9)


def test_what_cannot_be_read_is_named(tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("this is no video")
    for read in (read_video, read_metadata):
        with pytest.raises(BadMedia, match=r"notes\.mp4 is not a video that can be read"):
            read(text)
        with pytest.raises(BadMedia, match="There is no video"):
            read(tmp_path / "missing.mp4")
    with pytest.raises(BadMedia, match=r"notes\.mp4 is not a picture that can be read"):
        read_image(text)
    with pytest.raises(BadMedia, match="There is no picture"):
        read_image(tmp_path / "missing.png")


# -- as people bring them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_a_video_that_says_how_it_is_turned_is_read_upright(tmp_path, turns, is_mirrored):
    scene = coloured(1, 64, 96)[0]
    a, b = ((1, 0), (0, 1), (-1, 0), (0, -1))[turns]  # a turn to the right, as phones write it
    matrix = [a, b, 0, -b, a, 0, 0, 0, 1 << 14]
    stored = np.rot90(scene, turns)
    if is_mirrored:
        matrix[:2], stored = [-a, -b], stored[:, ::-1]
    options = {"qp": "0"}
    path = encoded(
        tmp_path / "phone.mp4", [np.ascontiguousarray(stored)] * 3, "rgb24", "libx264rgb", options,
        matrix=[65536 * each for each in matrix],
    )  # fmt: skip
    clip = read_video(path)
    assert clip.frames.shape == (3, *scene.shape)
    assert np.array_equal(clip.frames[0], scene)


def levels(clip) -> list[int]:
    """The brightness of each frame, in tens."""
    return [round(float(frame.mean()) / 10) for frame in clip.frames]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_frames_that_come_unevenly_are_shown_when_they_should_be(tmp_path, suffix):
    frames = [np.full((32, 48, 3), 10 * level, np.uint8) for level in (1, 5, 9, 13)]
    codec, pix_fmt = ("libvpx-vp9", "gbrp") if suffix == ".webm" else ("libx264rgb", "rgb24")
    path = encoded(tmp_path / f"uneven{suffix}", frames, pix_fmt, codec, {}, times=[0, 125, 750, 875])
    clip = read_video(path)
    assert clip.fps == pytest.approx(8, rel=0.01)
    assert levels(clip) == [1, 5, 5, 5, 5, 5, 9, 13]


@pytest.mark.parametrize("fps", [8, 12.5, 23.976, 24, 30, 50, 60, 100])
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_frames_that_come_evenly_are_each_read_once(tmp_path, fps, suffix):
    frames = np.stack([np.full((16, 16, 3), 7 * i, np.uint8) for i in range(33)])
    clip = read_video(write_video(tmp_path / f"even{suffix}", frames, fps, {"chai": {"report": {"fps": fps}}}).path)
    assert clip.fps == fps
    assert np.abs(clip.frames.mean((1, 2, 3)) - frames.mean((1, 2, 3))).max() < 4


def test_a_gif_keeps_the_pace_of_its_moving_part(tmp_path):
    pictures = [Image.new("RGB", (48, 32), (10 * i, 90, 90)) for i in range(10)]
    for name, durations, fps, num_frames in (
        ("even", [70] * 10, 100 / 7, 10),
        ("pause", [100] * 9 + [3000], 10, 9 + 30),
    ):
        path = tmp_path / f"{name}.gif"
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations)
        clip = read_video(path)
        assert (clip.fps, len(clip.frames)) == (pytest.approx(fps), num_frames)


def test_a_bare_stream_without_times_is_read_frame_by_frame(tmp_path):
    frames = [np.full((48, 48), level, np.uint8) for level in range(20, 220, 10)]
    path = encoded(tmp_path / "bare.h264", frames, "yuv420p", "libx264", {})
    assert len(read_video(path).frames) == 20


def test_a_picture_with_notes_that_pyav_does_not_know_is_read_as_a_video(tmp_path):
    Image.new("RGB", (48, 32), (10, 90, 90)).save(tmp_path / "still.tiff")
    assert read_video(tmp_path / "still.tiff").frames.shape == (1, 32, 48, 3)


def test_our_gif_with_still_frames_is_read_as_all_its_frames(tmp_path):
    frames = np.zeros((17, 32, 48, 3), np.uint8)
    frames[5:], frames[9:] = 90, 200
    path = write_video(tmp_path / "still.gif", frames, 8, METADATA).path
    assert np.abs(read_video(path).frames.astype(int) - frames).max() < 4
    assert glimpse(path).num_frames == 17


def test_a_pause_that_never_ends_is_cut_short(tmp_path):
    frames = [np.full((32, 48, 3), level, np.uint8) for level in (10, 50)]
    path = encoded(tmp_path / "pause.mkv", frames, "rgb24", "libx264rgb", {}, times=[0, 10**9])
    assert len(read_video(path).frames) <= 60 * 60 + 1


def test_a_video_that_breaks_off_is_read_as_far_as_it_is_whole(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 64, 96, 3), dtype=np.uint8)
    path = write_video(tmp_path / "whole.mp4", noise, 8).path
    assert read_video(path).missing_s == 0
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip = read_video(broken)
    assert 8 <= len(clip.frames) <= 24
    assert clip.missing_s == pytest.approx(4 - len(clip.frames) / 8, abs=0.2)
    assert np.array_equal(clip.frames, read_video(path).frames[: len(clip.frames)])


def test_what_is_transparent_in_a_moving_picture_lies_on_white(tmp_path):
    picture = Image.new("RGBA", (48, 32), (200, 0, 0, 0))
    picture.paste((0, 0, 200, 255), (0, 0, 24, 32))
    other = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for suffix in (".gif", ".png"):
        path = tmp_path / f"clear{suffix}"
        picture.save(path, save_all=True, append_images=[other], duration=100, disposal=2)
        frames = read_video(path).frames
        assert np.abs(frames[0][:, :20].astype(int) - (0, 0, 200)).max() < 8
        assert frames[0][:, 28:].min() == 255


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_what_is_transparent_in_a_picture_lies_on_white(tmp_path, mode):
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.paste((200, 200, 200, 255), (0, 0, 4, 8))
    how = {"P": {"transparency": 0}, "RGB": {"transparency": (0, 0, 0)}}.get(mode, {})
    if mode == "P":
        image = Image.fromarray((np.asarray(clear)[..., 3] > 0).astype(np.uint8))
        image.putpalette([0, 0, 0, 200, 200, 200])
    else:
        image = clear.convert(mode)
    image.save(tmp_path / "clear.png", **how)
    picture = read_image(tmp_path / "clear.png")
    assert (picture[:, 4:] == 255).all() and (picture[:, :4] == 200).all()


def test_what_is_half_transparent_lets_white_through(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 128)).save(tmp_path / "half.webp", lossless=True)
    assert np.abs(read_image(tmp_path / "half.webp")[0, 0].astype(int) - (255, 127, 127)).max() <= 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [(f"grey.{suffix}", np.uint16) for suffix in ("png", "tif", "pgm")]
    + [("grey.tif", kind) for kind in (np.int32, np.float32)],
)
def test_deep_grey_keeps_its_levels(tmp_path, name, kind):
    levels = np.linspace(0, 1, 48 * 32).reshape(32, 48)
    Image.fromarray((levels * (1 if kind is np.float32 else 65535)).astype(kind)).save(tmp_path / name)
    picture = read_image(tmp_path / name)
    assert picture.shape == (32, 48, 3)
    assert np.abs(picture[..., 0] - levels * 255).max() <= 1


def test_a_video_of_someone_else_has_no_metadata_of_ours(tmp_path):
    assert read_metadata(write_video(tmp_path / "plain.mp4", stripes(), 8).path) == {}
    assert read_metadata(write_video(tmp_path / "plain.gif", stripes(), 8).path) == {}
