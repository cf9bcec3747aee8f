# SPDX-License-Identifier: Apache-2.0
"""Llama, and Motif's grouped differential attention with PolyNorm: one micro-batch forward and
backward. The order of the calls is the order in which NUMERICS.md has operations recorded."""
import math
import numpy as np
import rotary
from arithmetic import exact_cos, exact_exp2, exact_ln, exact_sin, fp32, r
from operations import Arithmetic
from randomness import normal

TABLE = "model.embed_tokens.weight"


class Model:
    def __init__(self, config, precision):
        self.c, self.do = config, Arithmetic(precision)
        self.motif = config["model_type"].lower() == "motif"
        self.peaks = {}
        self.poly = config["hidden_act"] == "poly_norm"
        self.layers, self.width = config["num_hidden_layers"], config["head_dim"]
        self.heads, self.keys = config["num_attention_heads"], config["num_key_value_heads"]
        self.noise = config["num_noise_heads"] if self.motif else 0
        self.biases, self.head_norms = (config["model_type"] == m for m in ("qwen2", "qwen3"))
        self.tri = config["model_type"] == "tri"
        self.windowed = self.tri or config["model_type"] == "mistral"
        self.scale, self.epsilon = 1 / math.sqrt(self.width), fp32(config["rms_norm_eps"])
        self.head_name = TABLE if config["tie_word_embeddings"] else "lm_head.weight"

    def shapes(self):
        """Names and shapes of all parameters, in recording order."""
        c, d, f = self.c, self.c["hidden_size"], self.c["intermediate_size"]
        out = {TABLE: (c["vocab_size"], d)}
        for n in range(self.layers):
            attention, mlp = self.prefix(n) + "self_attn.", self.prefix(n) + "mlp."
            out[self.prefix(n) + "input_layernorm.weight"] = (d,)
            for part, heads in (("q", self.heads), ("k", self.keys), ("v", self.keys)):
                out[attention + part + "_proj.weight"] = (heads * self.width, d)
                if self.biases:
                    out[attention + part + "_proj.bias"] = (heads * self.width,)
            if self.head_norms:
                out[attention + "q_norm.weight"] = out[attention + "k_norm.weight"] = (self.width,)
            joined = self.heads * self.width
            if self.motif:
                for vector in ("q1", "k1", "q2", "k2"):
                    out[attention + "lambda_" + vector] = (self.width,)
                out[attention + "subln.weight"] = (2 * self.width,)
                joined = (self.heads - self.noise) * 2 * self.width
            out[attention + "o_proj.weight"] = (d, joined)
            out[self.prefix(n) + "post_attention_layernorm.weight"] = (d,)
            out[mlp + "gate_proj.weight"], out[mlp + "up_proj.weight"] = (f, d), (f, d)
            if self.poly:
                out[mlp + "act_fn.weight"], out[mlp + "act_fn.bias"] = (3,), (1,)
            out[mlp + "down_proj.weight"] = (d, f)
        out["model.norm.weight"] = (d,)
        if not c["tie_word_embeddings"]:
            out["lm_head.weight"] = (c["vocab_size"], d)
        return out

    def initial(self, seed):
        deviation = self.c["initializer_range"]
        out = {}
        for name, shape in self.shapes().items():
            if "lambda_" in name:
                out[name] = normal(seed, name, shape, 0.1)
            elif name.endswith("bias"):
                out[name] = np.zeros(shape)
            elif name.endswith("act_fn.weight"):
                out[name] = np.full(shape, fp32(1 / 3))
            elif len(shape) == 1:
                out[name] = np.ones(shape)
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                out[name] = normal(seed, name, shape, deviation / math.sqrt(2 * self.layers))
            else:
                out[name] = normal(seed, name, shape, deviation)
        return out

    @staticmethod
    def prefix(layer):
        return f"model.layers.{layer}."

    def is_global(self, layer):
        """Tri: every so manieth layer has no window and no rotation."""
        return self.tri and (layer + 1) % self.c["global_attention_freq"] == 0

    def rotary_table(self, positions):
        frequencies, factor = rotary.frequencies(self.c)
        angles = positions[:, None] * frequencies
        return r(r(exact_cos(angles)) * factor), r(r(exact_sin(angles)) * factor)

    def forward(self, w, ids, positions, tape):
        """What the last norm reads, what it gives, and 1 / its root mean square."""
        starts = [t for t in range(len(ids)) if positions[t] == 0] + [len(ids)]
        self.documents = [slice(a, b) for a, b in zip(starts, starts[1:])]
        self.table = self.rotary_table(positions)
        if self.tri:
            steps = np.floor((positions + 1) / self.c["floor_scale"]) + 1
            self.temperature = r(1 + self.c["attn_scale"] * exact_ln(steps))[:, None, None]
        stream, delta = w[TABLE][ids], None
        for n in range(self.layers):
            stream, delta = self.layer(w, n, stream, delta, tape)
        last = r(stream + delta)
        return last, *self.do.norm(last, w["model.norm.weight"], self.epsilon)

    def run(self, w, batch, scale, gradients):
        """The losses of a micro-batch [rows, length]; its gradients are written or added to
        `gradients`; the largest scores of each head to self.peaks. w: what operations read."""
        do, tape, (ids, targets, positions) = self.do, [], [a.reshape(-1) for a in batch]
        last, y, rstd = self.forward(w, ids, positions, tape)
        losses, dz = do.loss(y, w[self.head_name], targets, scale)

        do.linear_dw(dz, y, self.head_name, gradients)
        dy = do.linear_dx([dz], [w[self.head_name]])
        dstream = do.norm_backward(dy, last, rstd, w, "model.norm.weight", gradients)
        for n in reversed(range(self.layers)):
            dstream = self.layer_backward(w, n, dstream, tape[n], gradients)
        self.embedding_backward(dstream, ids, gradients)
        return losses

    def embedding_backward(self, dy, ids, gradients):
        table = gradients.get(TABLE, np.zeros(self.shapes()[TABLE]))
        for t, token in enumerate(ids):
            table[token] = r(table[token] + dy[t])
        gradients[TABLE] = table

    # A layer takes the stream and what the layer before adds to it, and hands on both.

    def layer(self, w, n, stream, delta, tape):
        do, p = self.do, self.prefix(n)
        t = {"x": stream if delta is None else r(stream + delta)}
        h, t["rstd"] = do.norm(t["x"], w[p + "input_layernorm.weight"], self.epsilon)
        joined = self.attention(w, p + "self_attn.", n, h, t)
        t["h"], t["joined"] = h, joined
        t["x2"] = r(t["x"] + do.linear(joined, w[p + "self_attn.o_proj.weight"]))
        h2, t["rstd2"] = do.norm(t["x2"], w[p + "post_attention_layernorm.weight"], self.epsilon)
        gate, up = (do.linear(h2, w[p + f"mlp.{g}_proj.weight"]) for g in ("gate", "up"))
        if self.poly:
            coefficients, bias = w[p + "mlp.act_fn.weight"], w[p + "mlp.act_fn.bias"]
            unit, t["unit"] = do.poly(gate, up, coefficients, bias)
        else:
            unit = do.gated(gate, up)
        t.update(h2=h2, gate=gate, up=up, product=unit)
        tape.append(t)
        return t["x2"], do.linear(unit, w[p + "mlp.down_proj.weight"])

    def layer_backward(self, w, n, dtotal, t, gradients):
        """From the gradient of the sum of stream and delta behind this layer to that of the sum
        before it."""
        do, p = self.do, self.prefix(n)
        ddelta = do.to(dtotal)
        down = p + "mlp.down_proj.weight"
        do.linear_dw(ddelta, t["product"], down, gradients)
        dunit = do.linear_dx([ddelta], [w[down]])
        if self.poly:
            dgate, dup = do.poly_backward(dunit, t["up"], t["unit"], p + "mlp.act_fn.", gradients)
        else:
            dgate, dup = do.gated_backward(dunit, t["gate"], t["up"])
        names = [p + "mlp.gate_proj.weight", p + "mlp.up_proj.weight"]
        dh2 = self.project_back(w, names, [dgate, dup], t["h2"], gradients)
        name = p + "post_attention_layernorm.weight"
        dtotal = r(dtotal + do.norm_backward(dh2, t["x2"], t["rstd2"], w, name, gradients))

        ddelta, out = do.to(dtotal), p + "self_attn.o_proj.weight"
        do.linear_dw(ddelta, t["joined"], out, gradients)
        djoined = do.linear_dx([ddelta], [w[out]])
        dqkv = self.attention_backward(w, p + "self_attn.", n, djoined, t, gradients)
        names = [p + f"self_attn.{part}_proj.weight" for part in "qkv"]
        dh = self.project_back(w, names, dqkv, t["h"], gradients)
        name = p + "input_layernorm.weight"
        return r(dtotal + do.norm_backward(dh, t["x"], t["rstd"], w, name, gradients))

    def project_back(self, w, names, dys, x, gradients):
        for name, dy in zip(names, dys):
            self.do.linear_dw(dy, x, name, gradients)
            bias = name.replace("weight", "bias")
            if bias in w:
                self.do.bias_gradient(dy, bias, gradients)
        return self.do.linear_dx(dys, [w[name] for name in names])

    # Attention from normed input to what o_proj reads.

    def attention(self, w, p, n, h, t):
        do, tokens = self.do, len(h)
        q, k, v = (do.linear(h, w[p + part + "_proj.weight"], w.get(p + part + "_proj.bias"))
                   .reshape(tokens, -1, self.width) for part in "qkv")
        if self.head_norms:
            t["projected"] = q, k
            (q, rstd_q), (k, rstd_k) = (do.norm(x, w[p + norm + "_norm.weight"], self.epsilon)
                                        for x, norm in ((q, "q"), (k, "k")))
            t["rstd_heads"] = rstd_q, rstd_k
        if self.is_global(n):
            q = do.to(r(q * self.temperature))
        else:
            q, k = do.rotate(q, *self.table), do.rotate(k, *self.table)
        if not self.motif:
            t["calls"] = [(q, k, v)]
            t["outputs"] = [self.attend(t, 0, n)]
            return t["outputs"][0].reshape(tokens, -1)
        q = q.reshape(tokens, self.noise, -1, self.width)  # groups: signal heads, one noise head
        v = v.reshape(tokens, -1, 2 * self.width)
        t["calls"] = [(q[:, :, :-1].reshape(tokens, -1, self.width), k[:, 0::2], v),
                      (q[:, :, -1], k[:, 1::2], v)]
        t["outputs"] = [self.attend(t, 0, n), self.attend(t, 1, n)]
        t["lambda"] = do.lambda_of(*(w[p + "lambda_" + x] for x in ("q1", "k1", "q2", "k2")),
                                   self.lambda_initial(n))
        t["difference"] = do.difference(*t["outputs"], t["lambda"][0])
        epsilon, scale = fp32(self.c["attn_rms_norm_eps"]), fp32(1 - self.lambda_initial(n))
        y, t["rstd_heads"] = do.norm(t["difference"], w[p + "subln.weight"], epsilon, scale)
        return y.reshape(tokens, -1)

    def attention_backward(self, w, p, n, dy, t, gradients):
        do, tokens = self.do, len(dy)
        if not self.motif:
            dq, dk, dv = self.attend_backward(t, 0, dy.reshape(t["outputs"][0].shape))
            dv = do.to(dv)
        else:
            x, scale = t["difference"], fp32(1 - self.lambda_initial(n))
            d = do.to(do.norm_backward(dy.reshape(x.shape), x, t["rstd_heads"], w,
                                       p + "subln.weight", gradients, scale))
            dnoise, dlambda = do.difference_backward(d, t["outputs"][1], t["lambda"][0])
            self.lambda_backward(w, p, dlambda, t["lambda"], gradients)
            dq2, dk2, dv2 = self.attend_backward(t, 1, dnoise)
            dq1, dk1, dv1 = self.attend_backward(t, 0, d)
            dv = do.to(r(do.to(dv2) + dv1))
            dq1 = dq1.reshape(tokens, self.noise, -1, self.width)
            dq = np.concatenate([dq1, dq2[:, :, None]], axis=2).reshape(tokens, -1, self.width)
            dk = np.stack([dk1, dk2], axis=2).reshape(tokens, -1, self.width)
        cos, sin = self.table
        if self.is_global(n):
            dq = do.to(r(dq * self.temperature))
        else:
            dq, dk = do.rotate(dq, cos, -sin), do.rotate(dk, cos, -sin)
        if self.head_norms:
            dq, dk = (do.to(do.norm_backward(d, x, rstd, w, p + part + "_norm.weight", gradients))
                      for d, x, rstd, part in zip((dq, dk), t["projected"], t["rstd_heads"], "qk"))
        return [d.reshape(tokens, -1) for d in (dq, dk, dv)]

    def attend(self, t, which, n):
        """Attention of every document; keeps what the way back needs and the largest scores."""
        q, k, v = t["calls"][which]
        group = q.shape[1] // k.shape[1]
        window = self.c["sliding_window"] if self.windowed and not self.is_global(n) else None
        y = np.zeros((len(q), q.shape[1], v.shape[2]))
        saved = t.setdefault("saved", {})
        for d in self.documents:
            heads = [x[d].swapaxes(0, 1) for x in (q, k.repeat(group, 1), v.repeat(group, 1))]
            out, saved[which, d.start] = self.do.attention(*heads, self.scale, window)
            y[d] = out.swapaxes(0, 1)
            peak = saved[which, d.start][3].max(axis=(1, 2))
            self.peaks[n, which] = np.maximum(self.peaks.get((n, which), -np.inf), peak)
        return y

    def attend_backward(self, t, which, dy):
        q, k, v = t["calls"][which]
        group = q.shape[1] // k.shape[1]
        dq, dk, dv = np.zeros(q.shape), np.zeros(k.shape), np.zeros(v.shape)
        for d in self.documents:
            heads = [x[d].swapaxes(0, 1) for x in (dy, q, k.repeat(group, 1), v.repeat(group, 1),
                                                   t["outputs"][which])]
            saved = t["saved"][which, d.start]
            parts = self.do.attention_backward(*heads, saved, self.scale, group)
            dq[d], dk[d], dv[d] = (x.swapaxes(0, 1) for x in parts)
        return dq, dk, dv

    def head_rows(self, which):
        """Where the heads of an attention stand in q_proj and k_proj."""
        if not self.motif:
            return list(range(self.heads)), list(range(self.keys))
        size = self.heads // self.noise
        queries = [h for h in range(self.heads) if (h % size == size - 1) == (which == 1)]
        return queries, list(range(which, self.keys, 2))

    def lambda_initial(self, n):
        return 0.8 - 0.6 * float(exact_exp2(-0.3 * (n - 1) * math.log2(math.e)))

    @staticmethod
    def lambda_backward(w, p, dlambda, saved, gradients):
        _, e1, e2 = saved
        for i, factor in (("1", r(dlambda * e1)), ("2", -r(dlambda * e2))):
            gradients.add(p + "lambda_q" + i, r(factor * w[p + "lambda_k" + i]))
            gradients.add(p + "lambda_k" + i, r(factor * w[p + "lambda_q" + i]))
