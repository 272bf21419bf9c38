"""A W&B server on this machine that answers what `wandb sync` asks, and remembers the graph of artifacts."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = dict[str, Any]


@dataclass
class Graph:
    """What was sent.

    Attributes:
        runs: id -> name, group and job type.
        artifacts: id -> type, name and metadata.
        made: (run, artifact) of each output; ``used`` of each input.
        uploads: what was put, by artifact and file name, once for each time.
    """

    address: str = ""
    runs: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    artifacts: dict[str, tuple[str, str, Reply]] = field(default_factory=dict)
    made: set[tuple[str, str]] = field(default_factory=set)
    used: set[tuple[str, str]] = field(default_factory=set)
    uploads: list[str] = field(default_factory=list)
    committed: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, operation: str, variables: Reply) -> Reply:
        handlers: dict[str, Callable[[Reply], Reply]] = {
            "UpsertBucket": self._run,
            "CreateArtifact": self._artifact,
            "CreateArtifactManifest": self._manifest,
            "CreateArtifactFiles": self._files,
            "CommitArtifact": self._commit,
            "UseArtifact": self._use,
            "CreateRunFiles": self._run_files,
        }
        with self.lock:
            return handlers[operation](variables.get("input") or variables) if operation in handlers else {}

    def kinds(self, edges: set[tuple[str, str]], run: str) -> set[str]:
        """Types of the artifacts on one side of a run of this name, without those that W&B makes of tables."""
        kinds = {self.artifacts[artifact][0] for owner, artifact in edges if self.runs[owner][0] == run}
        return kinds - {"run_table"}

    def _run(self, variables: Reply) -> Reply:
        before = self.runs.get(variables["name"], ("", "", ""))
        fields = zip((variables["displayName"], variables["groupName"], variables["jobType"]), before, strict=True)
        name, group, job_type = (new or old for new, old in fields)
        self.runs[variables["name"]] = (name, group, job_type)
        project = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": "us"}}
        bucket = {
            "id": variables["name"],
            "name": variables["name"],
            "displayName": name,
            "description": "",
            "config": "{}",
        }
        bucket |= {"sweepName": None, "historyLineCount": 0, "project": project}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _artifact(self, variables: Reply) -> Reply:
        ident = f"{variables['artifactCollectionName']}@{variables['digest']}"
        self.artifacts[ident] = (
            variables["artifactTypeName"],
            variables["artifactCollectionName"],
            json.loads(variables["metadata"]),
        )
        if variables["runName"]:
            self.made.add((variables["runName"], ident))
        state = "COMMITTED" if ident in self.committed else "PENDING"
        sequence = {"id": ident, "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": ident, "state": state, "artifactSequence": sequence}}}

    def _manifest(self, variables: Reply) -> Reply:
        url = f"{self.address}/put/{variables['artifactID']}/manifest" if variables["includeUpload"] else None
        file = {
            "id": "f",
            "name": variables["name"],
            "displayName": variables["name"],
            "uploadUrl": url,
            "uploadHeaders": [],
        }
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def _files(self, variables: Reply) -> Reply:
        edges = []
        for spec in variables["artifactFiles"]:
            url = f"{self.address}/put/{spec['artifactID']}/{spec['name']}"
            node = {"storagePath": spec["name"], "uploadUrl": url, "uploadHeaders": [], "uploadMultipartUrls": None}
            edges.append({"node": {**node, "artifact": {"id": spec["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _commit(self, variables: Reply) -> Reply:
        self.committed.add(variables["artifactID"])
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "d"}}}

    def _use(self, variables: Reply) -> Reply:
        self.used.add((variables["runName"], variables["artifactID"]))
        return {"useArtifact": {"artifact": {"id": variables["artifactID"]}}}

    def _run_files(self, variables: Reply) -> Reply:
        files = [{"name": name, "uploadUrl": f"{self.address}/put/run/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}


@contextmanager
def fake_server() -> Iterator[Graph]:
    """The server, while the block runs."""
    graph = Graph()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:  # silent
            pass

        def do_POST(self) -> None:
            content = self._content()
            if not self.path.endswith("/graphql"):
                return self._reply({"limits": {}})
            request = json.loads(content)
            (operation,) = re.findall(r"(?:query|mutation)\s+(\w+)", request["query"])[:1]
            return self._reply({"data": graph.answer(operation, request.get("variables") or {})})

        def do_PUT(self) -> None:
            self._content()
            graph.uploads.append(self.path.removeprefix("/put/"))
            self._reply({})

        def _content(self) -> bytes:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

        def _reply(self, reply: Reply) -> None:
            content = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        graph.address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield graph
        finally:
            server.shutdown()
