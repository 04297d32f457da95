"""What other web pages can do to a server by way of a person's browser: nothing."""

import json
import os

import pytest
from attacks import FOREIGN, files_in, multipart

from chai_app.server.uploads import Uploads
from ui.doors import Doors, Tries

PURGE_ALL = {"act": "purge", "args": {"since": "1970-01-02"}}
# How a browser tells of a foreign page: by one of these at least.
FOREIGN_PAGES = [
    {"Origin": FOREIGN},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},  # another program of this machine
    {"Origin": "http://127.0.0.1"},
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
    {"Referer": f"{FOREIGN}/page"},
]


@pytest.mark.parametrize("page", FOREIGN_PAGES, ids=str)
def test_a_foreign_page_changes_and_reads_nothing(any_site, page):
    keep = any_site.studio.settings.output_folder / "keep.mp4"
    keep.write_bytes(b"a video")
    for act in (PURGE_ALL, {"act": "view_gallery", "args": {}}):
        status, words = any_site.call("act", act, **page)
        assert status == 403 and "Another web page may not use this server" in words
    assert any_site.call("poll", {}, **page)[0] == 403
    body, kind = multipart("x.png", b"data")
    asks = [
        ("POST", "/gradio_api/upload", body, {"Content_Type": kind}),
        ("POST", "/gradio_api/queue/join", "{}", {"Content_Type": "application/json"}),
        ("POST", "/gradio_api/call/submit", "{}", {"Content_Type": "application/json"}),
        ("POST", "/gradio_api/cancel", "{}", {"Content_Type": "application/json"}),
        ("POST", "/login", "username=a&password=b", {"Content_Type": "application/x-www-form-urlencoded"}),
        ("GET", f"/gradio_api/file={keep}", None, {}),
        ("GET", "/gradio_api/queue/data?session_hash=any", None, {}),
        ("GET", "/gradio_api/heartbeat/any", None, {}),
        ("GET", "/gradio_api/info", None, {}),
        ("GET", "/config", None, {}),
        ("GET", "/logout", None, {}),
    ]
    for method, path, content, headers in asks:
        status, told, _ = any_site.ask(method, path, content, **page, **headers)
        assert status == 403, path
        assert not any(name.startswith("access-control-") for name in told), path
    assert keep.is_file() and files_in(any_site.studio.uploads) == []


def test_no_foreign_page_is_given_leave_to_ask(any_site):
    told = any_site.ask(
        "OPTIONS",
        "/gradio_api/component_server",
        Origin=FOREIGN,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Private_Network="true",
    )
    assert told[0] == 403 and not any(name.startswith("access-control-") for name in told[1])


def test_a_foreign_page_opens_no_socket(site):
    status, _, _ = site.ask(
        "GET", "/gradio_api/queue/join", Origin=FOREIGN, Upgrade="websocket", Connection="Upgrade",
        Sec_WebSocket_Key="x" * 24, Sec_WebSocket_Version="13",
    )  # fmt: skip
    assert status == 403


def test_a_link_from_elsewhere_opens_the_page_and_nothing_else(any_site):
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert any_site.ask("GET", "/", **link)[0] == 200
    assert any_site.ask("GET", "/", **{**link, "Sec_Fetch_Dest": "iframe"})[0] == 403
    assert any_site.ask("GET", "/config", **link)[0] == 403
    assert any_site.ask("POST", "/", "", **link)[0] == 403


def test_the_page_itself_and_programs_are_served(any_site):
    own = f"http://127.0.0.1:{any_site.port}"
    for who in ({}, {"Origin": own}, {"Origin": own, "Sec_Fetch_Site": "same-origin"}, {"Sec_Fetch_Site": "none"}):
        status, answer = any_site.call("poll", {}, **who)
        assert status == 200 and "html" in answer
    localhost = f"localhost:{any_site.port}"
    assert any_site.call("poll", {}, Host=localhost, Origin=f"http://{localhost}")[0] == 200


def test_every_answer_tells_the_browser_to_keep_others_out(any_site):
    for path in ("/", "/config", "/theme.css", "/nothing-here", "/gradio_api/file=/etc/passwd"):
        _, told, _ = any_site.ask("GET", path)
        assert told["x-content-type-options"] == "nosniff", path
        assert told["x-frame-options"] == "DENY" and "frame-ancestors 'none'" in told["content-security-policy"], path
        assert told["cross-origin-resource-policy"] == "same-origin", path
    _, told, _ = any_site.ask("GET", "/config", Origin=FOREIGN)
    assert told["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["page.html", "picture.svg", "x.xhtml", "x.xml", "x.js", "notes.txt", "x.pdf"])
def test_only_pictures_and_videos_open_in_the_browser(site, name):
    path = site.studio.settings.output_folder / name
    path.write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    for headers in ({}, {"Range": "bytes=0-10", "Cookie": "secret=1"}):
        status, told, _ = site.ask("GET", f"/gradio_api/file={path}", **headers)
        assert status in (200, 206)
        assert told["content-disposition"].startswith("attachment")
        assert told["content-type"] == "application/octet-stream" and "sandbox" in told["content-security-policy"]
        assert "cookie" not in told
    picture = path.with_suffix(".png")
    picture.write_bytes(b"png")
    _, told, _ = site.ask("GET", f"/gradio_api/file={picture}")
    assert told["content-type"] == "image/png" and not told["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/proxy=https://evil.hf.space/", "/gradio_api/file=https://example.com/x.png", "/monitoring",
     "/gradio_api/file=http%3A//example.com/x.png", "/gradio_api/deep_link?session_hash=any", "/gradio_api/dev/reload",
     "/gradio_api/vibe-code", "/gradio_api/runs"],
)  # fmt: skip
def test_doors_of_gradio_that_nobody_needs_are_closed(site, path):
    assert site.ask("GET", path)[0] == 403


def test_behind_a_password_cookies_stay_with_the_page_and_guessing_ends(open_site):
    site = open_site(user="me", password="a long one")
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    status, told, _ = site.ask("POST", "/login", "username=me&password=a+long+one", **form)
    assert status == 200 and "samesite=lax" in told["set-cookie"].lower() and "none" not in told["set-cookie"].lower()
    assert site.call("act", PURGE_ALL)[0] == 401
    statuses = [site.ask("POST", "/login", f"username=me&password={i}", **form)[0] for i in range(12)]
    assert statuses == [400] * 10 + [429] * 2
    status, told, words = site.ask("POST", "/login", "username=me&password=a+long+one", **form)
    assert status == 429 and int(told["retry-after"]) > 500 and b"try again in 10 minutes" in words
    assert site.call("poll", {}, Origin=FOREIGN)[0] == 403


def test_tries_are_forgotten_after_a_while_and_limited_over_all_addresses():
    now = [0.0]
    tries = Tries(lambda: now[0])
    assert [tries.begin("a") > 0 for _ in range(11)] == [False] * 10 + [True]
    assert tries.begin("b") == 0
    now[0] = 601
    assert tries.begin("a") == 0
    tries.succeeded("a")
    assert sum(tries.begin(f"address {i}") == 0 for i in range(200)) == 100


def test_uploads_have_a_total_and_an_expiry_and_what_is_in_use_stays(tmp_path):
    now, used = [1e9], set()
    uploads = Uploads((tmp_path,), lambda: used, most_bytes=100, kept_s=10, clock=lambda: now[0])

    def put(name, moment):
        path = tmp_path / name / "x.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"0" * 40)
        os.utime(path, (moment, moment))
        return path

    old, used_one, new = put("old", 1e9 - 11), put("used", 1e9 - 20), put("new", 1e9 - 1)
    used.add(used_one.resolve())
    uploads.sweep()
    assert [old.exists(), used_one.exists(), new.exists()] == [False, True, True]
    assert uploads.may_come(40) and not uploads.may_come(40)  # beside 40 in use
    put("newer", 1e9)
    assert new.exists()
    uploads.arrived(40)
    assert [used_one.exists(), new.exists()] == [True, False]  # 120 of 100: the oldest gives way
    assert not uploads.may_come(70) and used_one.exists()
    uploads.sweep(everything=True)
    assert files_in(tmp_path) == [used_one]


def test_an_upload_beyond_the_total_is_refused_before_it_is_read(site, monkeypatch):
    monkeypatch.setattr(site.studio.files, "_most_bytes", 1_000)
    body, kind = multipart("x.png", b"0" * 2_000)
    status, _, words = site.ask("POST", "/gradio_api/upload", body, Content_Type=kind)
    assert (status, files_in(site.studio.uploads)) == (413, []) and b"no room" in words
    body, kind = multipart("x.png", b"0" * 100)
    status, _, told = site.ask("POST", "/gradio_api/upload", body, Content_Type=kind)
    assert status == 200 and len(json.loads(told)) == 1
    site.studio.files.sweep(everything=True)
    assert files_in(site.studio.uploads) == []


def test_nothing_passes_beside_the_door(site):
    assert isinstance(site.started.blocks.app.middleware_stack, Doors)
