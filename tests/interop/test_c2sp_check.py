# SPDX-License-Identifier: Apache-2.0
"""The checker of published logs: it accepts logs of a small writer and rejects their mutations."""
import base64
import hashlib
import pathlib
import shutil
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import c2sp_check as check

ORIGIN, WITNESS = "example.com/rings", "witness.example/w1"


# --- a writer that follows the texts to the letter, without regard to speed -----------------------

def encode(data):
    return base64.b64encode(data).decode()


class Signer:
    def __init__(self, name, kind):
        seed = hashlib.sha256(f"{name} {kind}".encode()).digest()
        self.private, self.name, self.kind = Ed25519PrivateKey.from_private_bytes(seed), name, kind
        public = bytes([kind]) + self.private.public_key().public_bytes_raw()
        self.id = hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]
        self.vkey = f"{name}+{self.id.hex()}+{encode(public)}"

    def line(self, text, time=1_700_000_000):
        if self.kind == 1:
            signature = self.private.sign(text.encode())
        else:
            message = f"cosignature/v1\ntime {time}\n{text}"
            signature = (time % 2 ** 64).to_bytes(8, "big") + self.private.sign(message.encode())
        return f"\u2014 {self.name} {encode(self.id + signature)}\n"


LOG, COSIGNER = Signer(ORIGIN, 1), Signer(WITNESS, 4)


def split_of(size):
    half = 1
    while half * 2 < size:
        half *= 2
    return half


def root_of(hashes):
    """RFC 6962, section 2.1."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    half = split_of(len(hashes))
    return hashlib.sha256(b"\1" + root_of(hashes[:half]) + root_of(hashes[half:])).digest()


def path_of(index, hashes):
    """RFC 6962, section 2.1.1."""
    if len(hashes) <= 1:
        return []
    half = split_of(len(hashes))
    if index < half:
        return path_of(index, hashes[:half]) + [root_of(hashes[half:])]
    return path_of(index - half, hashes[half:]) + [root_of(hashes[:half])]


def consistency_of(old, hashes, whole=True):
    """RFC 6962, section 2.1.2."""
    if old == len(hashes):
        return [] if whole else [root_of(hashes)]
    half = split_of(len(hashes))
    if old <= half:
        return consistency_of(old, hashes[:half], whole) + [root_of(hashes[half:])]
    return consistency_of(old - half, hashes[half:], False) + [root_of(hashes[:half])]


def leaves(entries):
    return [hashlib.sha256(b"\0" + entry).digest() for entry in entries]


def text_of(entries):
    return f"{ORIGIN}\n{len(entries)}\n{encode(root_of(leaves(entries)))}\n"


def checkpoint_of(entries):
    text = text_of(entries)
    return text + "\n" + LOG.line(text) + COSIGNER.line(text)


def name_of(index):
    digits = str(index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at:at + 3] for at in range(0, len(digits), 3)]
    return "/".join(["x" + group for group in groups[:-1]] + groups[-1:])


def write_tiles(folder, items):
    for index in range(-(-len(items) // 256)):
        tile = items[256 * index:256 * index + 256]
        suffix = f".p/{len(tile)}" if len(tile) < 256 else ""
        path = folder / (name_of(index) + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(tile))


def write_log(folder, entries):
    folder.mkdir(exist_ok=True)
    write_tiles(folder / "tile" / "entries", [len(e).to_bytes(2, "big") + e for e in entries])
    level, hashes = 0, leaves(entries)
    while hashes:
        write_tiles(folder / "tile" / str(level), hashes)
        level += 1
        hashes = [root_of(hashes[at:at + 256]) for at in range(0, len(hashes) - 255, 256)]
    (folder / "checkpoint").write_text(checkpoint_of(entries))


def proof_of(index, entries):
    lines = ["c2sp.org/tlog-proof@v1", f"index {index}"]
    lines += [encode(step) for step in path_of(index, leaves(entries))]
    return "\n".join(lines) + "\n\n" + checkpoint_of(entries)


def entries_of(size):
    return [f'{{"ring":{i}}}'.encode() * (1 + i % 3) if i % 7 else b"" for i in range(size)]


# --- what must be accepted ------------------------------------------------------------------------

def run(capsys, folder, *arguments, witness=True):
    witnesses = ["--witness", COSIGNER.vkey] if witness else []
    code = check.main([str(folder), "--vkey", LOG.vkey, *witnesses, *map(str, arguments)])
    return code, capsys.readouterr().out


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 70000])
def test_logs_are_accepted(size, tmp_path, capsys):
    entries = entries_of(size)
    write_log(tmp_path, entries)
    arguments = []
    for old in sorted({0, 1, size // 2, max(size - 1, 0), size} & set(range(size + 1))):
        saved = tmp_path / f"old.{old}"
        saved.write_text(checkpoint_of(entries[:old]))
        arguments += ["--old", saved]
    if size:
        index = size * 2 // 3
        (tmp_path / "ring.tlog-proof").write_text(proof_of(index, entries))
        (tmp_path / "ring").write_bytes(entries[index])
        arguments += ["--proof", tmp_path / "ring.tlog-proof", "--entry", tmp_path / "ring"]
    code, out = run(capsys, tmp_path, *arguments)
    assert code == 0 and out.split() == ["ok:", *text_of(entries).split()]


def test_tiles_of_earlier_sizes_may_stay_or_go(tmp_path, capsys):
    for size in [100, 256, 300, 600]:
        write_log(tmp_path, entries_of(size))
    assert (tmp_path / "tile/0/000.p/100").exists() and (tmp_path / "tile/1/000.p/2").exists()
    assert run(capsys, tmp_path)[0] == 0
    shutil.rmtree(tmp_path / "tile/0/000.p")
    assert run(capsys, tmp_path)[0] == 0
    # A full tile may already stand where the checkpoint still asks for a partial one, but then it
    # holds more than was signed, which is said.
    (tmp_path / "checkpoint").write_text(checkpoint_of(entries_of(500)))
    code, out = run(capsys, tmp_path)
    assert code == 1 and all("beyond the checkpoint's 500" in line for line in out.splitlines())


def test_tile_paths_of_the_text():
    assert check.tile_path(0, 1234067) == "0/x001/x234/067"
    assert check.tile_path("entries", 273, 112) == "entries/273.p/112"
    assert check.parse_tile_path("3/x001/x234/067.p/8") == (3, 1234067, 8)
    for wrong in ["64/000", "00/000", "0/x000/001", "0/1000", "0/001/000", "0/000.p/0",
                  "0/000.p/256", "0/000.p/01", "entry/000", "0/x001", "0/000\n", "0/٠٠٠"]:
        assert check.parse_tile_path(wrong) is None


def test_trees_against_the_definitions():
    hashes = leaves(entries_of(69))
    tree = check.Tree(hashes)
    for size in range(len(hashes) + 1):
        root = root_of(hashes[:size])
        assert tree.root(size) == root
        for index in range(size):
            path = path_of(index, hashes[:size])
            assert check.verify_inclusion(hashes[index], index, size, path, root)
            for other in (index - 1, index + 1):
                wrong = check.verify_inclusion(hashes[index], other % size, size, path, root)
                assert not wrong or size == 1
        for old in range(1, size):
            path, before = consistency_of(old, hashes[:size]), root_of(hashes[:old])
            assert tree.consistency(old, size) == path
            assert check.verify_consistency(old, size, path, before, root)
            assert not check.verify_consistency(old, size, path[:-1], before, root)
            assert not check.verify_consistency(old, size, path + [root], before, root)
            assert not check.verify_consistency(old, size, path, root, root)


# --- official vectors -----------------------------------------------------------------------------

def test_official_keys_and_note():
    foo = check.parse_vkey("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
    assert (foo.name, foo.type) == ("example.com/foo", 1)
    vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    note = ("If you think cryptography is the answer to your problem,\n"
            "then you don't know what your problem is.\n"
            "\n"
            "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKv"
            "qfqdngotpRZb6KE6RyyBwJnAM=\n")
    parsed = check.parse_note(note.encode(), "note")
    check.verify_note(parsed, [check.parse_vkey(vkey)], "note")
    with pytest.raises(check.Finding, match="bad signature"):
        altered = parsed._replace(text=parsed.text.replace("your", "our"))
        check.verify_note(altered, [check.parse_vkey(vkey)], "note")


@pytest.mark.parametrize("vkey", [
    "", "a+b", "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T",
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy1w==",
    "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    Signer(ORIGIN, 6).vkey])
def test_malformed_keys(vkey):
    with pytest.raises(check.Finding, match="vkey"):
        check.parse_vkey(vkey)


# --- what must be rejected ------------------------------------------------------------------------

def flip(path, at=0):
    def mutate(folder):
        data = bytearray((folder / path).read_bytes())
        data[at] ^= 1
        (folder / path).write_bytes(data)
    return mutate


def change(path, function):
    return lambda folder: (folder / path).write_bytes(function((folder / path).read_bytes()))


def remove(path):
    return lambda folder: (folder / path).unlink()


def create(path, data=b"x"):
    def mutate(folder):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return mutate


def sign_again(function, *signers):
    """The checkpoint with another text, honestly signed."""
    def mutate(folder):
        text = (folder / "checkpoint").read_text().partition("\n\n")[0] + "\n"
        text = function(text)
        lines = "".join(signer.line(text) for signer in signers or (LOG, COSIGNER))
        (folder / "checkpoint").write_text(text + "\n" + lines)
    return mutate


def replace(before, after):
    before, after = before.encode(), after.encode()
    return change("checkpoint", lambda data: data.replace(before, after))


def rewrite_signature(signer, function):
    """The line of a signer with other bytes after its key ID."""
    def mutate(folder):
        lines = (folder / "checkpoint").read_text().splitlines(keepends=True)
        for at, line in enumerate(lines):
            if line.startswith(f"\u2014 {signer.name} "):
                raw = base64.b64decode(line.split(" ")[2])
                lines[at] = f"\u2014 {signer.name} {encode(raw[:4] + function(raw[4:]))}\n"
        (folder / "checkpoint").write_text("".join(lines))
    return mutate


def late(folder):
    text = (folder / "checkpoint").read_text().partition("\n\n")[0] + "\n"
    (folder / "checkpoint").write_text(
        text + "\n" + LOG.line(text) + COSIGNER.line(text, time=1 << 63))


SIZE = 600  # two full tiles and one of 88; at level 1 a tile of 2
PROOF, ENTRY, OLD = "ring.tlog-proof", "ring", "old"
OTHER = Signer("example.com/other", 1)

MUTATIONS = {
    "entry bit": (flip("tile/entries/001", 9), "not the hashes of the entries"),
    "entry length": (flip("tile/entries/000", 1), "tile/entries/000"),
    "entry appended": (change("tile/entries/002.p/88", lambda d: d + b"\0\1x"),
                       "89 entries, not 88"),
    "entry removed": (change("tile/entries/000", lambda d: d[2:]), "255 entries, not 256"),
    "entries cut": (change("tile/entries/002.p/88", lambda d: d[:-1]), "is cut off"),
    "entries missing": (remove("tile/entries/001"), "tile/entries/001: missing"),
    "partial entries missing": (remove("tile/entries/002.p/88"), "002.p/88: missing"),
    "tile bit": (flip("tile/0/000", 8191), "tile/0/000: not the hashes"),
    "tile cut": (change("tile/0/001", lambda d: d[:-32]), "8160 bytes, not 8192"),
    "tile long": (change("tile/0/002.p/88", lambda d: d + b"\0" * 32), "2848 bytes, not 2816"),
    "tile missing": (remove("tile/0/001"), "tile/0/001: missing"),
    "partial tile missing": (remove("tile/1/000.p/2"), "tile/1/000.p/2: missing"),
    "upper tile bit": (flip("tile/1/000.p/2", 33), "tile/1/000.p/2: not the hashes"),
    "older partial tile bit": (create("tile/0/000.p/1", b"\1" * 32), "000.p/1: not the hashes"),
    "older partial entries": (create("tile/entries/000.p/1", b"\0\1x"),
                              "not the entries of the log"),
    "tile beyond": (create("tile/0/003.p/1", b"\1" * 32), "beyond the checkpoint's 600"),
    "level beyond": (create("tile/2/000.p/1", b"\1" * 32), "beyond the checkpoint's 600"),
    "width zero": (create("tile/1/001.p/0", b""), "not the path of a tile"),
    "stray file": (create("tile/0/000.tmp"), "not the path of a tile"),
    "wrong group": (create("tile/0/x000/001"), "not the path of a tile"),
    "checkpoint missing": (remove("checkpoint"), "checkpoint: No such file"),
    "root of others": (sign_again(lambda t: text_of(entries_of(599)).replace("599", "600")),
                       "the root is not that of the entries"),
    "size too large": (sign_again(lambda t: t.replace("600", "601")), "missing"),
    "size huge": (sign_again(lambda t: t.replace("600", str(1 << 62))), "missing"),
    "size beyond": (sign_again(lambda t: t.replace("600", str(1 << 63))), "too large"),
    "size too small": (sign_again(lambda t: t.replace("600", "599")), "002.p/87: missing"),
    "size with zero": (sign_again(lambda t: t.replace("600", "0600")), "leading zeroes"),
    "size in Arabic": (sign_again(lambda t: t.replace("600", "٦٠٠")), "leading zeroes"),
    "size signed": (sign_again(lambda t: t.replace("600", "+600")), "leading zeroes"),
    "root short": (sign_again(lambda t: f"{ORIGIN}\n600\nAAAA\n"), "not 32 bytes"),
    "root loose": (sign_again(lambda t: f"{ORIGIN}\n600\n{'A' * 42}B=\n"), "not canonical"),
    "no root": (sign_again(lambda t: f"{ORIGIN}\n600\n"), "fewer than three lines"),
    "empty extension": (sign_again(lambda t: t + "\nx\n"), "fewer than three lines, or an empty"),
    "another origin": (sign_again(lambda t: t.replace("rings", "rungs")), "is not the key's name"),
    "text altered": (replace("\n600\n", "\n601\n"), "bad signature of example.com/rings"),
    "signature bit": (rewrite_signature(LOG, lambda s: bytes([s[0] ^ 1]) + s[1:]),
                      "bad signature of example.com/rings"),
    "signature short": (rewrite_signature(LOG, lambda s: s[:-1]), "bad signature"),
    "signature empty": (rewrite_signature(LOG, lambda s: b""), "short signature"),
    "cosignature time": (rewrite_signature(COSIGNER, lambda s: s[:7] + bytes([s[7] ^ 1]) + s[8:]),
                         "bad signature of witness.example/w1"),
    "cosignature short": (rewrite_signature(COSIGNER, lambda s: s[8:]), "not 72 bytes"),
    "cosignature late": (late, "no valid time"),
    "no cosignature": (sign_again(lambda t: t, LOG), "no cosignature of witness.example/w1"),
    "no signature": (sign_again(lambda t: t, COSIGNER), "no signature of example.com/rings"),
    "others only": (sign_again(lambda t: t, OTHER, COSIGNER), "no signature of example.com/rings"),
    "no blank line": (replace("\n\n", "\n"), "no text, blank line and signatures"),
    "hyphen for dash": (replace("\u2014", "-"), "malformed signature line"),
    "two spaces": (replace("\u2014 ", "\u2014  "), "malformed signature line"),
    "plus in name": (replace("\u2014 example.com/rings", "\u2014 example.com/+"), "malformed"),
    "space in name": (replace("\u2014 example.com/rings", "\u2014 example.com/\u3000"),
                      "malformed"),
    "no last newline": (change("checkpoint", lambda d: d[:-1]), "does not end in"),
    "line after": (change("checkpoint", lambda d: d + b"x\n"), "malformed signature line"),
    "carriage return": (change("checkpoint", lambda d: d.replace(b"\n", b"\r\n")), "control"),
    "tab": (sign_again(lambda t: t + "a\tb\n"), "control character"),
    "not UTF-8": (change("checkpoint", lambda d: b"\xff" + d), "not UTF-8"),
    "padding": (change("checkpoint", lambda d: d[:-2] + b"==\n"), "base64"),
    "proof first line": (change(PROOF, lambda d: d.replace(b"@v1", b"@v2")), "wrong first line"),
    "proof index": (change(PROOF, lambda d: d.replace(b"index 400", b"index 401")),
                    "does not prove"),
    "proof index far": (change(PROOF, lambda d: d.replace(b"index 400", b"index 600")),
                        "does not prove"),
    "proof index zero": (change(PROOF, lambda d: d.replace(b"index 400", b"index 0400")),
                         "leading zeroes"),
    "proof without index": (change(PROOF, lambda d: d.replace(b"index 400\n", b"")), "no index"),
    "proof hash": (change(PROOF, lambda d: d[:40] + bytes([d[40] ^ 1]) + d[41:]), "does not prove"),
    "proof short": (change(PROOF, lambda d: d.replace(proof_step(0), b"")), "does not prove"),
    "proof long": (change(PROOF, lambda d: d.replace(proof_step(0), proof_step(0) * 2)),
                   "does not prove"),
    "proof of others": (create(ENTRY, b"another entry"), "does not prove"),
    "proof extra late": (change(PROOF, lambda d: d.replace(b"400\n", b"400\nextra QQ==\n", 1)),
                         "not base64"),
    "proof checkpoint": (change(PROOF, lambda d: d.replace(b"\n600\n", b"\n601\n")),
                         "checkpoint: bad signature"),
    "proof alone": (change(PROOF, lambda d: d.partition(b"\n\n")[0]), "no blank line before"),
    "proof hash short": (change(PROOF, lambda d: d.replace(proof_step(0), b"QQ==\n")),
                         "a hash is not 32 bytes"),
    "proof unsigned": (change(PROOF, lambda d: d.partition(b"\n\n")[0] + b"\n\n"), "no text"),
    "proof of a larger tree": (lambda folder: (folder / PROOF).write_text(
        proof_of(400, entries_of(SIZE + 1))), "larger tree"),
    "proof of another tree": (lambda folder: (folder / PROOF).write_text(
        proof_of(400, [b"other"] + entries_of(SIZE)[1:])), "a tree of another log"),
    "fork": (lambda folder: (folder / OLD).write_text(
        checkpoint_of(entries_of(299) + [b"other"])), "not consistent with the log"),
    "fork at the same size": (lambda folder: (folder / OLD).write_text(
        checkpoint_of([b"other"] + entries_of(SIZE)[1:])), "not consistent with the log"),
    "empty root": (lambda folder: (folder / OLD).write_text(
        sign_text(f"{ORIGIN}\n0\n{encode(bytes(32))}\n")), "not consistent with the log"),
    "shrunk": (lambda folder: (folder / OLD).write_text(
        checkpoint_of(entries_of(SIZE + 1))), "the log shrank from 601 to 600"),
    "old unsigned": (flip(OLD, 20), "old: "),
}


def proof_step(at):
    return encode(path_of(400, leaves(entries_of(SIZE)))[at]).encode() + b"\n"


def sign_text(text):
    return text + "\n" + LOG.line(text)


@pytest.fixture(scope="module")
def good_log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    entries = entries_of(SIZE)
    write_log(folder, entries)
    (folder / PROOF).write_text(proof_of(400, entries))
    (folder / ENTRY).write_bytes(entries[400])
    (folder / OLD).write_text(checkpoint_of(entries[:300]))
    return folder


def check_all(capsys, folder):
    return run(capsys, folder, "--old", folder / OLD, "--proof", folder / PROOF,
               "--entry", folder / ENTRY)


def test_the_good_log(good_log, capsys):
    assert check_all(capsys, good_log)[0] == 0


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutations_are_rejected(name, good_log, tmp_path, capsys):
    mutate, words = MUTATIONS[name]
    folder = tmp_path / "log"
    shutil.copytree(good_log, folder)
    mutate(folder)
    code, out = check_all(capsys, folder)
    assert code == 1 and words in out, out


ACCEPTED = {
    "unknown signatures": change("checkpoint", lambda d: d + "".join(
        Signer(f"w{i}.example", 1).line("x") for i in range(14)).encode()),
    "a known name with another key": change(
        "checkpoint", lambda d: d + Signer(ORIGIN, 4).line("x").encode()),
    "a long signature of an unknown type": change(
        "checkpoint", lambda d: d + f"\u2014 {ORIGIN} {encode(bytes(2432))}\n".encode()),
    "an extension line": sign_again(lambda t: t + "extension\n"),
    "extra data in the proof": change(
        PROOF, lambda d: d.replace(b"index 400\n", b"extra QQ==\nindex 400\n")),
    "files beside the log": create("notes.txt"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_the_texts_allow(name, good_log, tmp_path, capsys):
    folder = tmp_path / "log"
    shutil.copytree(good_log, folder)
    ACCEPTED[name](folder)
    assert check_all(capsys, folder)[0] == 0


def test_the_command(good_log):
    program = pathlib.Path(check.__file__)
    command = [sys.executable, program, good_log, "--vkey", LOG.vkey]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(f"ok: {ORIGIN} 600 ")
    done = subprocess.run(command + ["--witness", Signer("w2.example", 4).vkey],
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "checkpoint: no cosignature of w2.example\n")


def test_keys_have_their_places(good_log, capsys):
    assert check.main([str(good_log), "--vkey", COSIGNER.vkey]) == 1
    assert "--vkey: not a log's key" in capsys.readouterr().out
    assert check.main([str(good_log), "--vkey", LOG.vkey, "--witness", LOG.vkey]) == 1
    assert "--witness: not a witness's key" in capsys.readouterr().out
