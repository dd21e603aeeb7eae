"""A server of Google's store for tests: as much of its JSON interface as reading takes.

It runs as a process of its own, since pyarrow waits for it with the interpreter locked.
    python gs_server.py FOLDER      a folder of buckets; prints the port it listens on at 127.0.0.1
"""

from __future__ import annotations

import http.server
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class Store(http.server.BaseHTTPRequestHandler):
    """List below a prefix, describe an object, read it."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, root: Path) -> None:
        self.root = root  # holds a folder for each bucket
        super().__init__(*args)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = parse_qs(parts.query)
        bucket, _, key = unquote(parts.path.partition("/b/")[2]).partition("/o")
        key = key.removeprefix("/")
        folder = self.root / bucket
        if not folder.is_dir() or (key and not (folder / key).is_file()):
            return self.send_error(404)
        if key and asked.get("alt") == ["media"]:
            body = (folder / key).read_bytes()
        elif key:
            body = json.dumps(self.described(bucket, key)).encode()
        else:
            body = json.dumps(self.listing(bucket, asked.get("prefix", [""])[0], "delimiter" in asked)).encode()
        first, last = 0, len(body)
        if "Range" in self.headers:
            begin, _, end = self.headers["Range"].removeprefix("bytes=").partition("-")
            first, last = int(begin), min(last, int(end or last) + 1)
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(last - first))
        self.send_header("Content-Range", f"bytes {first}-{last - 1}/{len(body)}")
        self.end_headers()
        self.wfile.write(body[first:last])
        return None

    def listing(self, bucket: str, prefix: str, flat: bool) -> dict[str, Any]:
        folder = self.root / bucket
        keys = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        keys = [key for key in keys if key.startswith(prefix)]
        deeper = [key for key in keys if flat and "/" in key[len(prefix) :]]
        folders = sorted({prefix + key[len(prefix) :].partition("/")[0] + "/" for key in deeper})
        items = [self.described(bucket, key) for key in keys if key not in deeper]
        return {"kind": "storage#objects", "items": items, "prefixes": folders}

    def described(self, bucket: str, key: str) -> dict[str, Any]:
        size = str((self.root / bucket / key).stat().st_size)
        when = "2024-01-01T00:00:00Z"
        return {
            "kind": "storage#object",
            "bucket": bucket,
            "name": key,
            "size": size,
            "generation": "1",
            "updated": when,
        }

    def log_message(self, *args: Any) -> None:
        pass


if __name__ == "__main__":
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Store, root=Path(sys.argv[1]))) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
