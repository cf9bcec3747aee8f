# SPDX-License-Identifier: Apache-2.0
"""train.py RUN [--digests]: trains the recipe of a run anew, from the recipe.toml, config.json and
shards that it left, and compares the digests of every checkpoint, and without --digests also batch,
loss and norm of every step, with what the run wrote down. Exits 0 if all are equal, 3 at the first
that differs."""
import hashlib
import json
import math
import pathlib
import struct
import sys
import tomllib
from arithmetic import bf16, fp32, tree
from data import Data, batch_digest
from model import Model
from operations import Gradients
from optimizer import Optimizer, norm_and_scale


def compact(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256(text):
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest()


def line(name, tensor, precision):
    words = tensor.astype("<f4").view("<u4")
    data = (words >> 16).astype("<u2") if precision == "bf16" else words
    kind = "BF16" if precision == "bf16" else "F32"
    return f"{name} {kind} [{', '.join(map(str, tensor.shape))}] {sha256(data.tobytes())}\n"


def lines_of(tensors, precision):
    return "".join(line(name, tensors[name], precision) for name in sorted(tensors))


def recipe_digest(recipe):
    """Of the resolved recipe, without what decides no bit of the state."""
    def without(keys, *names):
        return {key: value for key, value in keys.items() if key not in names}

    out = without(recipe, "sample", "checkpoint")
    out["run"] = without(out["run"], "name")
    out["train"] = without(out["train"], "validation_tokens", "max_loss_ratio")
    sources = [without(source, "path") for source in out["data"]["source"]]
    return sha256(compact(out | {"data": out["data"] | {"source": sources}}))


class Run:
    def __init__(self, run):
        self.recipe = tomllib.loads((run / "recipe.toml").read_text())
        first = min((run / "checkpoints").iterdir())
        self.precision = self.recipe["train"]["precision"]
        self.model = Model(json.loads((first / "config.json").read_text()), self.precision)
        self.batch = self.recipe["train"]["batch_tokens"]
        self.steps = math.ceil(self.recipe["train"]["tokens"] / self.batch)
        self.data = Data(run, self.recipe, self.steps)
        self.masters = self.model.initial(self.recipe["run"]["seed"])
        self.optimizer = Optimizer(self.recipe, self.masters)
        self.done = 0

    def weights(self):
        return {n: bf16(p) if self.precision == "bf16" else p for n, p in self.masters.items()}

    def step(self):
        """One step: returns the digest of its batch, its loss and the norm of its gradient."""
        train = self.recipe["train"]
        batch = self.data.step(self.done)
        rows = train["micro_batch_tokens"] // batch[0].shape[1]
        micro = [[a[i:i + rows] for a in batch] for i in range(0, len(batch[0]), rows)]
        scale, weights = fp32(1 / batch[1].size), self.weights()
        groups, losses, self.model.peaks = [], 0.0, {}
        each = len(micro) // train["gradient_groups"]
        for i, piece in enumerate(micro):
            if i % each == 0:
                groups.append(Gradients())
            part = 0.0
            for loss in self.model.run(weights, piece, scale, groups[-1]):
                part += float(loss)
            losses += part
        gradients = {n: tree([g[n] for g in groups]) for n in self.masters}
        norm, clip = norm_and_scale(gradients, self.optimizer.trainable, train["max_grad_norm"])
        self.optimizer.update(self.masters, gradients, clip, self.done, self.steps, self.model)
        self.done += 1
        return batch_digest(batch), losses / batch[1].size, norm

    def digests(self):
        """Of the weights and of the whole state."""
        kept = {f"m.{n}": p for n, p in self.optimizer.m.items()}
        kept.update({f"v.{n}": p for n, p in self.optimizer.v.items()})
        if self.precision == "bf16":  # with fp32 the weights are the masters
            kept.update({f"master.{n}": p for n, p in self.masters.items()})
        run = self.recipe["run"]
        cursor = {"arithmetic": run["arithmetic"], "format": 1, "seed": run["seed"],
                  "recipe_digest": recipe_digest(self.recipe),
                  "step": self.done, "tokens": self.done * self.batch}
        weights = lines_of(self.weights(), self.precision)
        return [sha256(weights), sha256(weights + lines_of(kept, "fp32") + compact(cursor))]


def written_steps(run):
    """Batch digest, loss and norm of every step, from the log (docs/LEDGER.md)."""
    newest = max((run / "ledger/tile/entries").glob("000.p/*"), key=lambda path: int(path.name))
    data, steps = newest.read_bytes(), []
    while data:
        size = int.from_bytes(data[:2], "big")
        entry, data = json.loads(data[2:2 + size]), data[2 + size:]
        if entry["type"] == "steps":
            steps += [[batch, double(loss), double(norm)] for loss, norm, batch in entry["steps"]]
    return steps


def double(bits):
    return struct.unpack(">d", bytes.fromhex(bits))[0]


def main(run, digests_only):
    records = [json.loads((c / "record.json").read_text()) for c in (run / "checkpoints").iterdir()]
    digests = {c["step"]: [c["weights_digest"], c["state_digest"]] for c in records}
    mine, steps = Run(run), written_steps(run)

    def compare(what, ours, theirs):
        if ours != theirs:
            print(f"step {mine.done}, {what}: {ours}, the run has {theirs}")
            sys.exit(3)

    while True:
        if mine.done in digests:
            compare("digests of weights and state", mine.digests(), digests[mine.done])
        if mine.done == mine.steps:
            break
        step = mine.step()
        if not digests_only:
            compare("batch, loss, norm", list(step), steps[mine.done - 1])
    print(f"steps 1 to {mine.done}: every batch, loss, norm; {len(digests)} checkpoints, "
          f"the last with weights {mine.digests()[0][:16]}, state {mine.digests()[1][:16]}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), "--digests" in sys.argv)
