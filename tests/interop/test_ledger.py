# SPDX-License-Identifier: Apache-2.0
"""Naite's logs, proofs and checkpoint signatures, in checkers that share no code with it."""
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

import c2sp_check
from support import BUILD, naite

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
                 "--entry", entry, "--entries", "run"]
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


def test_signatures_in_model_signing(logged, tmp_path):
    verifying = pytest.importorskip("model_signing.verifying")
    shutil.copytree(logged / "run" / "checkpoints", tmp_path / "checkpoints")
    checkpoints = sorted((tmp_path / "checkpoints").iterdir())
    assert len(checkpoints) == 5
    for directory in checkpoints:
        config = verifying.Config().use_elliptic_key_verifier(
            public_key=logged / "keys" / "model.pub")
        config.verify(directory, directory / "model.sig")
    (directory / "README.md").write_text("another model\n")
    with pytest.raises(ValueError):
        config.verify(directory, directory / "model.sig")


def test_cosignatures_in_model_signing(logged, tmp_path):
    """A second organisation signs the same files; the public tool accepts either signature."""
    verifying = pytest.importorskip("model_signing.verifying")
    run = tmp_path / "run"
    shutil.copytree(logged / "run", run)
    naite("key", "new", tmp_path / "university", "--name", "university.example")
    naite("key", "cosign", run, "--keys", tmp_path / "university")
    (checkpoint,) = (run / "checkpoints").glob("*step0000000020*")
    (cosignature,) = (checkpoint / "cosignatures").glob("*.sig")
    ours, theirs = logged / "keys" / "model.pub", tmp_path / "university" / "model.pub"

    def accepts(key, signature):
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
        try:
            config.verify(checkpoint, signature)
            return True
        except ValueError:
            return False

    assert accepts(ours, checkpoint / "model.sig")
    assert accepts(theirs, cosignature)
    assert accepts(cosignature.with_suffix(".pub"), cosignature)
    assert not accepts(ours, cosignature)
    assert not accepts(theirs, checkpoint / "model.sig")
    policy = tmp_path / "policy.toml"
    vkey = (logged / "keys" / "log.vkey").read_text().strip()
    policy.write_text(f'publishers = ["{vkey}"]\norganisations = ["university/model.pub"]\n')
    assert "5 of 5 checkpoints" in naite("verify", run, "--policy", policy)
    (checkpoint / "README.md").write_text("another model\n")
    assert not accepts(ours, checkpoint / "model.sig")
    assert not accepts(theirs, cosignature)


class Witness:
    """tests/interop/witness.py as a process of its own."""

    def __init__(self, directory, log, name="witness.example"):
        script = pathlib.Path(__file__).parent / "witness.py"
        self.process = subprocess.Popen(
            [sys.executable, script, "--state", directory / f"{name}.json", "--name", name,
             "--log", log], stdout=subprocess.PIPE, text=True)
        self.url, self.vkey = self.process.stdout.readline().split()
        self.option = f"{self.url}+{self.vkey}"

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def test_witness_of_a_training(tmp_path):
    run = tmp_path / "run"
    naite("key", "new", tmp_path / "keys", "--name", "example.org/team")
    train = ["train", TINY, "--run", run, "--keys", tmp_path / "keys"]
    naite(*train, "--stop-after-step", "0")
    vkey = (run / "ledger" / "vkey").read_text().strip()
    witness = Witness(tmp_path, vkey)
    try:
        machine = tmp_path / "machine.toml"
        machine.write_text(f'[[witness]]\nurl = "{witness.url}"\nvkey = "{witness.vkey}"\n')
        naite(*train, "--machine", machine, "--stop-after-step", "8")
        first = (run / "ledger" / "checkpoint").read_bytes()
        (tmp_path / "old").write_bytes(first)
        naite(*train, "--machine", machine)
        arguments = [run / "ledger", "--vkey", vkey, "--witness", witness.vkey,
                     "--old", tmp_path / "old"]
        found = c2sp(*arguments)
        assert found.returncode == 0, found.stdout + found.stderr
        policy = tmp_path / "policy.toml"
        publisher = (tmp_path / "keys" / "log.vkey").read_text().strip()
        policy.write_text(f'publishers = ["{publisher}"]\nwitnesses = ["{witness.vkey}"]\n')
        assert "1 witnesses" in naite("verify", run, "--policy", policy)

        # By hand, from a second witness that has seen nothing yet; again changes nothing.
        second = Witness(tmp_path, vkey, "second.example")
        try:
            naite("log", "witness", run, "--witness", second.option, "--witness", witness.option)
            head = (run / "ledger" / "checkpoint").read_bytes()
            naite("log", "witness", run, "--witness", second.option)
            assert (run / "ledger" / "checkpoint").read_bytes() == head
        finally:
            second.stop()
        found = c2sp(*arguments, "--witness", second.vkey)
        assert found.returncode == 0, found.stdout + found.stderr
    finally:
        witness.stop()


def test_witness_that_saw_another_history(tmp_path):
    """The publisher shows a witness one history and trains another one under the same origin."""
    run, other = tmp_path / "run", tmp_path / "other"
    naite("key", "new", tmp_path / "keys", "--name", "example.org/team")
    keys = ["--keys", tmp_path / "keys"]
    naite("train", TINY, "--run", run, *keys, "--stop-after-step", "0")
    shutil.copytree(run, other)
    naite("log", "abandon", other, "--reason", "to fork the log", *keys)
    witness = Witness(tmp_path, (run / "ledger" / "vkey").read_text().strip())
    try:
        naite("log", "witness", other, "--witness", witness.option)
        trained = subprocess.run(
            [str(part) for part in (pathlib.Path(BUILD) / "naite", "train", TINY, "--run", run,
                                    *keys, "--witness", witness.option)],
            capture_output=True, text=True)
        assert trained.returncode == 0, trained.stderr
        assert "saw another history" in trained.stderr
        assert json.loads((tmp_path / "witness.example.json").read_text())
    finally:
        witness.stop()
