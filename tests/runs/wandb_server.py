"""A stand-in for W&B's server on this machine, which can refuse keys and stop answering."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VIEWER = {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}


class StandIn(ThreadingHTTPServer):
    """W&B's server, as far as runs and workspaces need it.

    Attributes:
        rows: The history that has arrived, by run.
        views: What has arrived of workspaces, by name.
        status: Of answers.
        silent: Set once there are none.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.status, self.silent = 200, threading.Event()
        self.ended = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        text = (gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).decode("utf-8", "replace")
        if self.server.silent.is_set():
            self.server.ended.wait()
            return
        answer = json.dumps(self._answer(text)).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_POST

    def _answer(self, text: str) -> Any:
        if self.path.endswith("/file_stream"):
            lines = json.loads(text).get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            self.server.rows.setdefault(self.path.split("/")[-2], []).extend(map(json.loads, lines))
            return {"limits": {}}
        if not self.path.startswith("/graphql"):
            return {}
        content = json.loads(text)
        if "UpsertView2" in content["query"]:
            view = content["variables"]
            self.server.views[view["name"]] = view
            return {"data": {"upsertView": {"view": {"id": "v", "name": view["name"]}, "inserted": True}}}
        if "allViews" in content["query"]:
            found = [
                self.server.views[name] for name in [content["variables"]["viewName"]] if name in self.server.views
            ]
            nodes = [{"id": "v", "displayName": view["displayName"], "spec": view["spec"]} for view in found]
            return {"data": {"project": {"allViews": {"edges": [{"node": node} for node in nodes]}}}}
        if "UpsertBucket" in content["query"]:
            project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "me"}}
            bucket = {"id": "b", "name": content["variables"]["name"], "project": project}
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        if "CreateRunFiles" in content["query"]:
            files = [{"name": name, "uploadUrl": f"{self.server.address}/up"} for name in content["variables"]["files"]]
            return {"data": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}}
        return {"data": {"viewer": VIEWER} if "viewer" in content["query"] else {}}


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """Yield a server that answers until the end of the block."""
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
