# SPDX-License-Identifier: Apache-2.0
"""Naite's logs, proofs and checkpoint signatures, in checkers that share no code with it."""
import pathlib
import subprocess
import sys

import pytest

import c2sp_check
from support import naite

TINY = pathlib.Path(__file__).parent.parent / "recipes" / "tiny.toml"


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A run under a publisher's keys, stopped once on the way, and its head at that time."""
    directory = tmp_path_factory.mktemp("ledger")
    keys, run = directory / "keys", directory / "run"
    naite("key", "new", keys, "--name", "example.org/team")
    naite("train", TINY, "--run", run, "--keys", keys, "--stop-after-step", "8")
    (directory / "old").write_bytes((run / "ledger" / "checkpoint").read_bytes())
    naite("train", TINY, "--run", run, "--keys", keys)
    return directory


def c2sp(*arguments):
    script = pathlib.Path(c2sp_check.__file__)
    return subprocess.run([sys.executable, script, *map(str, arguments)],
                          capture_output=True, text=True)


def test_log_and_proof_against_the_c2sp_texts(logged):
    ledger = logged / "run" / "ledger"
    vkey = (ledger / "vkey").read_text().strip()
    proof, entry = logged / "entry.tlog-proof", logged / "entry.json"
    naite("log", "prove", logged / "run", "--index", "3", "--output", proof, "--entry", entry)
    arguments = [ledger, "--vkey", vkey, "--old", logged / "old", "--proof", proof,
                 "--entry", entry]
    found = c2sp(*arguments)
    assert found.returncode == 0, found.stdout + found.stderr
    entry.write_bytes(entry.read_bytes() + b" ")
    assert c2sp(*arguments).returncode == 1


def test_log_of_runs_against_the_c2sp_texts(logged):
    vkey = (logged / "keys" / "log.vkey").read_text().strip()
    found = c2sp(logged / "run" / "ledger" / "publisher", "--vkey", vkey)
    assert found.returncode == 0, found.stdout + found.stderr


def test_published_tree_against_the_c2sp_texts(logged):
    """The log as a static web server has it, published at two heads."""
    run, tree = logged / "published-run", logged / "tree"
    naite("train", TINY, "--run", run, "--keys", logged / "keys", "--stop-after-step", "8")
    naite("publish", run, tree, "--name", "run")
    old = logged / "published-head"
    old.write_bytes((tree / "run" / "ledger" / "checkpoint").read_bytes())
    first = {path.name: path for path in (tree / "run" / "ledger" / "tile").rglob("*.p/*")}
    naite("train", TINY, "--run", run, "--keys", logged / "keys")
    naite("publish", run, tree, "--name", "run")
    assert all(path.exists() for path in first.values())
    ledger = tree / "run" / "ledger"
    vkey = (ledger / "vkey").read_text().strip()
    found = c2sp(ledger, "--vkey", vkey, "--old", old)
    assert found.returncode == 0, found.stdout + found.stderr
    found = c2sp(ledger / "publisher", "--vkey", (logged / "keys" / "log.vkey").read_text().strip())
    assert found.returncode == 0, found.stdout + found.stderr
    with (ledger / "checkpoint").open("ab") as head:
        head.write(b"x")
    assert c2sp(ledger, "--vkey", vkey).returncode == 1


def test_signatures_in_model_signing(logged):
    verifying = pytest.importorskip("model_signing.verifying")
    checkpoints = sorted((logged / "run" / "checkpoints").iterdir())
    assert len(checkpoints) == 5
    for directory in checkpoints:
        config = verifying.Config().use_elliptic_key_verifier(
            public_key=logged / "keys" / "model.pub")
        config.verify(directory, directory / "model.sig")
    (directory / "README.md").write_text("another model\n")
    with pytest.raises(ValueError):
        config.verify(directory, directory / "model.sig")
