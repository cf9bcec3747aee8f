# SPDX-License-Identifier: Apache-2.0
"""Checks the directory of a published log against the C2SP texts, sharing no code with Naite.

  python c2sp_check.py LEDGER_DIR --vkey VKEY [--witness VKEY]... [--old CHECKPOINT]...
                       [--proof FILE.tlog-proof --entry FILE] [--entries run|list]

signed-note, tlog-checkpoint, tlog-tiles, tlog-cosignature (cosignature/v1, Ed25519), tlog-proof and
RFC 6962 hashing. Every file below LEDGER_DIR/tile is recomputed from the entries, so is the root;
the checkpoint must carry a good signature of --vkey and one cosignature of each --witness, and so
must the checkpoint inside a proof. An --old checkpoint must be a prefix of the log. --entries holds
the entries to the rules of a run's log, or of a publisher's list of runs (log_rules.py). One line
per finding; exit 1 when there is one.
"""
import argparse
import base64
import binascii
import hashlib
import pathlib
import re
import sys
from collections import namedtuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import log_rules

ED25519, COSIGNATURE = 1, 4  # the signature types of signed-note that this checker knows
TILE = 256                   # hashes in a full tile, entries in a full bundle
LEVELS = 64
DECIMAL = re.compile(r"0|[1-9][0-9]*")
TILE_PATH = re.compile(r"(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})"
                       r"(?:\.p/([1-9][0-9]{0,2}))?")

Key = namedtuple("Key", "name id type public")
Signature = namedtuple("Signature", "name id bytes")
Note = namedtuple("Note", "text signatures")
Checkpoint = namedtuple("Checkpoint", "origin size root")
Proof = namedtuple("Proof", "index path checkpoint")


class Finding(Exception):
    """One thing that is wrong, in words."""


def require(condition, words):
    if not condition:
        raise Finding(words)


# --- text -----------------------------------------------------------------------------------------

def unbase64(text, what):
    """Strict: the one standard encoding of the bytes, with its padding and without stray bits."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Finding(f"{what}: not base64: {text!r}") from None
    require(base64.b64encode(data).decode() == text, f"{what}: not canonical base64: {text!r}")
    return data


def number(text, what):
    require(DECIMAL.fullmatch(text), f"{what}: not a decimal without leading zeroes: {text!r}")
    value = int(text)
    require(value < 1 << 63, f"{what}: too large: {text}")
    return value


def decode(data, what):
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Finding(f"{what}: not UTF-8") from None
    require(not re.search(r"[\x00-\x09\x0b-\x1f]", text), f"{what}: a control character")
    return text


def valid_name(name):
    return (name and "+" not in name and not any(c.isspace() for c in name)
            and not log_rules.UNSEEN.search(name))


# --- signed-note ----------------------------------------------------------------------------------

def key_id(name, kind, public):
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def parse_vkey(text):
    """name+hex(key ID)+base64(type || public key); base64 has a plus too, names have none."""
    parts = text.split("+", 2)
    require(len(parts) == 3 and valid_name(parts[0]), f"vkey: not name+id+key: {text!r}")
    require(re.fullmatch("[0-9a-f]{8}", parts[1]), f"vkey: the id is not 8 hex digits: {text!r}")
    data = unbase64(parts[2], "vkey")
    require(len(data) == 33 and data[0] in (ED25519, COSIGNATURE),
            f"vkey: not an Ed25519 key of type 01 or 04: {text!r}")
    key = Key(parts[0], bytes.fromhex(parts[1]), data[0], data[1:])
    require(key.id == key_id(key.name, key.type, key.public), f"vkey: the id is wrong: {text!r}")
    return key


def parse_note(data, what):
    text = decode(data, what)
    at = text.rfind("\n\n")  # the text may have empty lines, the signatures cannot
    require(at > 0, f"{what}: no text, blank line and signatures")
    body, tail = text[:at + 1], text[at + 2:]
    require(tail.endswith("\n"), f"{what}: does not end in a signature line")
    signatures = []
    for line in tail[:-1].split("\n"):
        parts = line.split(" ")
        require(len(parts) == 3 and parts[0] == "\u2014" and valid_name(parts[1]),
                f"{what}: malformed signature line: {line!r}")
        raw = unbase64(parts[2], f"{what}: signature of {parts[1]}")
        require(len(raw) > 4, f"{what}: short signature of {parts[1]}")
        signatures.append(Signature(parts[1], raw[:4], raw[4:]))
    return Note(body, signatures)


def signed_message(key, note, signature, what):
    """The bytes that the key signed, and its signature over them."""
    if key.type == ED25519:
        return note.text.encode(), signature
    require(len(signature) == 72, f"{what}: cosignature of {key.name} is not 72 bytes")
    time = int.from_bytes(signature[:8], "big")
    require(time < 1 << 63, f"{what}: cosignature of {key.name} has no valid time")
    return f"cosignature/v1\ntime {time}\n{note.text}".encode(), signature[8:]


def verify_note(note, keys, what):
    """Every key must have signed; a signature of a known key must be good, others are skipped."""
    good = set()
    for line in note.signatures:
        for key in keys:
            if (key.name, key.id) != (line.name, line.id):
                continue
            message, signature = signed_message(key, note, line.bytes, what)
            try:
                Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message)
            except InvalidSignature:
                raise Finding(f"{what}: bad signature of {key.name}") from None
            good.add(key)
    for key in keys:
        kind = "signature" if key.type == ED25519 else "cosignature"
        require(key in good, f"{what}: no {kind} of {key.name}")


# --- tlog-checkpoint, tlog-proof ------------------------------------------------------------------

def parse_checkpoint(text, what):
    lines = text[:-1].split("\n")
    require(len(lines) >= 3 and all(lines), f"{what}: fewer than three lines, or an empty one")
    root = unbase64(lines[2], f"{what}: root")
    require(len(root) == 32, f"{what}: the root is not 32 bytes")
    return Checkpoint(lines[0], number(lines[1], f"{what}: size"), root)


def open_checkpoint(data, keys, what):
    note = parse_note(data, what)
    verify_note(note, keys, what)
    checkpoint = parse_checkpoint(note.text, what)
    # A recommendation of the text; a log of Naite has one name for both.
    require(checkpoint.origin == keys[0].name,
            f"{what}: origin {checkpoint.origin!r} is not the key's name {keys[0].name!r}")
    return checkpoint


def parse_proof(data, what):
    head, blank, checkpoint = data.partition(b"\n\n")
    require(blank, f"{what}: no blank line before the checkpoint")
    lines = decode(head, what).split("\n")
    require(lines.pop(0) == "c2sp.org/tlog-proof@v1", f"{what}: wrong first line")
    if lines and lines[0].startswith("extra "):
        unbase64(lines.pop(0)[6:], f"{what}: extra")
    require(lines and lines[0].startswith("index "), f"{what}: no index line")
    index = number(lines.pop(0)[6:], f"{what}: index")
    path = [unbase64(line, f"{what}: hash") for line in lines]
    require(all(len(hash_) == 32 for hash_ in path), f"{what}: a hash is not 32 bytes")
    return Proof(index, path, checkpoint)


# --- RFC 6962 -------------------------------------------------------------------------------------

def leaf_hash(data):
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """rows[k][i] is the hash of the i-th complete subtree of 2^k leaves."""

    def __init__(self, leaves):
        self.rows = [leaves]
        while len(self.rows[-1]) > 1:
            row = self.rows[-1]
            self.rows.append([node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)])

    def root(self, size):
        return self.range(0, size) if size else hashlib.sha256(b"").digest()

    def range(self, begin, end):
        """The hash of a range as RFC 6962 splits it: begin is a multiple of 2^k >= end - begin."""
        size = end - begin
        if size & (size - 1) == 0:
            return self.rows[size.bit_length() - 1][begin // size]
        split = begin + (1 << ((size - 1).bit_length() - 1))
        return node_hash(self.range(begin, split), self.range(split, end))

    def consistency(self, old, size):
        """The path from a tree of `old` leaves to the one of `size`; 0 < old < size."""
        path, begin, end, known = [], 0, size, True
        while old != end:
            split = begin + (1 << ((end - begin - 1).bit_length() - 1))
            if old <= split:
                path.append(self.range(split, end))
                end = split
            else:
                path.append(self.range(begin, split))
                begin, known = split, False
        return ([] if known else [self.range(begin, end)]) + path[::-1]


def verify_inclusion(leaf, index, size, path, root):
    if index >= size:
        return False
    fn, sn, result = index, size - 1, leaf
    for step in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            result = node_hash(step, result)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            result = node_hash(result, step)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and result == root


def verify_consistency(old, size, path, old_root, root):
    """0 < old < size."""
    path = ([old_root] if old & (old - 1) == 0 else []) + path
    if not path:
        return False
    fn, sn = old - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    first = second = path[0]
    for step in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            first, second = node_hash(step, first), node_hash(step, second)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            second = node_hash(second, step)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and first == old_root and second == root


# --- tlog-tiles -----------------------------------------------------------------------------------

def tile_path(level, index, width=TILE):
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    return f"{level}/{'/'.join(reversed(groups))}" + (f".p/{width}" if width < TILE else "")


def parse_tile_path(path):
    """(level or "entries", index, width), or None for what no log may serve."""
    match = TILE_PATH.fullmatch(path)
    if not match:
        return None
    level = match[1] if match[1] == "entries" else int(match[1])
    index = int(match[2].replace("x", "").replace("/", ""))
    width = int(match[3] or TILE)
    right = tile_path(level, index, width) == path and (level == "entries" or level < LEVELS)
    return (level, index, width) if right else None


def parse_bundle(data, width, what):
    entries, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at:at + 2], "big")
        require(at + 2 + size <= len(data), f"{what}: entry {len(entries)} is cut off")
        entries.append(data[at + 2:at + 2 + size])
        at += 2 + size
    require(len(entries) == width, f"{what}: {len(entries)} entries, not {width}")
    return entries


class Directory:
    """The files of a log and what is wrong with them."""

    def __init__(self, root, size):
        self.tiles, self.size, self.findings = pathlib.Path(root) / "tile", size, []
        self.entries = self.read_entries()
        self.tree = Tree([leaf_hash(entry) for entry in self.entries])
        self.complete = len(self.tree.rows[0]) == size

    def find(self, level, index, width):
        """The tile of this width; the full one stands for a partial one that was removed."""
        for candidate in (width, TILE):
            path = tile_path(level, index, candidate)
            if (self.tiles / path).is_file():
                return path, candidate
        raise Finding(f"tile/{tile_path(level, index, width)}: missing")

    def read_entries(self):
        # A missing bundle ends the loop, so that a forged size cannot keep it running for ever.
        entries = []
        try:
            for index in range(-(-self.size // TILE)):
                width = min(TILE, self.size - index * TILE)
                path, present = self.find("entries", index, width)
                data = (self.tiles / path).read_bytes()
                entries += parse_bundle(data, present, f"tile/{path}")[:width]
        except Finding as finding:
            self.findings.append(str(finding))
        return entries

    def check(self):
        self.check_presence()
        for path in sorted(self.tiles.rglob("*")):
            if path.is_dir():
                continue
            try:
                self.check_file(path.relative_to(self.tiles).as_posix())
            except Finding as finding:
                self.findings.append(str(finding))

    def check_presence(self):
        level, hashes = 0, self.size
        while hashes:
            for index in range(-(-hashes // TILE)):
                try:
                    self.find(level, index, min(TILE, hashes - index * TILE))
                except Finding as finding:
                    self.findings.append(str(finding))
            level, hashes = level + 1, hashes // TILE

    def check_file(self, path):
        """A tile left from an earlier size is still a part of the tree, so it is checked too."""
        what = f"tile/{path}"
        parsed = parse_tile_path(path)
        require(parsed, f"{what}: not the path of a tile")
        level, index, width = parsed
        rows = self.tree.rows
        depth = 0 if level == "entries" else 8 * level
        row = rows[depth] if depth < len(rows) else []
        expected = row[index * TILE:index * TILE + width]
        require(len(expected) == width, f"{what}: beyond the checkpoint's {self.size} entries")
        data = (self.tiles / path).read_bytes()
        if level == "entries":
            actual = [leaf_hash(entry) for entry in parse_bundle(data, width, what)]
            require(actual == expected, f"{what}: not the entries of the log")
        else:
            require(len(data) == 32 * width, f"{what}: {len(data)} bytes, not {32 * width}")
            require(data == b"".join(expected), f"{what}: not the hashes of the entries")


# --- the command ----------------------------------------------------------------------------------

def read(path):
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise Finding(f"{path}: {error.strerror}") from None


def check_old(path, keys, checkpoint, tree):
    """The checkpoint was signed by this log and its tree is the beginning of today's."""
    old = open_checkpoint(read(path), keys[:1], str(path))
    require(old.size <= checkpoint.size,
            f"{path}: the log shrank from {old.size} to {checkpoint.size} entries")
    if 0 < old.size < checkpoint.size:
        steps = tree.consistency(old.size, checkpoint.size)
        consistent = verify_consistency(old.size, checkpoint.size, steps, old.root, checkpoint.root)
    else:
        consistent = old.root == tree.root(old.size)
    require(consistent, f"{path}: not consistent with the log: another root at size {old.size}")


def check_proof(path, entry, keys, checkpoint, tree):
    proof = parse_proof(read(path), str(path))
    signed = open_checkpoint(proof.checkpoint, keys, f"{path}: checkpoint")
    leaf = leaf_hash(read(entry))
    require(verify_inclusion(leaf, proof.index, signed.size, proof.path, signed.root),
            f"{path}: does not prove {entry} at index {proof.index} of {signed.size}")
    require(signed.size <= checkpoint.size, f"{path}: proves in a larger tree than the log's")
    require(signed.root == tree.root(signed.size), f"{path}: proves in a tree of another log")


def check_log(arguments, keys):
    """(findings, what was checked)."""
    checkpoint = open_checkpoint(read(pathlib.Path(arguments.ledger) / "checkpoint"), keys,
                                 "checkpoint")
    log = Directory(arguments.ledger, checkpoint.size)
    findings = log.findings
    summary = f"{checkpoint.origin} {checkpoint.size} {base64.b64encode(checkpoint.root).decode()}"
    if not log.complete:  # nothing can be recomputed from a part of the entries
        return findings, summary
    log.check()
    if log.tree.root(checkpoint.size) != checkpoint.root:
        findings.append("checkpoint: the root is not that of the entries")
    if arguments.entries:
        findings += log_rules.findings(arguments.entries, log.entries, checkpoint.origin)
    tasks = [(check_old, (path,)) for path in arguments.old]
    if arguments.proof:
        tasks.append((check_proof, (arguments.proof, arguments.entry)))
    for task, files in tasks:
        try:
            task(*files, keys, checkpoint, log.tree)
        except Finding as finding:
            findings.append(str(finding))
    return findings, summary


def parse_keys(arguments):
    keys = [parse_vkey(arguments.vkey)] + [parse_vkey(text) for text in arguments.witness]
    require(keys[0].type == ED25519, "--vkey: not a log's key of type 01")
    require(all(key.type == COSIGNATURE for key in keys[1:]),
            "--witness: not a witness's key of type 04")
    return keys


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("ledger", metavar="LEDGER_DIR")
    parser.add_argument("--vkey", required=True)
    parser.add_argument("--witness", action="append", default=[], metavar="VKEY")
    parser.add_argument("--old", action="append", default=[], metavar="CHECKPOINT")
    parser.add_argument("--proof")
    parser.add_argument("--entry")
    parser.add_argument("--entries", choices=("run", "list"))
    arguments = parser.parse_args(argv)
    if bool(arguments.proof) != bool(arguments.entry):
        parser.error("--proof and --entry go together")
    try:
        findings, summary = check_log(arguments, parse_keys(arguments))
    except Finding as finding:
        findings = [str(finding)]
    for finding in findings:
        print(finding)
    if not findings:
        print("ok:", summary)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
