"""Under which names a server answers: its own, those it was told, and no name that somebody pointed at it."""

import socket

import pytest
from attacks import FOREIGN
from gradio_client import Client


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example", "evil", "8.8.8.8", "",
     "localhost@evil.example", "[::ffff:8.8.8.8]", "localhost/..", "10.1.2.3:{port}"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info", "/gradio_api/queue/data?session_hash=a"])
def test_a_foreign_name_is_not_answered(any_site, host, path):
    status, told, words = any_site.ask("GET", path, Host=host.format(port=any_site.port))
    assert status == 403, words
    assert told["content-type"].startswith("text/plain") and "set-cookie" not in told


def test_a_rebound_page_counts_as_foreign_although_it_calls_itself_the_same(any_site):
    rebound = {"Host": "evil.example", "Origin": "http://evil.example", "Sec_Fetch_Site": "same-origin"}
    status, words = any_site.call("poll", {}, **rebound)
    assert status == 403 and "--allow-host evil.example" in words
    assert any_site.ask("GET", "/", X_Forwarded_Host="evil.example")[0] == 403


def test_the_names_of_this_machine_are_answered(any_site):
    for host in ("127.0.0.1", "localhost", f"localhost:{any_site.port}", "LOCALHOST", "[::1]", "localhost."):
        assert any_site.ask("GET", "/config", Host=host)[0] == 200, host


def test_who_listens_to_the_network_answers_under_its_address_and_name(open_to_all, site):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
            address = probe.getsockname()[0]
        except OSError:
            pytest.skip("this machine has no network address")
    asked = {"Host": f"{address}:{open_to_all.port}", "Origin": f"http://{address}:{open_to_all.port}"}
    assert open_to_all.call("poll", {}, address=address, **asked)[0] == 200
    assert open_to_all.ask("GET", "/config", Host=socket.gethostname().lower())[0] == 200
    assert site.ask("GET", "/config", Host=address)[0] == 403


@pytest.mark.parametrize("passes_its_path_on", [True, False])
def test_behind_a_proxy_it_answers_under_the_name_and_path_it_was_given(open_site, passes_its_path_on):
    site = open_site(names=("videos.example",), root_path="/chai")
    prefix = "/chai" if passes_its_path_on else ""
    proxied = {"Host": "videos.example", "X_Forwarded_Proto": "https"}
    status, _, page = site.ask("GET", f"{prefix}/", **proxied)
    assert status == 200 and b"https://videos.example/chai" in page
    status, _, answer = site.ask("GET", f"{prefix}/config", **proxied)
    assert status == 200 and b'"root":"https://videos.example/chai"' in answer
    body = {"Origin": "https://videos.example", "Sec_Fetch_Site": "same-origin"}
    for host in ("videos.example", f"127.0.0.1:{site.port}"):  # some proxies pass the name on, others do not
        assert site.call("poll", {}, **body, Host=host)[0] == 200
    assert site.call("poll", {}, Host="videos.example", Origin=FOREIGN)[0] == 403
    assert site.call("poll", {}, Host="videos.example", Origin="https://videos.example:8443")[0] == 403
    assert site.ask("GET", "/", Host="other.example")[0] == 403
    status, told, _ = site.ask("GET", "/chai", **proxied)
    assert (status, told["location"]) == (307, "/chai/")
    video = site.studio.settings.output_folder / "a.mp4"
    video.write_bytes(b"a video")
    assert site.ask("GET", f"{prefix}/gradio_api/file={video}", **proxied)[0] == 200


def test_what_a_page_shows_is_relative_to_where_a_proxy_shows_it(site):
    from ui.markup import file_url

    assert file_url(site.studio.settings.output_folder / "a.mp4").startswith("gradio_api/file=")


def test_programs_of_this_machine_keep_working(any_site):
    client = Client(f"http://127.0.0.1:{any_site.port}/", verbose=False)
    assert isinstance(client.predict(api_name="/queue"), list)
    told = client.predict("a red ball", {"seed": 7, "num_inference_steps": 2}, api_name="/plan")
    assert told["request"]["seed"] == 7
