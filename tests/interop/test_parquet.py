# SPDX-License-Identifier: Apache-2.0
"""Parquet: the documents that Naite reads are the strings that pyarrow reads, whatever types,
encodings, codecs and layouts a file has; and damaged files end in a line of error."""
import hashlib
import itertools
import json
import os
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from tokenizers import Tokenizer

from support import BUILD, naite, run

PLUGIN = BUILD / "naite_parquet.so"
ENVIRONMENT = {**os.environ, "NAITE_PARQUET_PLUGIN": str(PLUGIN)}
CODECS = ["none", "snappy", "gzip", "brotli", "zstd", "lz4"]
ENCODINGS = ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", None]  # None: a dictionary
TYPES = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(),
         pa.dictionary(pa.int32(), pa.string())]
WORDS = ["나이테", "growth", "🌲", "🧑‍🌾", "é", "\n", " ", "0", "줄\r\n", "\x00", "숲", "ring"]


def texts(count, seed):
    """Korean, emoji, empty, null, repeated, long, line ends: what strings may be."""
    chooser = random.Random(seed)
    out = []
    for _ in range(count):
        kind = chooser.randrange(8)
        if kind == 0:
            out.append(None)
        elif kind == 1:
            out.append("")
        elif kind == 2 and out:
            out.append(chooser.choice(out))
        else:
            length = chooser.choice([1, 3, 10, 100, 1000])
            out.append("".join(chooser.choice(WORDS) for _ in range(length)))
    return out


def read(key, *paths):
    """What naite_documents says about each file."""
    lines = run(BUILD / "tests" / "naite_documents", key, *paths, env=ENVIRONMENT).splitlines()
    return [json.loads(line) for line in lines]


def write(path, column, **options):
    pq.write_table(pa.table({"id": pa.array(range(len(column))), "text": column}), path, **options)
    return path


def joined(value, separator="\n"):
    """The text of a list: its elements that are there."""
    return None if value is None else separator.join(part for part in value if part is not None)


def expect(found, values):
    """Null rows are left out and counted; empty texts are no documents."""
    values = [v.decode() if isinstance(v, bytes) else v for v in values]
    assert found["error"] == ""
    assert found["documents"] == [value for value in values if value]
    assert found["skipped"] == values.count(None)
    assert found["empty"] == values.count("")


def layout(encoding):
    return {"use_dictionary": True} if encoding is None else {
        "use_dictionary": False, "column_encoding": {"text": encoding}}


def test_every_type_encoding_codec_and_page(tmp_path):
    paths, columns = [], []
    for kind, encoding, codec, page in itertools.product(TYPES, ENCODINGS, CODECS, ["1.0", "2.0"]):
        number = len(paths)
        values = pa.array(texts(60, number))
        columns.append(values.to_pylist())
        values = (values.dictionary_encode() if pa.types.is_dictionary(kind)
                  else values.cast(kind))
        paths.append(write(tmp_path / f"{number}.parquet", values, compression=codec,
                           data_page_version=page, row_group_size=[60, 25, 3][number % 3],
                           data_page_size=[1 << 20, 500][number % 2],
                           write_page_checksum=number % 4 == 0, **layout(encoding)))
    for found, path, column in zip(read("text", *paths), paths, columns):
        expect(found, column)
        assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert found["bytes"] == path.stat().st_size
        try:
            theirs = pq.ParquetFile(path).read(["text"])["text"].to_pylist()
        except OSError as error:  # dictionaries out of delta encodings
            assert "Not yet" in str(error)
            continue
        expect(found, theirs)


def test_large_and_required_columns(tmp_path):
    chooser = random.Random(5)
    values = ["".join(chooser.choices(WORDS, k=400)) for _ in range(3000)] + ["긴 글 " * 2_500_000]
    schema = pa.schema([pa.field("text", pa.string(), nullable=False)])
    path = tmp_path / "large.parquet"
    pq.write_table(pa.table([values], schema=schema), path, row_group_size=700)
    expect(read("text", path)[0], values)


def test_nested_columns(tmp_path):
    rows = [
        {"tags": ["하나", None, "둘"], "doc": {"text": "본문", "a.b": "점"},
         "deep": [["a", "b"], ["c"]],
         "messages": [{"role": "user", "content": "뭐?"}, {"role": "tool", "content": None},
                      {"role": "assistant", "content": "나이테."}]},
        {"tags": [], "doc": {"text": None, "a.b": ""}, "deep": [[], None], "messages": []},
        {"tags": None, "doc": None, "deep": None, "messages": None},
        {"tags": [None], "doc": {"text": "", "a.b": "x"}, "deep": [["d", None], [""]],
         "messages": [{"role": "user", "content": "🌲"}, None]},
    ] * 300  # lists go on from page to page
    path = tmp_path / "nested.parquet"
    for options in [{}, {"data_page_size": 50}, {"data_page_version": "2.0", "row_group_size": 7},
                    {"use_compliant_nested_type": False}]:
        pq.write_table(pa.Table.from_pylist(rows), path, **options)
        expect(read("tags", path)[0], [joined(row["tags"]) for row in rows])
        for key in ["doc.text", "doc.a.b"]:
            name = key.partition(".")[2]
            expect(read(key, path)[0], [(row["doc"] or {}).get(name) for row in rows])
        expect(read("deep", path)[0], [
            joined([word for part in row["deep"] for word in part or []])
            if row["deep"] is not None else None for row in rows])
        for key, name in [("messages", "content"), ("messages.role", "role")]:
            expect(read(key, path)[0], [
                joined([(message or {}).get(name) for message in row["messages"]], "\n\n")
                if row["messages"] is not None else None for row in rows])


def test_naite_packs_them(tmp_path):
    """The real program: a folder with partitions, its documents found again in the shards."""
    values = [f"나이테 {number}: " + "숲 " * (number % 7) for number in range(60)]
    paths = []
    for part, name in enumerate(["a.parquet", "b.PARQUET", "c.snappy.parquet"]):
        folder = tmp_path / "text" / f"year={1970 + part}"
        folder.mkdir(parents=True)
        column = pa.array(values[part * 20:part * 20 + 20])
        paths.append(write(folder / name, column, row_group_size=6))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"""
[tokenizer]
vocab_size = 256
[[data.source]]
name = "trees"
path = "{tmp_path}/text"
[data]
sequence_length = 32
deduplicate = false
[model]
model_type = "llama"
hidden_size = 8
num_hidden_layers = 1
num_attention_heads = 1
intermediate_size = 8
[train]
tokens = 64
batch_tokens = 32
[optimizer]
name = "adamw"
learning_rate = 1e-3
""")
    naite("train", recipe, "--run", tmp_path / "run", "--threads", "1")
    manifest = json.loads((tmp_path / "run" / "data" / "manifest.json").read_text())
    files = manifest["sources"][0]["files"]
    assert [file["path"] for file in files] == [str(path) for path in paths]
    assert [file["sha256"] for file in files] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert sorted(packed(tmp_path / "run")) == sorted(values)


def packed(run_directory):
    """The documents in the shards, decoded by another program; each begins with a marker."""
    tokenizer = Tokenizer.from_file(str(run_directory / "tokenizer.json"))
    for shard in (run_directory / "data").glob("*.tokens"):
        text = tokenizer.decode(np.fromfile(shard, "<u2").tolist(), skip_special_tokens=False)
        yield from text.split("<|endoftext|>")[1:]


def refusal(key, path):
    found = read(key, path)[0]
    assert found["error"].startswith(f"{path}: ")
    assert "\n" not in found["error"]
    return found["error"]


def test_what_is_refused_says_why(tmp_path):
    table = pa.table({"id": [1], "본문": ["하나"], "meta": [{"url": "u", "n": 1}],
                      "chat": [[{"from": "a", "value": "b"}]]})
    path = tmp_path / "some.parquet"
    pq.write_table(table, path)
    there = "set `text_key` to one of 본문, meta.url, chat.from, chat.value"
    assert refusal("text", path).endswith(f": no column `text`: {there}")
    assert refusal("id", path).endswith(f": `id` holds no text: {there}")
    assert refusal("meta", path).endswith(f": `meta` holds several fields: {there}")
    assert refusal("chat", path).endswith(f": `chat` holds several fields: {there}")
    assert "no column `본문.x`" in refusal("본문.x", path)
    whole = path.read_bytes()
    for name, content, word in [
            ("empty", b"", "an empty file"), ("cut", whole[:-20], "ends in the middle"),
            ("short", b"PAR1", "ends in the middle"), ("page", b"<html>", "not Parquet"),
            ("footer", whole[:-8] + b"\xff\xff\xff\x7fPAR1", "its footer claims"),
            ("pointer", b"version https://git-lfs.github.com/spec/v1\noid x\n", "git lfs pull")]:
        bad = tmp_path / f"{name}.parquet"
        bad.write_bytes(content)
        assert word in refusal("text", bad)
    packed = tmp_path / "some.parquet.gz"
    packed.write_bytes(whole)
    assert "unpack it first" in refusal("본문", packed)
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    expect(read("text", path)[0], [])


def test_texts_that_are_not_utf8_are_left_out(tmp_path):
    path = write(tmp_path / "bytes.parquet", pa.array([b"a", b"\xff", "숲".encode(), b"\xed\x95"]))
    found = read("text", path)[0]
    assert (found["documents"], found["skipped"], found["error"]) == (["a", "숲"], 2, "")


class NoKeyService(pe.KmsClient):
    """Keys lie open in the file: this is about refusing, not about hiding."""

    def __init__(self, configuration):
        pe.KmsClient.__init__(self)

    def wrap_key(self, key, name):
        return key

    def unwrap_key(self, key, name):
        return key


@pytest.mark.parametrize("plain_footer", [False, True])
def test_encryption_is_named(tmp_path, plain_footer):
    path = tmp_path / "secret.parquet"
    table = pa.table({"text": ["비밀"], "id": [1]})
    properties = pe.CryptoFactory(NoKeyService).file_encryption_properties(
        pe.KmsConnectionConfig(), pe.EncryptionConfiguration(
            footer_key="k", column_keys={"k": ["text"]}, plaintext_footer=plain_footer))
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    assert "encrypted Parquet" in refusal("text", path)


def test_bombs_are_refused(tmp_path):
    """A few bytes that stand for texts without end."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 80_000, pa.int32()), ["나이테 " * 100])
    path = tmp_path / "same.parquet"
    pq.write_table(pa.table({"text": text}), path)
    assert "decompression bomb" in refusal("text", path)


def test_damaged_files_end_in_documents_or_a_line(tmp_path):
    paths = []
    for number, (encoding, codec) in enumerate(itertools.product(ENCODINGS, CODECS)):
        values = texts(25, number)
        rows = {"text": values, "id": list(range(25))}
        if number % 3 == 0:
            rows["text"] = [[value, "x"] for value in values]
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table(rows), path, compression=codec, row_group_size=10,
                       data_page_version=["1.0", "2.0"][number % 2],
                       **({} if number % 3 == 0 else layout(encoding)))
        paths.append(path)
    out = json.loads(run(BUILD / "tests" / "naite_documents", "--mutate", 20000, 10, "text", *paths,
                         env=ENVIRONMENT))
    assert out["tried"] > 500
    assert 0.3 < out["refused"] / out["tried"] < 0.999
    assert out["mebibytes"] < 1500
