# SPDX-License-Identifier: Apache-2.0
"""Schedule, clipping, AdamW and Muon (docs/NUMERICS.md, "A step")."""
import fnmatch
import math
import numpy as np
from arithmetic import (bf16, chain, exact_cos, exact_power, fma, fp32, integer_power, r,
                        sum_of_products, tree)


def learning_rate(peak, schedule, step, steps):
    warmup = math.ceil(schedule["warmup_ratio"] * steps - 1e-6)
    decay = math.ceil(schedule["decay_ratio"] * steps - 1e-6)
    low = schedule["min_learning_rate_ratio"]
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule["kind"] == "wsd" and step >= steps - decay:
        x = (step + 1 - (steps - decay)) / decay
        kind = schedule.get("decay", "linear")
        if kind == "linear":
            return peak * (1 - (1 - low) * x)
        if kind == "cosine":
            return peak * (low + (1 - low) * 0.5 * (1 + float(exact_cos(math.pi * x))))
        return peak / math.sqrt(1 + (1 / (low * low) - 1) * x)
    if schedule["kind"] == "cosine":
        x = (step + 1 - warmup) / (steps - warmup)
        return peak * (low + (1 - low) * 0.5 * (1 + float(exact_cos(math.pi * x))))
    return peak


def norm_and_scale(gradients, trainable, limit):
    """The gradient's norm in double, and what it is multiplied by."""
    sums = [sum_of_products(g.reshape(-1), g.reshape(-1)) if n in trainable else np.float64(0)
            for n, g in gradients.items()]
    norm = math.sqrt(float(tree(sums)))
    return norm, fp32(limit / norm) if limit > 0 and norm > limit else 1.0


MUON = [(4.0848, -6.8946, 2.9270), (3.9505, -6.3029, 2.6377), (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046), (2.8366, -3.0525, 1.2012)]
PAIRS = True  # Muon's products have bf16 operands, whatever the precision


class Optimizer:
    def __init__(self, recipe, masters):
        options, self.schedule = recipe["optimizer"], recipe["schedule"]
        self.peak, self.muon = options["learning_rate"], options.get("muon")
        self.adamw = options["adamw"] if self.muon else options
        self.matrices = {n for n, p in masters.items()
                         if self.muon and p.ndim == 2 and ".layers." in n}
        self.trainable = {n for n in masters if any(fnmatch.fnmatchcase(n, pattern) for pattern
                                                    in recipe["train"]["trainable"])}
        self.m = {n: np.zeros(p.shape) for n, p in masters.items()}
        self.v = {n: np.zeros(p.shape) for n, p in masters.items() if n not in self.matrices}

    def update(self, masters, gradients, scale, step, steps, model):
        rate = learning_rate(self.peak, self.schedule, step, steps)
        adamw_rate = learning_rate(self.adamw["learning_rate"], self.schedule, step, steps)
        for name in masters:
            if name not in self.trainable:
                continue
            g = r(gradients[name] * scale)
            if name in self.matrices:
                self.muon_update(masters, name, g, rate)
            else:
                self.adamw_update(masters, name, g, adamw_rate, step)
        if self.muon and self.muon["qk_clip"] > 0:
            self.clip_scores(masters, model)

    def adamw_update(self, masters, name, g, rate, step):
        beta1, beta2 = self.adamw["betas"]
        self.m[name] = m = fma(fp32(beta1), self.m[name], r(fp32(1 - beta1) * g))
        self.v[name] = v = fma(fp32(beta2), self.v[name], r(fp32(1 - beta2) * r(g * g)))
        correct1 = fp32(1 / (1 - integer_power(beta1, step + 1)))
        correct2 = fp32(1 / (1 - integer_power(beta2, step + 1)))
        root = r(np.sqrt(r(v * correct2)))
        u = r(r(m * correct1) / r(root + fp32(self.adamw["epsilon"])))
        decay = fp32(1 - rate * self.adamw["weight_decay"]) if g.ndim == 2 else 1.0
        masters[name] = fma(-fp32(rate), u, r(masters[name] * decay))

    def muon_update(self, masters, name, g, rate):
        momentum = fp32(self.muon["momentum"])
        self.m[name] = m = fma(momentum, self.m[name], g)
        u = bf16(fma(momentum, m, g))
        norm = r(np.sqrt(sum_of_products(u.reshape(-1), u.reshape(-1))))
        z = bf16(r(u * r(1 / r(norm + fp32(1e-7)))))
        wide = z.shape[0] < z.shape[1]
        if wide:
            z = z.T
        for a, b, c in MUON:
            a, b, c = fp32(a), fp32(b), fp32(c)
            square = bf16(chain(z.T, z, PAIRS))
            fourth = chain(square.T, square, PAIRS)
            y = chain(z, bf16(fma(c, fourth, r(b * square))), PAIRS)
            z = bf16(fma(a, z, y))
        factor = fp32(rate * 0.2 * math.sqrt(max(z.shape)))
        decay = fp32(1 - rate * self.muon["weight_decay"])
        masters[name] = fma(-factor, z.T if wide else z, r(masters[name] * decay))

    def clip_scores(self, masters, model):
        limit = self.muon["qk_clip"]
        for (layer, which), peaks in model.peaks.items():
            small = [min(1.0, limit / s) if s > 0 else 1.0 for s in math.log(2) * peaks]
            queries, keys = model.head_rows(which)
            group = len(queries) // len(keys)
            power = 1 / (1 + math.sqrt(group))
            prefix = model.prefix(layer) + "self_attn."

            def shrink(weight, head, factor):
                rows = slice(head * model.width, (head + 1) * model.width)
                weight[rows] = r(weight[rows] * fp32(factor))

            for k, key in enumerate(keys):
                mine = small[k * group:(k + 1) * group]
                if min(mine) < 1:
                    shrink(masters[prefix + "k_proj.weight"], key, exact_power(min(mine), power))
                    for query, g in zip(queries[k * group:], mine):
                        shrink(masters[prefix + "q_proj.weight"], query, exact_power(g, 1 - power))
