"""Benchmark of the masked patch transformer's training steps.

The encoder without the hidden patches is compared with the encoder of all patches, and with ViTMAE
of the library transformers. Each model trains in its own process with the same optimiser. The
models take turns of a few steps, and the reported ratio is the median over the turns.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing import get_context
from typing import Any

import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from leadline.autoencoders import MaskedPatchTransformer
from leadline.autoencoders.training._autograd import AutogradEngine

Row = dict[str, Any]

IMAGE, PATCH, BATCH = 28, 4, 128

STEPS = 5
"""Number of training steps in a turn."""


def measure(rounds: int = 21) -> list[Row]:
    """Return two rows at the default sizes.

    The encoder of a quarter of the patches is compared with the encoder of all patches, and with
    ViTMAE.
    """
    with ExitStack() as stack:
        pools = [
            stack.enter_context(get_context("spawn").Pool(1, prepare, work))
            for work in ((ours, 0.75), (ours, 0.0), (vit_mae,))
        ]
        turns = [[pool.apply(turn) for pool in pools] for _ in range(rounds + 1)]
    quarter, whole, theirs = map(list, zip(*turns[1:], strict=True))
    return [
        row("75 % masked, against the same transformer fed all tokens", quarter, whole, 2.7),
        row(
            "against ViTMAEForPreTraining, equal configuration and optimiser", quarter, theirs, 1.2
        ),
    ]


step: Callable[[], None]
"""The training step of this process."""


def prepare(work: Callable[..., Callable[[], None]], *arguments: float) -> None:
    global step
    step = work(torch.rand(BATCH, IMAGE**2, generator=torch.Generator().manual_seed(0)), *arguments)


def turn() -> float:
    """Return the median seconds of a training step."""
    times = []
    for _ in range(STEPS):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def ours(images: torch.Tensor, ratio: float) -> Callable[[], None]:
    model = MaskedPatchTransformer(IMAGE, PATCH, mask_ratio=ratio, seed=0)
    engine = AutogradEngine(model, model.architecture, 1e-3, 0, torch.device("cpu"))
    draw = torch.Generator().manual_seed(1)

    def step() -> None:
        seen, loss_mask = model.corruption.corrupt(images, draw)
        engine.step(seen[None], images[None], None if loss_mask is None else loss_mask[None])

    return step


def vit_mae(images: torch.Tensor) -> Callable[[], None]:
    sizes = MaskedPatchTransformer(IMAGE, PATCH, seed=0).architecture
    config = ViTMAEConfig(
        image_size=IMAGE,
        patch_size=PATCH,
        num_channels=1,
        hidden_size=sizes.width,
        num_hidden_layers=sizes.depth,
        num_attention_heads=sizes.heads,
        intermediate_size=4 * sizes.width,
        decoder_hidden_size=sizes.decoder_width,
        decoder_num_hidden_layers=sizes.decoder_depth,
        decoder_num_attention_heads=sizes.decoder_heads,
        decoder_intermediate_size=4 * sizes.decoder_width,
        mask_ratio=0.75,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = ViTMAEForPreTraining(config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    draw, pixels = torch.Generator().manual_seed(1), images.view(BATCH, 1, IMAGE, IMAGE)

    def step() -> None:
        optimizer.zero_grad()
        model(
            pixels, noise=torch.rand(BATCH, sizes.grid.num_patches, generator=draw)
        ).loss.backward()
        optimizer.step()

    return step


def row(name: str, one: list[float], other: list[float], bar: float) -> Row:
    """Return a row that compares the ratio of images per second with its bar."""
    ratio = statistics.median(b / a for a, b in zip(one, other, strict=True))
    rates = [BATCH / statistics.median(times) for times in (one, other)]
    return {
        "work": f"transformer 128 x 4, {IMAGE} x {IMAGE} in patches of {PATCH}, batch {BATCH}: "
        f"{name}",
        "measured": f"{ratio:.2f} ({rates[0]:.0f} images per second, the other {rates[1]:.0f})",
        "bar": f"at least {bar}",
        "met": ratio >= bar,
    }


if __name__ == "__main__":
    for one in measure():
        print(one)
