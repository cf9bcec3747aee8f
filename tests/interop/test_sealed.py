# SPDX-License-Identifier: Apache-2.0
"""Forged runs, sealed with the trainer's own keys, as other programs read them.

The generator of src/verify/forgeries_test.cc writes them with verify's answers. What verify accepts
must be, for each of these programs, the model that the log's digests are of.
"""
import hashlib
import json
import os
import subprocess

import pytest
import torch
import transformers
from safetensors import safe_open

from support import BUILD, ROOT, TEXT, LlamaCpp, naite

COUNT = 200
TYPES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.float16: "F16"}


@pytest.fixture(scope="module")
def forgeries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sealed") / "runs"
    subprocess.run([BUILD / "tests" / "naite_verify_test", "--gtest_filter=*AreWrittenForOthers"],
                   cwd=ROOT, check=True, capture_output=True,
                   env={**os.environ, "NAITE_FORGERIES": f"{folder}:{COUNT}"})
    return folder, json.loads((folder / "answers.json").read_text())


def checkpoints(run):
    return sorted(path for path in (run / "checkpoints").iterdir() if path.is_dir())


def tensors_of(checkpoint):
    """What a reader of whole files gets: every tensor of every file, the later file wins."""
    out = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            out.update({name: file.get_tensor(name) for name in file.keys()})
    return out


def weights_digest(tensors):
    """As docs/NUMERICS.md has it, from tensors that another program read."""
    lines = ""
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        raw = bytes(tensor.view(torch.uint8).numpy())
        lines += (f"{name} {TYPES[tensor.dtype]} [{', '.join(map(str, tensor.shape))}] "
                  f"{hashlib.sha256(raw).hexdigest()}\n")
    return hashlib.sha256(lines.encode()).hexdigest()


def seen(checkpoint):
    """A checkpoint as loaded: weights, ids of some text, chat template."""
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return state, [tokenizer(text)["input_ids"] for text in TEXT[:5]], tokenizer.chat_template


def same(a, b):
    return (a[0].keys() == b[0].keys() and all(torch.equal(a[0][name], b[0][name]) for name in a[0])
            and a[1:] == b[1:])


def logged_weights(run):
    """The weights that the run's own records have, which verify compares with the log."""
    return {path.name: json.loads((path / "record.json").read_text())["weights_digest"]
            for path in checkpoints(run)}


def test_the_honest_run_is_what_its_digests_say(forgeries):
    run = forgeries[0] / "honest"
    for path in checkpoints(run):
        tensors = tensors_of(path)
        assert weights_digest(tensors) == logged_weights(run)[path.name]
        loaded = seen(path)[0]
        assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_what_is_accepted_is_loaded_as_the_honest_run(forgeries):
    folder, answers = forgeries
    honest = {path.name: seen(path) for path in checkpoints(folder / "honest")}
    digests = logged_weights(folder / "honest")
    accepted = [answer for answer in answers if answer["holds"]]
    assert len(answers) == COUNT and 0 < len(accepted) < COUNT
    for answer in accepted:
        found = {path.name: path for path in checkpoints(folder / answer["name"])}
        assert found.keys() == honest.keys(), answer
        for name, path in found.items():
            assert weights_digest(tensors_of(path)) == digests[name], answer
            assert same(seen(path), honest[name]), answer


def test_llama_cpp_reads_the_accepted_ones_as_the_honest_run(forgeries, tmp_path):
    folder, answers = forgeries
    accepted = [answer["name"] for answer in answers if answer["holds"]][:2]
    texts, files = [], []
    for name in ["honest", *accepted]:
        path = tmp_path / f"{name}.gguf"
        naite("export", checkpoints(folder / name)[-1], "--to", "gguf", "--out", path)
        files.append(path.read_bytes())
        texts.append([LlamaCpp(path).tokenize(text) for text in TEXT[:2]])
    assert all(text == texts[0] for text in texts)
    assert all(file == files[0] for file in files)


def test_the_generator_would_mislead_these_programs(forgeries):
    """Without verify, some of what it wrote is loaded as another model: the test has teeth."""
    folder, answers = forgeries
    digests = logged_weights(folder / "honest")
    misled = 0
    for answer in answers:
        for path in checkpoints(folder / answer["name"]):
            try:
                misled += weights_digest(tensors_of(path)) != digests.get(path.name)
            except Exception:  # noqa: BLE001 - what cannot be read misleads nobody
                continue
    assert misled > 5
