"""A server of the loopback that plays Zenodo and the drive, and does to files what networks do."""

import contextlib
import hashlib
import http.server
import json
import re
import sys
import threading
import types
import urllib.request


class Host(http.server.ThreadingHTTPServer):
    """Zenodo, whose record has `files`, and the drive, whose file is called ``uc``.

    `answers` are taken one after another, each by one request of a file: a number of bytes after which the line is cut,
    a status with headers, or the text of a page. When none is left, the file comes whole.
    """

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files, self.answers, self.asked, self.ranges, self.md5 = files, [], [], True, {}
        self.url = f"http://127.0.0.1:{self.server_port}"

    def record(self):
        return {
            "files": [
                {
                    "key": name,
                    "size": len(content),
                    "checksum": self.md5.get(name, f"md5:{hashlib.md5(content).hexdigest()}"),
                    "links": {"self": f"{self.url}/files/{name}"},
                }
                for name, content in self.files.items()
                if name != "uc"
            ]
        }


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def log_message(self, *_):
        pass

    def reply(self, status, content=b"", length=None, **headers):
        self.send_response(status)
        for key, value in {"Content-Length": len(content) if length is None else length, **headers}.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content)

    def do_GET(self):
        host = self.server
        host.asked.append((self.path, self.headers.get("Range"), self.headers["User-Agent"]))
        is_record = self.path.startswith("/api/")
        answer = None if is_record or not host.answers else host.answers.pop(0)
        if isinstance(answer, tuple):
            return self.reply(answer[0], **answer[1])
        if isinstance(answer, str):
            return self.reply(200, answer.encode(), Content_Type="text/html")
        if is_record:
            return self.reply(200, json.dumps(host.record()).encode(), Content_Type="application/json")
        content, begin = host.files[self.path.rpartition("/")[2]], 0
        if host.ranges and self.headers.get("Range"):
            begin = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
        headers = {"Content_Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"} if begin else {}
        end = len(content) if answer is None else begin + answer
        self.reply(206 if begin else 200, content[begin:end], len(content) - begin, **headers)


@contextlib.contextmanager
def played(files):
    """Start a host of files, by their names."""
    with Host(files) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def gdown_or_stub(monkeypatch):
    """Return gdown or what, of an address that is none of the drive's, does the same: it saves what comes."""
    try:
        import gdown
    except ImportError:
        gdown = types.ModuleType("gdown")

        def download(url, output, **_):
            with urllib.request.urlopen(url) as answer, open(output, "wb") as file:
                file.write(answer.read())

        gdown.download = download
        monkeypatch.setitem(sys.modules, "gdown", gdown)
    return gdown
