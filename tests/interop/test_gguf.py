# SPDX-License-Identifier: Apache-2.0
"""GGUF files that Naite writes, in llama.cpp and in the gguf package, and read back by Naite."""
import gguf
import numpy as np
import pytest

from support import (CASES, PROMPTS, TEXT, LlamaCpp, expect_below, make_model, make_tokenizer,
                     naite, naite_logits, sequences, softmax, worst)

WINDOWED = [case for case, (_, d) in CASES.items() if d.get("sliding_window")]


def export(case, directory, quantization="f16", **changes):
    model, tokenizer = make_model(case, **changes), make_tokenizer()
    model.save_pretrained(directory / "model")
    tokenizer.save_pretrained(directory / "model")
    path = directory / f"{quantization}.gguf"
    naite("export", directory / "model", "--to", "gguf", "--quantize", quantization, "--out", path)
    return path, tokenizer


@pytest.mark.parametrize("case", [case for case in CASES if case not in WINDOWED])
def test_llama_cpp_agrees(case, tmp_path):
    path, tokenizer = export(case, tmp_path)
    ids = sequences(tokenizer, 60)[:2]
    ours = naite_logits(tmp_path / "model", ids)
    llama = LlamaCpp(path)
    for text in TEXT[:5] + PROMPTS + ["<|im_start|>user\n나이테<|im_end|>\n"]:
        assert llama.tokenize(text) == tokenizer(text)["input_ids"]
    for sequence, logits in zip(ids, ours):
        expect_below(2e-3, np.abs(llama.probabilities(sequence) - softmax(logits)).max(),
                     "models of transformers in llama.cpp, f16, probabilities")
    expect_below(2e-3, worst(naite_logits(path, ids), ours),
                 "GGUF read back, f16, logits, share of their range")


@pytest.mark.parametrize("case", ["llama", "qwen3_tied"])
def test_quantized_perplexity_is_near(case, tmp_path):
    changes = dict(hidden_size=256, intermediate_size=512, steps=40)
    loss = {}
    for quantization in ["f16", "q8_0", "q4_k_m"]:
        path, tokenizer = export(case, tmp_path, quantization, **changes)
        ids = sequences(tokenizer, 60)[0]
        theirs = LlamaCpp(path).probabilities(ids)
        ours = softmax(naite_logits(path, [ids])[0])  # the same file, dequantised here
        expect_below(3e-2, np.abs(theirs - ours).max(),
                     f"{quantization} in llama.cpp and here, probabilities")
        loss[quantization] = -np.log(theirs[np.arange(len(ids) - 1), ids[1:]]).mean()
    for quantization, limit in [("q8_0", 0.01), ("q4_k_m", 0.15)]:
        expect_below(limit, abs(loss[quantization] - loss["f16"]),
                     f"loss in llama.cpp, {quantization} against f16, nats")


def test_the_gguf_package_reads_every_type(tmp_path):
    for quantization in ["f32", "bf16", "q8_0", "q4_k_m"]:
        path, _ = export("qwen2", tmp_path, quantization, hidden_size=256, steps=1)
        file = gguf.GGUFReader(path)
        assert file.fields["general.architecture"].contents() == "qwen2"
        assert len(file.fields["tokenizer.ggml.tokens"].contents()) == 400
        kinds = {tensor.tensor_type.name for tensor in file.tensors}
        assert kinds >= {"F32", {"f32": "F32", "bf16": "BF16", "q8_0": "Q8_0",
                                 "q4_k_m": "Q4_K"}[quantization]}
        for tensor in file.tensors:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            assert np.isfinite(values).all() and np.abs(values).max() > 0


def test_windows_are_refused_in_words(tmp_path):
    with pytest.raises(AssertionError, match="sliding window"):
        export(WINDOWED[0], tmp_path)
