#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/data/unicode_tables.inc: the class of every code point, for splitting text.

Source: the PyPI package unicodedata2==16.0.0 (the Unicode Character Database, version 16.0), which
is the version that Hugging Face `tokenizers` 0.23 splits by.
    pip install unicodedata2==16.0.0
    tools/generate_unicode_tables.py > src/data/unicode_tables.inc
Classes: 0 other, 1 letter (\\p{L}), 2 number (\\p{N}), 3 space (\\s). Two bits a code point, pages
of 256 code points, equal pages shared.
"""
import unicodedata2

SPACES = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029,
          0x202F, 0x205F, 0x3000}  # White_Space of PropList.txt


def klass(code):
    if code in SPACES:
        return 3
    return {"L": 1, "N": 2}.get(unicodedata2.category(chr(code))[0], 0)


def rows(values, fmt, per_line):
    for i in range(0, len(values), per_line):
        print("    " + ", ".join(fmt.format(v) for v in values[i:i + per_line]) + ",")


assert unicodedata2.unidata_version == "16.0.0"
pages, index = [], []
for page in range(0x110000 // 256):
    words = []
    for word in range(8):
        value = 0
        for i in range(32):
            value |= klass(page * 256 + word * 32 + i) << (2 * i)
        words.append(value)
    if words not in pages:
        pages.append(words)
    index.append(pages.index(words))
print("// SPDX-License-Identifier: Apache-2.0")
version = unicodedata2.unidata_version
print(f"// Written by tools/generate_unicode_tables.py from Unicode {version}.")
print(f"constexpr uint8_t kPageOf[{len(index)}] = {{")
rows(index, "{}", 24)
print("};")
print(f"constexpr uint64_t kPages[{len(pages)}][8] = {{")
for words in pages:
    halves = [", ".join(f"0x{v:016x}" for v in words[i:i + 4]) for i in (0, 4)]
    print("    {" + ",\n     ".join(halves) + "},")
print("};")
