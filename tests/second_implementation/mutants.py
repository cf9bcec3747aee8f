# SPDX-License-Identifier: Apache-2.0
"""One-line changes of the contract. Each must end in other digests: that shows that the sizes of
base.toml let the line decide a bit, and that the comparison would notice.

MUTANTS has for each: its name, the variant in which it shows, the file, the text as it stands there
once, the text that it becomes."""

A, O, M, D, R, P, T = ("arithmetic.py", "operations.py", "model.py", "data.py", "randomness.py",
                       "optimizer.py", "train.py")
X, S = "rotary.py", "sampling.py"
B1, B2, F1, F2 = "dense-bf16-adamw", "dense-bf16-muon", "dense-fp32-adamw", "dense-fp32-muon"
MB1, MB2, MF1 = "motif-bf16-adamw", "motif-bf16-muon", "motif-fp32-adamw"
BIAS, NORMS, WINDOW, TRI = ("biases-bf16-adamw", "head-norms-fp32-adamw", "window-fp32-muon",
                            "tri-bf16-muon")

NORM = "self.to(r(r(x * rstd) * r(w * scale)))"
OUTPUT = "self.to(r(chain(self.to(p), v, self.pairs) * r(1 / l)))"
DK = "dk = chain(ds[h::group].swapaxes(1, 2), q[h::group], self.pairs, dk)"
DV = "dv = do.to(r(do.to(dv2) + dv1))"
DW = "gradients[name] = chain(dy.T, x, self.pairs, gradients.get(name))"
DX = "acc = chain(dy, w, self.pairs, acc)"
UPDATE = "masters[name] = fma(-fp32(rate), u, r(masters[name] * decay))"
MUON_NORM = "norm = r(np.sqrt(sum_of_products(u.reshape(-1), u.reshape(-1))))"

MUTANTS = [
    # Arithmetic.
    ("fma rounds twice", F1, A, "    return r(total)\n", "    return r(r(product) + c)\n"),
    ("bf16 cuts", B1, A, "bits + 0x7FFF + ((bits >> 16) & 1)", "bits"),
    ("bf16 rounds ties up", B1, A, "bits + 0x7FFF + ((bits >> 16) & 1)", "bits + 0x8000"),
    ("pairs even first", B1, A, "for j in (i + 1, i)]", "for j in (i, i + 1)]"),
    ("8 lanes", F1, A, "BLOCK, LANES = 4096, 16", "BLOCK, LANES = 4096, 8"),
    ("blocks of 2048", F1, A, "BLOCK, LANES = 4096, 16", "BLOCK, LANES = 2048, 16"),
    ("neighbouring lanes join", F1, A, "r(lane[..., :half] + lane[..., half:])",
     "r(lane[..., ::2] + lane[..., 1::2])"),
    ("tree of halves", MB1, A, "left = 1 << (len(parts) - 1).bit_length() - 1",
     "left = len(parts) // 2"),
    ("columns of 32", F1, A, "COLUMN = 64", "COLUMN = 32"),
    ("the true exp2", F1, A, "y = r(horner(EXP2, r(np.clip(x, -100, 127) - n)) * np.exp2(n))",
     "y = r(np.exp2(x))"),
    ("a coefficient of exp2", F1, A, "0x1.ebfbe0p-3", "0x1.ebfbe2p-3"),
    ("log2 ends unfused", F1, A, "return fma(s, horner(LOG2, r(s * s)), e)",
     "return r(r(s * horner(LOG2, r(s * s))) + e)"),
    # Linear layers and norms.
    ("one gradient for each output", F1, O, DX,
     "acc = r(chain(dy, w, self.pairs) + (0 if acc is None else acc))"),
    ("pairs across gate and up", MB2, O, "for dy, w in zip(dys, ws):",
     "for dy, w in [(np.concatenate(dys, 1), np.concatenate(ws))]:"),
    ("micro-batches added, not chained", F1, O, DW,
     "gradients.add(name, chain(dy.T, x, self.pairs))"),
    ("bias behind the rounding", BIAS, O, "return self.to(y if bias is None else r(y + bias))",
     "return self.to(y) if bias is None else self.to(r(self.to(y) + bias))"),
    ("mean by reciprocal", F1, O, "mean = r(sum_of_products(x, x) / x.shape[-1])",
     "mean = r(sum_of_products(x, x) * fp32(1 / x.shape[-1]))"),
    ("norm's epsilon outside of the root", F1, O,
     "rstd = r(1 / r(np.sqrt(r(mean + epsilon))))[..., None]",
     "rstd = r(1 / r(r(np.sqrt(mean)) + epsilon))[..., None]"),
    ("norm's weight first", F1, O, NORM, "self.to(r(x * r(rstd * r(w * scale))))"),
    ("scale behind the weight", MF1, O, NORM, "self.to(r(r(r(x * rstd) * w) * scale))"),
    ("norm's gradient unfused", F1, O, "return r(fma(-c, xhat, g) * rstd)",
     "return r(r(g - r(c * xhat)) * rstd)"),
    ("heads in blocks of 64 tokens", NORMS, O, "column(step, len(rows_dy), x.shape[-1:])",
     "column(lambda part, t: [part := step(part, i) for i in range(t * len(rows_dy) // len(x), "
     "(t + 1) * len(rows_dy) // len(x))][-1], len(x), x.shape[-1:])"),
    # Attention.
    ("rotation unfused", F1, O, "fma(second, cos, r(first * sin))",
     "r(r(second * cos) + r(first * sin))"),
    ("positions of the row", F1, D, "np.where(ids == self.boundary, places, 0)",
     "np.where(ids < 0, places, 0)"),
    ("output divided by l", F1, O, OUTPUT, "self.to(r(chain(self.to(p), v, self.pairs) / l))"),
    ("probabilities unrounded", B1, O, OUTPUT, "self.to(r(chain(p, v, self.pairs) * r(1 / l)))"),
    ("query heads added, not chained", F1, O, DK,
     "dk = r((0 if dk is None else dk) + chain(ds[h::group].swapaxes(1, 2), q[h::group], False))"),
    ("delta multiplied by itself", F1, O, "ds = self.to(r(p * r(dp - delta)))",
     "ds = self.to(r(r(p * dp) - r(p * delta)))"),
    ("window a key wider", WINDOW, O, "(ages < (window or len(place)))",
     "(ages <= (window or len(place)))"),
    ("yarn's factor before the rounding", NORMS, M, "return r(r(exact_cos(angles)) * factor)",
     "return r(exact_cos(angles) * factor)"),
    ("turns of yarn unrounded", NORMS, X, "low, high = math.floor(low), math.ceil(high)", "pass"),
    ("llama3's pairs between kept", BIAS, X, "[f, f / factor], between)", "[f, f / factor], f)"),
    ("tri's temperature by position", TRI, M, "np.floor((positions + 1) / self.c",
     "((positions + 1) / self.c"),
    ("tri's first layer is global", TRI, M, "return self.tri and (layer + 1)",
     "return self.tri and layer"),
    # Units.
    ("gate's gradient unfused", F1, O, "fma(gate, r(1 - s), np.ones_like(s))",
     "r(1 + r(gate * r(1 - s)))"),
    ("PolyNorm by powers", MF1, O, "p = fma(fma(fma(c3, gate, c2), gate, c1), gate, bias)",
     "p = fma(c3, powers[2], fma(c2, powers[1], fma(c1, gate, bias)))"),
    ("PolyNorm's epsilon", MF1, O, "mean + fp32(1e-6)", "mean + fp32(1e-5)"),
    ("PolyNorm's coefficients in order", MF1, O, "zip(coefficients[::-1], roots)",
     "zip(coefficients, roots)"),
    ("heads of the noise from the last", MF1, O, "u = r(u + shared[:, :, i])",
     "u = r(u + shared[:, :, -1 - i])"),
    ("lambda's layers from 1", MF1, M, "exact_exp2(-0.3 * (n - 1)", "exact_exp2(-0.3 * n"),
    ("gradients of values rounded once", MB1, M, DV, "dv = do.to(r(dv2 + dv1))"),
    ("gradients of values the other way", MB1, M, DV, "dv = do.to(r(dv2 + do.to(dv1)))"),
    # Ends of the model.
    ("gradient of the logits divided", F1, O, "self.to(r(r(r(e * r(1 / l)) - hit) * scale))",
     "self.to(r(r(r(e / l) - hit) * scale))"),
    ("rows of the embedding from the last", F1, M, "for t, token in enumerate(ids):",
     "for t, token in reversed(list(enumerate(ids))):"),
    # Randomness and data.
    ("purpose of initial tensors", F1, R, "DATA_ORDER, SAMPLING = 1,", "DATA_ORDER, SAMPLING = 2,"),
    ("purpose of data order", F1, R, "SAMPLING = 1, 2, 3", "SAMPLING = 1, 3, 3"),
    ("deviation of lambda's vectors", MF1, M, "normal(seed, name, shape, 0.1)",
     "normal(seed, name, shape, 0.02)"),
    ("four rounds", F1, R, "for turn in range(6):", "for turn in range(4):"),
    ("words of the offset", F1, D, "words[3] << 32 | words[2]", "words[2] << 32 | words[3]"),
    ("streams from 0", F1, D, "seed, number + 1", "seed, number"),
    ("rows stand where they are drawn", F1, D, "drawn[permuted(self.rows, words[:2], i)]",
     "drawn[i]"),
    # A step.
    ("groups join one by one", MF1, T, "tree([g[n] for g in groups])",
     "tree([tree([tree([g[n] for g in groups[:2]]), groups[2][n]]), groups[3][n]])"),
    ("loss of a target less", F1, T, "fp32(1 / batch[1].size)", "fp32(1 / (batch[1].size - 1))"),
    ("clipping as in PyTorch", F1, P, "fp32(limit / norm)", "fp32(limit / (norm + 1e-6))"),
    ("each gradient clipped for itself", F1, P, "g = r(gradients[name] * scale)",
     "g = r(gradients[name] * norm_and_scale({name: gradients[name]}, {name}, 0.5)[1])"),
    ("frozen gradients in the norm", WINDOW, P, "if n in trainable else np.float64(0)",
     "if True else np.float64(0)"),
    ("warm-up from 0", F1, P, "return peak * (step + 1) / warmup", "return peak * step / warmup"),
    ("decay from 0", F2, P, "x = (step + 1 - (steps - decay)) / decay",
     "x = (step - (steps - decay)) / decay"),
    ("cosine from 0", F1, P, "x = (step + 1 - warmup) / (steps - warmup)",
     "x = (step - warmup) / (steps - warmup)"),
    ("vectors decay", F1, P, "if g.ndim == 2 else 1.0", "if True else 1.0"),
    ("decay behind the step", F1, P, UPDATE,
     "masters[name] = r(fma(-fp32(rate), u, masters[name]) * decay)"),
    ("1 - beta of the rounded beta", F1, P, "fp32(1 - beta1) * g", "fp32(1 - fp32(beta1)) * g"),
    ("correction by division", F1, P, "r(r(m * correct1) /",
     "r(r(m / fp32(1 - integer_power(beta1, step + 1))) /"),
    ("AdamW's epsilon in the root", F1, P, "root = r(np.sqrt(r(v * correct2)))",
     "root = r(np.sqrt(r(r(v * correct2) + fp32(1e-16))))"),
    ("momentum that does not look ahead", F2, P, "u = bf16(fma(momentum, m, g))", "u = bf16(m)"),
    ("Muon's direction unrounded", F2, P, "u = bf16(fma(momentum, m, g))",
     "u = fma(momentum, m, g)"),
    ("Muon's small number in the root", F2, P, MUON_NORM, MUON_NORM.replace(
        "sum_of_products(u.reshape(-1), u.reshape(-1))",
        "r(sum_of_products(u.reshape(-1), u.reshape(-1)) + fp32(1e-5))")),
    ("Muon's fourth power rounded", F2, P, "fourth = chain(square.T, square, PAIRS)",
     "fourth = bf16(chain(square.T, square, PAIRS))"),
    ("Muon without pairs", F2, P, "PAIRS = True", "PAIRS = False"),
    ("Muon's rate by the shorter side", F2, P, "sqrt(max(z.shape))", "sqrt(min(z.shape))"),
    ("score's excess halved", F2, P, "power = 1 / (1 + math.sqrt(group))", "power = 0.5"),
    # Sampling.
    ("words of the uniform number", B1, S, "(w1 << 32 | w0)", "(w0 << 32 | w1)"),
    ("kept set of a token more", B1, S, "kept = int(np.argmax(sums >= top_p * sums[-1]))",
     "kept = min(int(np.argmax(sums >= top_p * sums[-1])) + 1, len(sums) - 1)"),
    ("uniform number of all weights", B1, S, "sums > u * sums[kept]", "sums > u * sums[-1]"),
    ("position of the token before", B1, S, "position=len(ids),", "position=len(ids) - 1,"),
    # Digests.
    ("the name is in the recipe's digest", F1, T, 'without(out["run"], "name")',
     'without(out["run"])'),
    ("masters are always in the state", F1, T, 'if self.precision == "bf16":  # with',
     "if True:  # with"),
]
