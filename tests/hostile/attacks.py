"""What an attacker has: raw HTTP, forms, and a look at the disk."""

import http.client
import json
from pathlib import Path
from urllib.parse import urlsplit

FOREIGN = "https://evil.example"


class Site:
    """A running server, asked in raw HTTP: every header is the attacker's choice."""

    def __init__(self, started):
        self.started, self.studio = started, started.studio
        self.port = urlsplit(started.url).port

    def ask(self, method, path, body=None, address="127.0.0.1", **headers):
        """Returns: status, headers (names in small letters), body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(address, self.port, timeout=120)
        try:
            connection.putrequest(method, path, skip_host="Host" in named, skip_accept_encoding=True)
            content = body.encode() if isinstance(body, str) else body
            if content is not None:
                named["Content-Length"] = str(len(content))
            for name, value in named.items():
                connection.putheader(name, value)
            connection.endheaders(content)
            answer = connection.getresponse()
            read = b"" if "event-stream" in (answer.getheader("content-type") or "") else answer.read()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, read
        finally:
            connection.close()

    def call(self, fn, message, **headers):
        """What the page's script asks by `poll` or `act`, as a page of any origin can post it."""
        (bridge,) = (id for id, block in self.started.blocks.blocks.items() if block.elem_id == "c-bridge")
        body = {"data": message, "component_id": bridge, "fn_name": fn, "session_hash": "any"}
        headers.setdefault("Content_Type", "text/plain")
        status, _, answer = self.ask("POST", "/gradio_api/component_server", json.dumps(body), **headers)
        return status, json.loads(answer) if status == 200 else answer.decode()

    def visitor(self):
        """The cookie of a browser that has just opened the page."""
        _, headers, _ = self.ask("GET", "/")
        return headers["set-cookie"].split(";")[0]


def multipart(name: str, content: bytes) -> tuple[bytes, str]:
    """One file as a form sends it. Returns: the body, its content type."""
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    return head + content + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
