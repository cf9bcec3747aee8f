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
