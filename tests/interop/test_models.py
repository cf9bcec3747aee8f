# SPDX-License-Identifier: Apache-2.0
"""Models made and trained by transformers give the same logits in Naite."""
import pytest
import torch
import transformers

from support import (CASES, expect_below, make_model, make_tokenizer, naite_logits, sequences,
                     torch_logits, worst)

LIMIT = 1e-4  # of the range of the logits


@pytest.mark.parametrize("case", CASES)
def test_fp32(case, tmp_path):
    model = make_model(case)
    model.save_pretrained(tmp_path)
    ids = sequences(make_tokenizer(), 100)
    expect_below(LIMIT, worst(naite_logits(tmp_path, ids), torch_logits(model, ids)),
                 "models of transformers in Naite, logits, share of their range")


@pytest.mark.parametrize("case", ["llama", "qwen2_tied", "qwen3"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_shards_and_types(case, dtype, tmp_path):
    model = make_model(case).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    wide = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = sequences(make_tokenizer(), 40)
    expect_below(LIMIT, worst(naite_logits(tmp_path, ids), torch_logits(wide, ids)),
                 f"the same in shards, {dtype}")
