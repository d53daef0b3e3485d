"""The matrix products of a step on their own: the most that a step could gain from its kernels.

Kinds: `products xla`, `products torch`. One "step" is one pass over the products of the model's
step (`pretrain_cases.products`), each executed alone with operands as its framework keeps them:
PyTorch's Linear layers hold their kernels the other way round.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from pretrain_cases import SEED, Product, case_of, products
from pretrain_orders import answers, contestant_flags, obey

from gptbert import runtime

KINDS = ("products xla", "products torch")
Run = Callable[[], Any]


def operands(product: Product) -> tuple[np.ndarray, np.ndarray]:
    """Two float32 arrays [batch,…], laid out as the product's form says."""
    random = np.random.default_rng(SEED)
    batch, m, k, n = product.batch, product.m, product.k, product.n
    shapes = {"nn": ((m, k), (k, n)), "nt": ((m, k), (n, k)), "tn": ((k, m), (k, n))}[product.form]
    first, second = (random.standard_normal((batch, *s), np.float32) for s in shapes)
    return first, second


def xla_run(product: Product) -> Run:
    """The product compiled alone, by the library that a run multiplies with."""
    import jax

    from gptbert.training.products import choose_products

    sides = {"nn": (2, 1), "nt": (2, 2), "tn": (1, 1)}[product.form]
    a, b = operands(product)
    if product.batch == 1:
        a, b, sides = a[0], b[0], (sides[0] - 1, sides[1] - 1)
    batched = ((), ()) if product.batch == 1 else ((0,), (0,))
    dimensions = (((sides[0],), (sides[1],)), batched)
    a, b = jax.device_put(a), jax.device_put(b)
    product_alone = jax.jit(lambda a, b: jax.lax.dot_general(a, b, dimensions))
    compiled = choose_products("float32").compile(product_alone.lower(a, b))
    return lambda: compiled(a, b).block_until_ready()


def torch_run(product: Product) -> Run:
    """The product as `torch.mm` or `torch.bmm`."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    a, b = (torch.from_numpy(each) for each in operands(product))
    a = a.transpose(1, 2) if product.form[0] == "t" else a
    b = b.transpose(1, 2) if product.form[1] == "t" else b
    if product.batch == 1:
        one, other = a[0], b[0]
        return lambda: torch.mm(one, other)
    return lambda: torch.bmm(a, b)


def main() -> None:
    """Times products on orders."""
    flags = contestant_flags((__doc__ or "").splitlines()[0], KINDS)
    with answers() as say:
        if flags.kind == "products xla":
            runtime.prepare()
        make = xla_run if flags.kind == "products xla" else torch_run
        wanted = products(case_of(flags.model), linear_layers=flags.kind == "products torch")
        runs = {product.name: make(product) for product in wanted}

        def take(count: int) -> dict:
            found: dict[str, list[float]] = {}
            for name, run in runs.items():
                run()
                for _ in range(count):
                    began = time.perf_counter()
                    run()
                    found.setdefault(name, []).append(round(time.perf_counter() - began, 7))
            total = sum(min(found[product.name]) * product.count for product in wanted)
            return {"seconds": [round(total, 6)], "products": found}

        obey(say, take, {})


if __name__ == "__main__":
    main()
