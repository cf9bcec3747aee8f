# SPDX-License-Identifier: Apache-2.0
"""What Naite has trained, in transformers, safetensors and llama.cpp."""
import json

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open

from support import (PROMPTS, LlamaCpp, expect_below, naite, naite_logits, sequences, softmax,
                     torch_logits, worst)


def newest(run):
    return sorted((run / "checkpoints").iterdir())[-1]


@pytest.fixture(params=["trained_run", "trained_qwen3"])
def checkpoint(request):
    return newest(request.getfixturevalue(request.param))


def opened(directory):
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(directory)


def test_logits_in_transformers(checkpoint):
    model, tokenizer = opened(checkpoint)
    ids = sequences(tokenizer, 100)
    expect_below(1e-4, worst(naite_logits(checkpoint, ids), torch_logits(model, ids)),
                 "models of Naite in transformers, logits, share of their range")


def test_greedy_continuations_are_identical(checkpoint, tmp_path):
    # fp32 on both sides: a bf16 checkpoint computes in bf16 here, with other roundings than torch.
    wide = tmp_path / "fp32"
    naite("export", checkpoint, "--to", "hf", "--dtype", "float32", "--out", wide)
    model, tokenizer = opened(wide)
    assert len(PROMPTS) == 20
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")
        theirs = model.generate(**ids, max_new_tokens=64, do_sample=False)[0]
        text = tokenizer.decode(theirs[len(ids["input_ids"][0]):], skip_special_tokens=True)
        ours = naite("generate", wide, "--prompt", prompt, "--max-tokens", 64, "--temperature", 0)
        assert ours.removesuffix("\n") == prompt + text


def test_tokenizer_and_chat_template(checkpoint):
    _, tokenizer = opened(checkpoint)
    for prompt in PROMPTS:
        ids = tokenizer(prompt)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id  # as before every document in training
        assert tokenizer.decode(ids, skip_special_tokens=True) == prompt
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "나이테?"}], tokenize=False,
                                         add_generation_prompt=True)
    assert chat == "<|im_start|>user\n나이테?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_export_in_shards_and_types(checkpoint, dtype, tmp_path):
    out = tmp_path / "out"
    naite("export", checkpoint, "--to", "hf", "--dtype", dtype, "--shard-size", "200KB",
          "--out", out)
    index = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    for name, file in index.items():
        with safe_open(out / file, "pt") as shard:
            assert shard.metadata()["format"] == "pt"
            assert shard.get_tensor(name).dtype == getattr(torch, dtype)
    model, tokenizer = opened(out)
    ids = sequences(tokenizer, 60)
    expect_below(1e-4, worst(naite_logits(out, ids), torch_logits(model, ids)),
                 f"the same in shards, {dtype}")


def test_llama_cpp_agrees(checkpoint, tmp_path):
    path = tmp_path / "model.gguf"
    naite("export", checkpoint, "--to", "gguf", "--quantize", "f16", "--out", path)
    _, tokenizer = opened(checkpoint)
    llama = LlamaCpp(path)
    for prompt in PROMPTS:
        assert llama.tokenize(prompt) == tokenizer(prompt, add_special_tokens=False)["input_ids"]
    ids = sequences(tokenizer, 60)[:2]
    differences = [np.abs(llama.probabilities(sequence) - softmax(logits)).max()
                   for sequence, logits in zip(ids, naite_logits(checkpoint, ids))]
    expect_below(2e-3, max(differences), "models of Naite in llama.cpp, f16, probabilities")
