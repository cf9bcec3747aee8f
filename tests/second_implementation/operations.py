# SPDX-License-Identifier: Apache-2.0
"""The operations of docs/NUMERICS.md, each forward and backward. `to` of an Arithmetic rounds to
the compute type; r() is the rounding of a single operation."""
import numpy as np
from arithmetic import (LN2, LOG2E, bf16, chain, column, exp2, fma, fp32, log2, r, sigmoid, sum_of,
                        sum_of_products)


class Gradients(dict):
    """Gradients of parameters by name; what is there already is accumulated onto."""

    def add(self, name, finished):
        self[name] = r(self[name] + finished) if name in self else finished


class Arithmetic:
    def __init__(self, precision):
        self.pairs = precision == "bf16"
        self.to = bf16 if self.pairs else lambda x: x

    # Linear layers that share an input: q, k, v; gate, up.

    def linear(self, x, w, bias=None):
        y = chain(x, w.T, self.pairs)
        return self.to(y if bias is None else r(y + bias))

    def linear_dx(self, dys, ws):
        acc = None
        for dy, w in zip(dys, ws):
            acc = chain(dy, w, self.pairs, acc)
        return self.to(acc)

    def linear_dw(self, dy, x, name, gradients):
        gradients[name] = chain(dy.T, x, self.pairs, gradients.get(name))

    @staticmethod
    def bias_gradient(dy, name, gradients):
        gradients.add(name, column(lambda part, t: r(part + dy[t]), len(dy), dy.shape[1:]))

    # RMS norm over the last axis. The rows of x, and heads within a token, come first.

    def norm(self, x, w, epsilon, scale=1.0):
        mean = r(sum_of_products(x, x) / x.shape[-1])
        rstd = r(1 / r(np.sqrt(r(mean + epsilon))))[..., None]
        return self.to(r(r(x * rstd) * r(w * scale))), rstd

    @staticmethod
    def norm_backward(dy, x, rstd, w, name, gradients, scale=1.0):
        """The gradient of x, not yet rounded to its type."""
        xhat = r(x * rstd)
        g = r(dy * r(w[name] * scale))
        c = r(sum_of_products(g, xhat) / x.shape[-1])[..., None]

        def step(part, t):
            return fma(rows_dy[t], rows_xhat[t], part)

        rows_dy, rows_xhat = (a.reshape(-1, x.shape[-1]) for a in (dy, xhat))
        gradients.add(name, r(column(step, len(rows_dy), x.shape[-1:]) * scale))
        return r(fma(-c, xhat, g) * rstd)

    # Rotary positions of [T, heads, width] with tables [T, half].

    def rotate(self, x, cos, sin):
        half = x.shape[-1] // 2
        first, second, cos, sin = x[..., :half], x[..., half:], cos[:, None], sin[:, None]
        return self.to(np.concatenate([fma(first, cos, -r(second * sin)),
                                       fma(second, cos, r(first * sin))], axis=-1))

    # Attention of one document: q [H, n, width], k and v of as many heads (repeated).

    def attention(self, q, k, v, scale, window):
        c = fp32(scale * np.log2(np.e))
        place = np.arange(q.shape[1])
        ages = place[:, None] - place
        seen = (ages >= 0) & (ages < (window or len(place)))
        s = chain(q, k.swapaxes(1, 2), self.pairs)
        m = np.where(seen, s, -np.inf).max(axis=-1, keepdims=True)
        mc = r(m * c)
        p = np.where(seen, exp2(np.where(seen, fma(s, c, -mc), 0)), 0)
        # With a window, element 0 is its first key. Up to 4096 keys that is the same: whatever lane
        # a sum begins in, the same elements meet.
        l = sum_of(p)[..., None]
        y = self.to(r(chain(self.to(p), v, self.pairs) * r(1 / l)))
        return y, (s, r(mc + log2(l)), seen, mc)

    def attention_backward(self, dy, q, k, v, y, saved, scale, group):
        """dq for each query head; dk and dv for each key head, which `group` query heads share."""
        s, lse, seen, _ = saved
        c = fp32(scale * np.log2(np.e))
        p = np.where(seen, exp2(np.where(seen, fma(s, c, -lse), 0)), 0)
        delta = sum_of_products(dy, y)[..., None]
        dp = chain(dy, v.swapaxes(1, 2), self.pairs)
        ds = self.to(r(p * r(dp - delta)))
        dq = self.to(r(chain(ds, k, self.pairs) * fp32(scale)))
        dk = dv = None
        for h in range(group):
            dk = chain(ds[h::group].swapaxes(1, 2), q[h::group], self.pairs, dk)
            dv = chain(self.to(p)[h::group].swapaxes(1, 2), dy[h::group], self.pairs, dv)
        return dq, self.to(r(dk * fp32(scale))), dv

    # Gated unit.

    def gated(self, gate, up):
        return self.to(r(r(gate * sigmoid(gate)) * up))

    def gated_backward(self, dy, gate, up):
        s = sigmoid(gate)
        dgate = r(r(dy * up) * r(s * fma(gate, r(1 - s), np.ones_like(s))))
        return self.to(dgate), self.to(r(dy * r(gate * s)))

    # PolyNorm unit.

    def poly(self, gate, up, coefficients, bias):
        powers = [gate, r(gate * gate)]
        powers.append(r(powers[1] * gate))
        means = [r(sum_of_products(g, g) / g.shape[-1])[..., None] for g in powers]
        roots = [r(1 / r(np.sqrt(r(mean + fp32(1e-6))))) for mean in means]
        c1, c2, c3 = (r(a * root) for a, root in zip(coefficients[::-1], roots))
        p = fma(fma(fma(c3, gate, c2), gate, c1), gate, bias)
        return self.to(r(p * up)), (powers, roots, (c1, c2, c3), p)

    def poly_backward(self, dy, up, saved, name, gradients):
        powers, roots, c, p = saved
        d, g, size = r(dy * up), powers[0], up.shape[-1]
        s = [sum_of_products(d, power)[..., None] for power in powers]
        k1, k2, k3 = (r(r(r(n * c[n - 1]) * r(roots[n - 1] * roots[n - 1])) * r(s[n - 1] / size))
                      for n in (1, 2, 3))
        inner = fma(fma(r(3 * c[2]), g, r(2 * c[1])), g, c[0])
        outer = r(g * fma(fma(k3, powers[1], k2), powers[1], k1))
        dgate = fma(d, inner, -outer)
        da = [column(lambda part, t: fma(root[t], s_n[t], part), len(d), (1,))
              for root, s_n in zip(roots, s)]
        gradients.add(name + "weight", np.concatenate(da[::-1]))
        self.bias_gradient(sum_of(d)[:, None], name + "bias", gradients)
        return self.to(dgate), self.to(r(dy * p))

    # Differential attention: what follows its two attentions, [T, heads, width] each.

    def lambda_of(self, q1, k1, q2, k2, initial):
        e1, e2 = (exp2(r(sum_of_products(q, k) * LOG2E)) for q, k in ((q1, k1), (q2, k2)))
        return r(r(e1 - e2) + fp32(initial)), e1, e2

    def difference(self, signal, noise, lamda):
        return self.to(fma(-lamda, np.repeat(noise, signal.shape[1] // noise.shape[1], 1), signal))

    def difference_backward(self, dy, noise, lamda):
        """dnoise and dlambda; dsignal is dy."""
        shared = dy.reshape(len(dy), noise.shape[1], -1, dy.shape[2])
        u = np.zeros(noise.shape)
        for i in range(shared.shape[2]):
            u = r(u + shared[:, :, i])
        rows = sum_of_products(-u.reshape(len(dy), -1), noise.reshape(len(dy), -1))
        dlambda = column(lambda part, t: r(part + rows[t]), len(dy), ())
        return self.to(r(-lamda * u)), dlambda

    # Output projection with loss: returns the loss of each token and the gradient of the logits.

    def loss(self, x, w, targets, scale):
        z = chain(x, w.T, self.pairs)
        mc = r(z.max(axis=-1, keepdims=True) * LOG2E)
        e = exp2(fma(z, LOG2E, -mc))
        l = sum_of(e)[:, None]
        hit = np.zeros(z.shape)
        hit[np.arange(len(targets)), targets] = 1
        chosen = z[hit == 1][:, None]
        losses = r(-LN2 * fma(chosen, LOG2E, -r(mc + log2(l))))[:, 0]
        return losses, self.to(r(r(r(e * r(1 / l)) - hit) * scale))
