#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Naite and Hugging Face `tokenizers` must give the same ids: tokenizers reading our file, and
Naite reading files that tokenizers trained with the GPT-2, GPT-4 / Llama 3 and Qwen patterns; on
100,000 generated strings and on a corpus. Training on one text must learn the same merges.

usage: compare_tokenizers.py NAITE WORK_DIRECTORY CORPUS...   (tests/interop/run calls it)
"""
import json
import os
import random
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "true"
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

NUM_STRINGS = 100_000
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {  # None: ByteLevel's own pattern, GPT-2's
    "gpt2": None,
    "gpt2-prefix-space": None,
    "gpt4": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + TAIL,
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + TAIL,
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + TAIL,
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}"
              r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
}


def generated_strings(rng):
    """Strings of the kinds that break tokenizers, each from a few of the pools below."""
    pools = [
        lambda: chr(rng.randrange(0xAC00, 0xD7A4)),                     # Hangul syllables
        lambda: chr(rng.choice([*range(0x1100, 0x1200), *range(0x3131, 0x318F)])),  # jamo
        lambda: chr(0x1100 + rng.randrange(19)) + chr(0x1161 + rng.randrange(21))
        + rng.choice(["", chr(0x11A8 + rng.randrange(27))]),            # decomposed (NFD) Hangul
        lambda: chr(rng.randrange(0x20)) if rng.random() < .9 else chr(0x7F + rng.randrange(33)),
        lambda: " " * rng.randrange(1, 9),
        lambda: rng.choice(["\n", "\r\n", "\r", "\n\n", "\t", "\n \n", " \n", "\u00a0", "\u3000",
                            "\u2028", "\u0085", "\u200b", "\ufeff"]) * rng.randrange(1, 4),
        lambda: rng.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        lambda: rng.choice(["'s", "'S", "'re", "'VE", "'ll", "'d", "'T", "'M", "'ſ", "’s", "'x",
                            "don't"]),
        lambda: str(rng.randrange(10 ** rng.randrange(1, 9))),
        lambda: rng.choice("٠١٢३४५⅓Ⅷ²①一二千"),
        lambda: rng.choice(["😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇰🇷", "❤️", "1️⃣", "👨‍💻"]),
        lambda: rng.choice("aeiouåñ") + "".join(chr(rng.randrange(0x300, 0x370))
                                              for _ in range(rng.randrange(1, 4))),  # combining
        lambda: rng.choice("漢字カタカナひらがなПриветمرحباनमस्तेภาษาไทยΑΩשלום"),
        lambda: rng.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~…—「」。、·～"),
        lambda: rng.choice(SPECIALS + ["<|im_", "|>", "<|endoftext|", "<|IM_END|>"]),
        lambda: chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])),
        lambda: rng.choice(["나이테", " growth", " rings", "스프레드시트", " the", "입니다."]),
    ]
    strings = ["", " ", "\n", *map(chr, range(0x20)), *SPECIALS]
    while len(strings) < NUM_STRINGS:
        some = rng.sample(pools, rng.randrange(1, 6))
        strings.append("".join(rng.choice(some)() for _ in range(rng.randrange(1, 24))))
    return strings


class Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.parts = []

    def handle_data(self, data):
        self.parts.append(data)


def corpus_texts(folders):
    texts = []
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix in (".html", ".txt", ".md"):
                text = path.read_text(encoding="utf-8")
                if path.suffix == ".html":
                    parser = Text()
                    parser.feed(text)
                    text = "".join(parser.parts)
                texts.append(text)
    return texts


def naite_lines(naite, command, tokenizer, lines):
    done = subprocess.run([naite, "tokenizer", command, str(tokenizer), "--json"], check=True,
                          input="\n".join(lines) + "\n", capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.split("\n")[:-1]]


def compare(naite, name, file, groups):
    """True if both programs agree on every string of every group, both ways."""
    peer = Tokenizer.from_file(str(file))
    fine = True
    for group, strings in groups.items():
        theirs = [e.ids for e in peer.encode_batch(strings, add_special_tokens=False)]
        ours = naite_lines(naite, "encode", file, [json.dumps(s) for s in strings])
        wrong = [i for i in range(len(strings)) if theirs[i] != ours[i]]
        back = naite_lines(naite, "decode", file, [json.dumps(ids) for ids in ours])
        peer_back = peer.decode_batch(ours, skip_special_tokens=False)
        lost = [i for i in range(len(strings)) if back[i] != peer_back[i]]
        tokens = sum(map(len, ours))
        print(f"{name}, {group}: {len(strings)} strings, {tokens} tokens, {len(wrong)} encoded "
              f"otherwise, {len(lost)} decoded otherwise")
        for i in wrong[:3]:
            print(f"  {strings[i]!r}\n    theirs {theirs[i]}\n    ours   {ours[i]}")
        for i in lost[:3]:
            print(f"  decoded {back[i]!r}, theirs {peer_back[i]!r}")
        fine = fine and not wrong and not lost and len(ours) == len(strings)
    return fine


def peer_trained(name, texts, file):
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
    pattern = PATTERNS[name]
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    if pattern is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=name != "gpt2")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=6000, special_tokens=SPECIALS, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    tokenizer.save(str(file))


def same_merges(naite, work, texts):
    """Naite's trainer against theirs, on the same text with the same pattern."""
    source = work / "corpus.jsonl"
    source.write_text("".join(json.dumps({"text": t}) + "\n" for t in dict.fromkeys(texts)))
    subprocess.run([naite, "tokenizer", "train", str(source), "--vocab-size", "8192", "-o",
                    str(work / "ours")], check=True, capture_output=True)
    ours = json.loads((work / "ours" / "tokenizer.json").read_text())
    peer = Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(ours["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]),
                             "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=8192, min_frequency=2, special_tokens=SPECIALS,
                                  show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    unique = list(dict.fromkeys(texts))
    peer.train_from_iterator(unique, trainer, length=len(unique))
    theirs = [tuple(m) if isinstance(m, list) else tuple(m.split(" "))
              for m in json.loads(peer.to_str())["model"]["merges"]]
    mine = [tuple(m) for m in ours["model"]["merges"]]
    print(f"training: {len(mine)} merges, {'the same' if mine == theirs else 'NOT the same'}")
    return mine == theirs


def main():
    naite, work, corpus = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    texts = corpus_texts(corpus)
    groups = {"generated": generated_strings(random.Random(20)), "corpus": texts}
    fine = same_merges(naite, work, texts)
    fine &= compare(naite, "naite's own", work / "ours" / "tokenizer.json", groups)
    for name in PATTERNS:
        file = work / f"{name}.json"
        peer_trained(name, texts, file)
        fine &= compare(naite, name, file, groups)
    print("tokenizers: all the same" if fine else "tokenizers: DIFFERENCES")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
