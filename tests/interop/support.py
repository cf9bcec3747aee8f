# SPDX-License-Identifier: Apache-2.0
"""What the comparisons share: Naite's commands, small models made by transformers, llama.cpp."""
import json
import os
import pathlib
import subprocess
import urllib.request

import numpy as np
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("NAITE_BUILD", ROOT / "build"))
torch.set_num_threads(int(os.environ.get("NAITE_TEST_THREADS", "2")))
transformers.logging.set_verbosity_error()

# The split pattern that Naite writes; the same in every regular-expression engine involved.
PATTERN = (r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
           r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CHAT = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + "
        "'<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
TEXT = [
    "나이테는 나무가 자란 기록이다. 해마다 하나씩 늘어나고 나중에 고칠 수 없다.",
    "Growth rings show how a tree grew, year after year; they can't be forged afterwards.",
    "스프레드시트의 셀을 선택하고 수식을 입력하면 결과가 바로 계산됩니다.",
    "In 1971 the library held 2,345 books, and it's grown by 10% every decade.",
    "문서를 저장하려면 파일 메뉴를 여십시오.\n\n  들여쓴 줄과   여러 칸의 공백도 있다.\n",
] * 8
PROMPTS = [line[:length] for line in TEXT[:5] for length in (5, 12, 20, 30)]


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, **options)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def naite(*arguments):
    return run(BUILD / "naite", *arguments).decode(errors="replace")


def naite_logits(model, sequences):
    """fp32 logits of every position, one array [T, V] for each sequence of ids."""
    lines = "\n".join(" ".join(str(i) for i in ids) for ids in sequences) + "\n"
    flat = np.frombuffer(run(BUILD / "tests" / "naite_logits", model, input=lines.encode()), "<f4")
    total = sum(len(ids) for ids in sequences)
    assert flat.size % total == 0
    rows = flat.reshape(total, -1)
    out, at = [], 0
    for ids in sequences:
        out.append(rows[at:at + len(ids)])
        at += len(ids)
    return out


def torch_logits(model, sequences):
    with torch.no_grad():
        return [model(torch.tensor([ids])).logits[0].float().numpy() for ids in sequences]


def worst(ours, theirs):
    """The largest difference as a share of the range of their logits."""
    return max(float(np.abs(a - b).max() / (b.max() - b.min())) for a, b in zip(ours, theirs))


FIGURES = {}  # what was measured: the greatest value of each name, and its limit


def expect_below(limit, value, name):
    """That `value` is below `limit`; conftest.py prints the figures at the end."""
    FIGURES[name] = (max(float(value), FIGURES.get(name, (0.0,))[0]), limit)
    assert value < limit, name


def softmax(rows):
    exponent = np.exp(rows.astype(np.float64) - rows.max(-1, keepdims=True))
    return exponent / exponent.sum(-1, keepdims=True)


def make_tokenizer(vocab_size=400):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=vocab_size, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"]))
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    wrapped.chat_template = CHAT
    return wrapped


SMALL = dict(vocab_size=400, hidden_size=64, intermediate_size=160, num_hidden_layers=4,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
             initializer_range=0.08, eos_token_id=0, bos_token_id=None, pad_token_id=0)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0,
              high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=64)
# name: (architecture, what differs from SMALL)
CASES = {
    "llama": ("Llama", dict(rope_parameters=dict(rope_type="default", rope_theta=50000.0))),
    "llama_tied": ("Llama", dict(tie_word_embeddings=True, num_key_value_heads=4)),
    "llama_biased": ("Llama", dict(attention_bias=True, head_dim=24)),
    "llama_llama3": ("Llama", dict(rope_parameters=LLAMA3)),
    "llama_yarn": ("Llama", dict(rope_parameters=YARN)),
    "mistral": ("Mistral", dict(sliding_window=None)),
    "mistral_window": ("Mistral", dict(sliding_window=9, num_key_value_heads=1)),
    "qwen2": ("Qwen2", dict()),
    "qwen2_tied": ("Qwen2", dict(tie_word_embeddings=True, use_sliding_window=True,
                                 sliding_window=9, max_window_layers=2)),
    "qwen2_yarn": ("Qwen2", dict(rope_parameters=YARN)),
    "qwen3": ("Qwen3", dict(head_dim=32)),
    "qwen3_tied": ("Qwen3", dict(head_dim=16, tie_word_embeddings=True)),
    "qwen3_yarn": ("Qwen3", dict(head_dim=32, rope_parameters=YARN, num_key_value_heads=4)),
}


def make_model(case, steps=20, **changes):
    """A model of transformers, trained for a few steps so that no tensor is near zero or one."""
    architecture, differences = CASES[case]
    config = getattr(transformers, architecture + "Config")(**{**SMALL, **differences, **changes})
    torch.manual_seed(len(case))
    model = getattr(transformers, architecture + "ForCausalLM")(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    rows = sequences(make_tokenizer(), 48)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        ids = torch.tensor(rows[step % len(rows)])[None]
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def sequences(tokenizer, length):
    ids = tokenizer("\n".join(TEXT))["input_ids"]
    return [ids[at:at + length] for at in range(0, min(len(ids), 6 * length) - length + 1, length)]


class LlamaCpp:
    """A GGUF file in llama.cpp's server, reached over the loopback address."""

    def __init__(self, path):
        import xllamacpp
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = 256
        parameters.n_parallel = 1
        parameters.warmup = False
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 2
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = (
            xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED)
        parameters.verbosity = -1
        self.server = xllamacpp.Server(parameters)

    def ask(self, endpoint, **request):
        call = urllib.request.Request(self.server.listening_address + endpoint,
                                      json.dumps(request).encode(),
                                      {"Content-Type": "application/json"})
        with urllib.request.urlopen(call) as answer:
            return json.load(answer)

    def tokenize(self, text):
        return self.ask("/tokenize", content=text, add_special=False, parse_special=True)["tokens"]

    def probabilities(self, ids):
        """The next token's probabilities after each position, [T, V].

        The server leaves them out when the token it draws is part of a character, so it is made to
        draw a letter; the probabilities are those before the draw.
        """
        rows, letter = [], self.tokenize("a")[0]
        for end in range(1, len(ids) + 1):
            answer = self.ask("/completion", prompt=ids[:end], n_predict=1, n_probs=100000,
                              temperature=0.0, cache_prompt=True, logit_bias=[[letter, 1000.0]])
            top = answer["completion_probabilities"][0]["top_logprobs"]
            row = np.zeros(1 + max(entry["id"] for entry in top))
            for entry in top:
                row[entry["id"]] = np.exp(entry["logprob"])
            rows.append(row)
        return np.stack(rows)
