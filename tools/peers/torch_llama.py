# SPDX-License-Identifier: Apache-2.0
"""The work of bench/llama-17m.toml in PyTorch: the peer of `naite train` in tools/compare_peers.

Prints one JSON object: tokens_per_second (median step) and flops_per_token, by the formula of
`mfu` in docs/PERFORMANCE.md. Random tokens: their values cost nothing.
"""
import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

V, D, L, H, FFN, T, B = 8192, 384, 6, 6, 1024, 512, 8


def rotate(x, cos, sin):
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, low * sin + high * cos], -1).type_as(x)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(D, 1e-6), nn.RMSNorm(D, 1e-6)
        self.q, self.k, self.v, self.o = (nn.Linear(D, D, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(D, FFN, bias=False) for _ in range(2))
        self.down = nn.Linear(FFN, D, bias=False)

    def forward(self, x, cos, sin):
        n = self.norm1(x)
        q, k, v = (f(n).view(B, T, H, D // H).transpose(1, 2) for f in (self.q, self.k, self.v))
        a = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v,
                                           is_causal=True)
        x = x + self.o(a.transpose(1, 2).reshape(B, T, D))
        n = self.norm2(x)
        return x + self.down(F.silu(self.gate(n)) * self.up(n))


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(V, D), nn.Linear(D, V, bias=False)
        self.blocks = nn.ModuleList(Block() for _ in range(L))
        self.norm = nn.RMSNorm(D, 1e-6)
        half = D // H // 2
        angle = torch.outer(torch.arange(T).float(), 1e4 ** (-torch.arange(half).float() / half))
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, ids, targets):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return F.cross_entropy(self.head(self.norm(x)).float().view(-1, V), targets.view(-1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    model = Llama()
    step = torch.compile(model) if options.compile else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    ids, targets = torch.randint(0, V, (B, T)), torch.randint(0, V, (B, T))
    seconds = []
    for _ in range(options.steps + 2):
        begin = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.precision == "bf16"):
            loss = step(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - begin)
    in_products = sum(p.numel() for p in model.parameters() if p.ndim == 2) - V * D
    print(json.dumps({"version": torch.__version__,
                      "tokens_per_second": B * T / statistics.median(seconds[2:]),
                      "flops_per_token": 6 * in_products + 6 * L * 2 * D * T / 2}))


if __name__ == "__main__":
    main()
