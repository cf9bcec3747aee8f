# SPDX-License-Identifier: Apache-2.0
"""The batches of a run: which tokens stand in which row of which step (docs/NUMERICS.md,
"Data order"), from data/manifest.json and the shards that it names."""
import hashlib
import json
import numpy as np
from randomness import DATA_ORDER, permuted, philox


class Source:
    """The training tokens of one source, a circle."""

    def __init__(self, run, manifest, number, weight, length, seed):
        shards = manifest["sources"][number]["train"]["shards"]
        dtype = {2: "<u2", 4: "<u4"}[manifest["token_bytes"]]
        self.tokens = np.concatenate([np.fromfile(run / "data" / s["file"], dtype) for s in shards])
        self.weight, self.length, self.seed, self.stream = weight, length, seed, number + 1
        self.owed, self.taken = 0.0, 0

    def next_row(self):
        rows = len(self.tokens) // self.length
        epoch, i = divmod(self.taken, rows)
        self.taken += 1
        words = [int(w) for w in philox(self.seed, DATA_ORDER, epoch, self.stream)]
        offset = (words[3] << 32 | words[2]) * len(self.tokens) >> 64
        first = offset + self.length * permuted(rows, words[:2], i)
        return self.tokens[(first + np.arange(self.length + 1)) % len(self.tokens)].astype(np.int64)


class Data:
    def __init__(self, run, recipe, steps):
        manifest = json.loads((run / "data" / "manifest.json").read_text())
        self.seed, self.steps = recipe["run"]["seed"], steps
        length = recipe["data"]["sequence_length"]
        self.rows = recipe["train"]["batch_tokens"] // length
        self.boundary = manifest["end_of_document"]
        self.whole_row = recipe["data"]["attention"] == "full"
        self.sources = [Source(run, manifest, i, s["weight"], length, self.seed)
                        for i, s in enumerate(recipe["data"]["source"])]

    def shares(self, progress):
        def at(weight):
            return np.interp(progress, *zip(*weight)) if isinstance(weight, list) else weight
        weights = [at(s.weight) for s in self.sources]
        return [w / sum(weights) for w in weights]

    def step(self, number):
        """Token ids, targets and positions of a step, each [rows, length]. Steps count from 0 and
        must be asked for in order."""
        for source, share in zip(self.sources, self.shares(number / self.steps)):
            source.owed += share * self.rows
        left, given = self.rows, [0] * len(self.sources)

        def give(i, count):
            nonlocal left
            given[i] += count
            self.sources[i].owed -= count
            left -= count

        for i, source in enumerate(self.sources):
            give(i, max(0, min(int(np.floor(source.owed)) - 1, left)))
        while left:
            give(max(range(len(given)), key=lambda i: (self.sources[i].owed, -i)), 1)
        drawn = [s.next_row() for s, count in zip(self.sources, given) for _ in range(count)]
        words = [int(w) for w in philox(self.seed, DATA_ORDER, number)]
        rows = np.stack([drawn[permuted(self.rows, words[:2], i)] for i in range(self.rows)])
        return rows[:, :-1], rows[:, 1:], self.positions(rows[:, :-1])

    def positions(self, ids):
        """Positions count from the first token of the document in its row."""
        places = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        if self.whole_row:
            return places
        starts = np.where(ids == self.boundary, places, 0)
        return places - np.maximum.accumulate(starts, axis=1)


def batch_digest(batch):
    """As the entries `steps` of the log have it (docs/LEDGER.md)."""
    return hashlib.sha256(b"".join(a.astype("<i4").tobytes() for a in batch)).hexdigest()
