#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A witness of logs, from the texts c2sp.org/tlog-witness, tlog-cosignature and signed-note alone.

Answers POST /add-checkpoint. What it has seen of each log lies in --state, one JSON file that is
replaced whole, under one lock from the check to the store. It prints one line, its address and its
public key, when it listens.
"""
import argparse
import base64
import hashlib
import http.server
import json
import os
import pathlib
import threading
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class Refusal(Exception):
    def __init__(self, status, body="", kind="text/plain"):
        super().__init__(body)
        self.status, self.body, self.kind = status, body, kind


def key_id(name, algorithm, key):
    return hashlib.sha256(name.encode() + b"\n" + bytes([algorithm]) + key).digest()[:4]


def parse_vkey(text):
    name, identifier, encoded = text.split("+", 2)
    raw = base64.b64decode(encoded, validate=True)
    assert raw[0] == 1 and key_id(name, 1, raw[1:]).hex() == identifier
    return name, raw[1:]


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def consistent(old_size, old_root, size, root, proof):
    """RFC 9162, section 2.1.4.2."""
    if old_size == 0:
        return not proof
    if old_size == size:
        return not proof and old_root == root
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    fn, sn = old_size - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node(c, fr), node(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return fr == old_root and sr == root and sn == 0


def parse_request(body):
    head, _, note = body.partition("\n\n")
    lines = head.split("\n")
    if not lines[0].startswith("old ") or not note:
        raise Refusal(400)
    try:
        old = int(lines[0][4:])
        proof = [base64.b64decode(line, validate=True) for line in lines[1:]]
    except ValueError:
        raise Refusal(400) from None
    if len(proof) > 63 or any(len(item) != 32 for item in proof):
        raise Refusal(400)
    return old, proof, note


class Witness:
    def __init__(self, name, seed, logs, state):
        self.name, self.logs, self.state = name, dict(map(parse_vkey, logs)), pathlib.Path(state)
        self.secret = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self.secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.lock = threading.Lock()

    def vkey(self):
        return "+".join([self.name, key_id(self.name, 4, self.public).hex(),
                         base64.b64encode(b"\x04" + self.public).decode()])

    def check_signature(self, note, origin):
        if origin not in self.logs:
            raise Refusal(404)
        text, _, signatures = note.rpartition("\n\n")
        text += "\n"
        wanted = key_id(origin, 1, self.logs[origin])
        for line in signatures.splitlines():
            _, name, encoded = line.split(" ", 2)
            raw = base64.b64decode(encoded)
            if name == origin and raw[:4] == wanted:
                try:
                    Ed25519PublicKey.from_public_bytes(self.logs[origin]).verify(
                        raw[4:], text.encode())
                    return text
                except InvalidSignature:
                    raise Refusal(403) from None
        raise Refusal(403)

    def add_checkpoint(self, body):
        old, proof, note = parse_request(body)
        origin, size, root = note.split("\n")[:3]
        text = self.check_signature(note, origin)
        size, root = int(size), base64.b64decode(root, validate=True)
        if old > size:
            raise Refusal(400)
        with self.lock:
            seen = json.loads(self.state.read_text()) if self.state.exists() else {}
            known_size, known_root = seen.get(origin, [0, ""])
            if old != known_size or (old == size and known_root != root.hex()):
                raise Refusal(409, f"{known_size}\n", "text/x.tlog.size")
            if not consistent(old, bytes.fromhex(known_root), size, root, proof):
                raise Refusal(422)
            seen[origin] = [size, root.hex()]
            temporary = self.state.with_suffix(".new")
            temporary.write_text(json.dumps(seen))
            os.replace(temporary, self.state)
        return self.cosign(text)

    def cosign(self, text):
        seconds = int(time.time())
        signature = self.secret.sign(f"cosignature/v1\ntime {seconds}\n{text}".encode())
        raw = key_id(self.name, 4, self.public) + seconds.to_bytes(8, "big") + signature
        return f"\u2014 {self.name} {base64.b64encode(raw).decode()}\n"


def serve(witness, port):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            status, kind = 200, "text/plain; charset=utf-8"
            try:
                if self.path != "/add-checkpoint":
                    raise Refusal(404)
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                answer = witness.add_checkpoint(body)
            except Refusal as refusal:
                status, answer, kind = refusal.status, refusal.body, refusal.kind
            raw = answer.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"http://127.0.0.1:{server.server_port} {witness.vkey()}", flush=True)
    server.serve_forever()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="witness.example")
    parser.add_argument("--seed", default="00" * 32, help="of its key, hexadecimal")
    parser.add_argument("--log", action="append", default=[], help="public key of a log it knows")
    parser.add_argument("--state", required=True)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    serve(Witness(arguments.name, bytes.fromhex(arguments.seed), arguments.log, arguments.state),
          arguments.port)


if __name__ == "__main__":
    main()
