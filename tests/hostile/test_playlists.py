"""Media files that name other files: what they point to is never opened, whatever they call themselves."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest
from attacks import multipart

from chai_app.errors import BadMedia
from chai_app.media.pictures import read_image
from chai_app.media.video import _SELF_CONTAINED, read_metadata, read_video, write_video
from chai_app.server.gallery import Gallery

POINTERS = {
    "playlist.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n",
    "master.m3u8": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n",
    "map.m3u8": '#EXTM3U\n#EXT-X-MAP:URI="{url}"\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n',
    "list.ffconcat": "ffconcat version 1.0\nfile '{url}'\n",
    "list.txt": "file '{url}'\n",
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "manifest.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" mediaPresentationDuration="PT1S">'
    '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{url}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
    "stream.ism": '<?xml version="1.0"?><SmoothStreamingMedia><!-- {url} --></SmoothStreamingMedia>',
    "script.avs": 'DirectShowSource("{url}")\n',
    "script.vpy": "import vapoursynth\n# {url}\n",
    "redirect.mov": "RTSPtext {url}\n",
    "reference.ram": "{url}\n",
    "graph.lavfi": "movie={url}",
}


@pytest.fixture
def secret(tmp_path) -> Path:
    """A video of somebody else, outside of everything."""
    folder = tmp_path / "secret"
    folder.mkdir()
    return write_video(folder / "secret.mp4", np.full((9, 32, 48, 3), 200, np.uint8), 8, {"chai": {}}).path


@pytest.fixture
def listener():
    """A port of this machine; `calls()` says whether anybody has come."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        yield server


def has_called(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("name", POINTERS)
@pytest.mark.parametrize("disguise", ["", ".mp4", ".webm", ".gif", ".png"])
def test_what_a_media_file_points_to_is_never_opened(name, disguise, secret, listener, tmp_path):
    port = listener.getsockname()[1]
    for url in (str(secret), secret.as_uri(), f"http://127.0.0.1:{port}/x.mp4", secret.name):
        path = secret.parent / f"{name}{disguise}"  # beside the secret, as relative names would need it
        path.write_text(POINTERS[name].format(url=url, port=port))
        for read in (read_video, read_metadata, read_image):
            with pytest.raises(BadMedia):
                read(path)
    assert not has_called(listener)


def test_a_picture_that_is_a_program_is_not_run(tmp_path):
    path = tmp_path / "picture.png"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file\nshowpage\n%%EOF\n")
    for read in (read_image, read_video, read_metadata):
        with pytest.raises(BadMedia):
            read(path)


def test_names_are_names_and_no_patterns_or_addresses(tmp_path, monkeypatch):
    frames = np.zeros((1, 32, 48, 3), np.uint8)
    for i in range(3):
        write_video(tmp_path / f"a{i}.png", frames, 8)
    monkeypatch.chdir(tmp_path)
    for name in ("a%d.png", "concat:a0.png|a1.png", "file:a0.png", "subfile,,start,0,end,9,,:a0.png"):
        with pytest.raises(BadMedia, match="There is no video at"):
            read_video(Path(name))
        Path(name).write_bytes(b"of that very name")
        with pytest.raises(BadMedia, match="is not a video that can be read"):
            read_video(Path(name))


def test_every_format_that_is_read_is_one_that_ffmpeg_has():
    import av

    names = {name for formats in av.formats_available for name in formats.split(",")}
    assert set(_SELF_CONTAINED.split(",")) <= names


def test_videos_are_known_by_what_is_in_them(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (9, 32, 48, 3), dtype=np.uint8)
    for suffix in (".mp4", ".webm", ".gif"):
        path = write_video(tmp_path / f"a{suffix}", frames, 8, {"chai": {"x": suffix}}).path
        assert read_metadata(path)["chai"] == {"x": suffix}
        renamed = path.rename(tmp_path / f"{suffix[1:]}.bin.mkv")
        assert read_video(renamed).frames.shape == frames.shape


def test_an_uploaded_playlist_leads_nowhere_and_one_among_the_videos_neither(site, secret, tmp_path):
    playlist = POINTERS["playlist.m3u8"].format(url=secret, port=1)
    for name in ("x.m3u8", "x.mp4"):
        body, kind = multipart(name, playlist.encode())
        _, _, told = site.ask("POST", "/gradio_api/upload", body, Content_Type=kind)
        (path,) = json.loads(told)
        ask = json.dumps({"data": ["a boat", {"extend": path}]})
        _, _, event = site.ask("POST", "/gradio_api/call/plan", ask, Content_Type="application/json")
        address = f"/gradio_api/call/plan/{json.loads(event)['event_id']}"
        import urllib.request

        with urllib.request.urlopen(f"{site.started.url}{address[1:]}", timeout=60) as answer:
            told = answer.read().decode()
        assert "event: error" in told and "is not a video that can be read" in told
    gallery = Gallery(tmp_path, tmp_path / "thumbnails")
    (tmp_path / "x.mp4").write_text(playlist)
    (item,) = gallery.items()
    assert (item.request, gallery.thumbnail(item)) == (None, None)
    site.studio.files.sweep(everything=True)
