# SPDX-License-Identifier: Apache-2.0
"""sampling.py NAITE RUN: `naite generate` and this file continue a text with the run's last
checkpoint, in several ways (docs/NUMERICS.md, "Sampling"). Exits 0 if all are equal, else 3."""
import json
import math
import pathlib
import subprocess
import sys
import numpy as np
from arithmetic import chain, exact_exp2
from model import Model
from randomness import SAMPLING, philox


def choose(logits, temperature, top_p, seed, position):
    if temperature == 0:
        return int(np.argmax(logits))
    x = (logits - logits.max()) * math.log2(math.e) / temperature
    weights = exact_exp2(np.maximum(x, -1000.0))
    ranked = np.lexsort((np.arange(len(weights)), -weights))
    sums = np.add.accumulate(weights[ranked])
    kept = int(np.argmax(sums >= top_p * sums[-1]))
    w0, w1, _, _ = (int(w) for w in philox(seed, SAMPLING, position))
    u = ((w1 << 32 | w0) >> 11) * 2.0**-53
    return int(ranked[min(int(np.argmax(sums > u * sums[kept])), kept)])


def byte_of_ids(tokenizer):
    """The byte of each id of a tokenizer without merges, which spells bytes as GPT-2 does."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    spelling = {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}
    vocabulary = json.loads(tokenizer.read_text())["model"]["vocab"]
    return {i: spelling[text] for text, i in vocabulary.items() if text in spelling}


def generate(model, weights, tokenizer, prompt, count, end, **options):
    """The bytes of the prompt and what follows, without special tokens."""
    byte_of = byte_of_ids(tokenizer)
    id_of = {b: i for i, b in byte_of.items()}
    ids = [end] + [id_of[b] for b in prompt]
    for _ in range(count):
        _, y, _ = model.forward(weights, np.array(ids), np.arange(len(ids)), [])
        logits = chain(y[-1:], weights[model.head_name].T, model.do.pairs)[0]
        token = choose(logits, position=len(ids), **options)
        if token == end:
            break
        ids.append(token)
    return bytes(byte_of[i] for i in ids if i in byte_of)


def tensors(path):
    """A safetensors file of BF16 or F32."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    out = {}
    for name, entry in json.loads(data[8:begin]).items():
        if name != "__metadata__":
            raw = data[begin + entry["data_offsets"][0]:begin + entry["data_offsets"][1]]
            words = np.frombuffer(raw, "<u4") if entry["dtype"] == "F32" else (
                np.frombuffer(raw, "<u2").astype(np.uint32) << 16)
            out[name] = words.view(np.float32).astype(np.float64).reshape(entry["shape"])
    return out


def main(naite, run):
    last = max((run / "checkpoints").iterdir())
    config = json.loads((last / "config.json").read_text())
    model = Model(config, "bf16" if config["dtype"] == "bfloat16" else "fp32")
    weights, prompt, count = tensors(last / "model.safetensors"), b"You may", 9
    cases = [(t, p, s) for t, p in ((0, 1), (0.3, 0.9), (1, 0.5), (2, 1)) for s in (1, 2)]
    for temperature, top_p, seed in cases:
        command = [naite, "generate", last, "--prompt", prompt, "--max-tokens", str(count),
                   "--temperature", str(temperature), "--top-p", str(top_p), "--seed", str(seed)]
        theirs = subprocess.run(command, check=True, capture_output=True).stdout
        ours = generate(model, weights, last / "tokenizer.json", prompt, count,
                        config["eos_token_id"], temperature=temperature, top_p=top_p, seed=seed)
        if ours + b"\n" != theirs:
            print(f"{temperature, top_p, seed}: {ours}, the program writes {theirs}")
            sys.exit(3)
    print(f"{len(cases)} texts")


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
