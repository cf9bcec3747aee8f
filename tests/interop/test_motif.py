# SPDX-License-Identifier: Apache-2.0
"""Models of Motif's form give the same logits and gradients in Naite and in motif_torch.

Gradients come from `naite_logits --gradients DIR IDS OUT.safetensors`: IDS is a file with one line
of ids, OUT the gradient of the mean next-token cross entropy by the name of each tensor in DIR.
"""
import itertools
import json
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file

import motif_torch as motif
from support import BUILD, naite_logits, run, worst

YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)
CASES = list(itertools.product([1, 3, 4], [False, True], [None, YARN]))
NAMES = [f"{ratio}to1-{'tied' if tied else 'untied'}-{'yarn' if scaling else 'plain'}"
         for ratio, tied, scaling in CASES]
every_case = pytest.mark.parametrize("ratio, tied, rope_scaling", CASES, ids=NAMES)
# Past the original context of YARN; a single id; in between.
SEQUENCES = [[(5 * i * i + seed * i + seed) % 400 for i in range(length)]
             for seed, length in [(3, 100), (11, 1), (17, 33)]]
LIMIT = 1e-4           # of the range of the logits
GRADIENT_LIMIT = 1e-3  # of the norm of a tensor's gradient


def complaint(*command, **options):
    """What the program says when it fails; None when it does not."""
    done = subprocess.run([str(BUILD / "tests" / "naite_logits"), *map(str, command)],
                          capture_output=True, **options)
    return done.stderr.decode() if done.returncode else None


@pytest.fixture(scope="session")
def knows_motif(tmp_path_factory):
    """Skips while Naite says of Motif what it says of a model that nobody has made."""
    directory = tmp_path_factory.mktemp("motif")
    motif.make_random(directory, 4, 0, False)
    keys = json.loads((directory / "config.json").read_text())
    said = {}
    for name in ["Motif", "Nobodys"]:
        text = json.dumps({**keys, "model_type": name, "architectures": [f"{name}ForCausalLM"]})
        (directory / "config.json").write_text(text)
        said[name] = complaint(directory, input=b"1 2 3\n")
    if said["Motif"] and said["Nobodys"]:
        if said["Motif"].replace("Motif", "Nobodys") == said["Nobodys"]:
            pytest.skip(f"Naite does not know model_type Motif: {said['Motif'].strip()}")


@pytest.fixture(scope="session")
def knows_gradients(knows_motif, tmp_path_factory):
    """Skips while Naite says of --gradients what it says of an option that nobody has made."""
    directory = tmp_path_factory.mktemp("gradients")
    motif.make_random(directory, 4, 0, False)
    (directory / "ids").write_text("1 2 3\n")
    files = [directory, directory / "ids", directory / "out.safetensors"]
    said = [complaint(option, *files, input=b"") for option in ["--gradients", "--nobodys"]]
    if said[0] is not None and said[1] is not None:
        if said[0].replace("--gradients", "--nobodys") == said[1]:
            pytest.skip(f"naite_logits does not know --gradients: {said[0].strip()}")


def make(directory, *case):
    """A model in the directory, and the float64 reference."""
    ratio, tied, rope_scaling = case
    motif.make_random(directory, ratio, CASES.index(case), tied, rope_scaling)
    return motif.load(directory, torch.float64)


def check_logits(directory, model):
    theirs = [model.logits(ids).numpy() for ids in SEQUENCES]
    assert worst(naite_logits(directory, SEQUENCES), theirs) < LIMIT


@every_case
def test_logits(ratio, tied, rope_scaling, tmp_path, knows_motif):
    model = make(tmp_path, ratio, tied, rope_scaling)
    check_logits(tmp_path, model)


@every_case
def test_gradients(ratio, tied, rope_scaling, tmp_path, knows_gradients):
    model = make(tmp_path, ratio, tied, rope_scaling)
    (tmp_path / "ids").write_text(" ".join(map(str, SEQUENCES[0])) + "\n")
    out = tmp_path / "gradients.safetensors"
    run(BUILD / "tests" / "naite_logits", "--gradients", tmp_path, tmp_path / "ids", out)
    ours, theirs = load_file(str(out)), model.loss_and_gradients(SEQUENCES[0])[1]
    assert set(ours) == set(theirs)
    errors = {name: float((ours[name].double() - exact).norm() / exact.norm())
              for name, exact in theirs.items()}
    assert {name: error for name, error in errors.items() if not error < GRADIENT_LIMIT} == {}


def test_noise_heads_may_be_written_down(tmp_path, knows_motif):
    model = make(tmp_path, 1, False, None)
    keys = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**keys, "num_noise_heads": 2}))
    check_logits(tmp_path, model)


def test_rotary_buffers_are_skipped(tmp_path, knows_motif):
    model = make(tmp_path, 4, False, None)
    path = str(tmp_path / "model.safetensors")
    extra = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(8) for i in range(3)}
    save_file({**load_file(path), **extra}, path, metadata={"format": "pt"})
    check_logits(tmp_path, model)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_stored_types(dtype, tmp_path, knows_motif):
    make(tmp_path, 4, False, None)
    path = str(tmp_path / "model.safetensors")
    tensors = {name: t.to(getattr(torch, dtype)) for name, t in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    check_logits(tmp_path, motif.load(tmp_path, torch.float64))
