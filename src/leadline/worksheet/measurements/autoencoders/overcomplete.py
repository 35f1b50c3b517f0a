"""Measurement of ``ae.j``: codes wider than the input, and codes that grow with the input."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from leadline import data
from leadline.autoencoders import Encoder, GaussianNoise, MaskedPatchTransformer, pretrain
from leadline.figures import ACCENT, Drawing, extended, markers, new_drawing
from leadline.sounding import Protocol, Sounding, Verdict
from leadline.storage import record
from leadline.worksheet._answer import Answer, effects_of, finding
from leadline.worksheet._criterion import Fact
from leadline.worksheet._setting import Setting
from leadline.worksheet.measurements.autoencoders.arms import compared
from leadline.worksheet.measurements.autoencoders.pretraining import (
    epochs_at_most,
    label_count,
    pretrained_on_own_rows,
    spread,
)

if TYPE_CHECKING:
    import pandas as pd

NOISE = 0.5

HIDDEN = 96
"""Units between the input and the code."""

WIDER = 4
NARROWER = 2
"""The wide code has 4 times the features, the narrow code a half: 256 and 32 for 64 inputs."""

LABELS_PER_CLASS = 10

PATCH = 8

SIZES = ((8, 8), (8, 16), (16, 16), (16, 24), (24, 40), (32, 32), (48, 64))
"""Height and width in pixels of the encoded images; the encoder is trained on the third size."""


@record("worksheet.Growth")
@dataclass(frozen=True, eq=False)
class Growth(Sounding):
    """Representations of images of several sizes, with one vector per token."""

    sizes: Int[np.ndarray, "images 2"]
    """Height and width in pixels."""
    patch: int
    tokens: Int[np.ndarray, " images"]
    """Number of vectors that represent the image."""
    width: int
    """Length of each vector."""

    @property
    def expected(self) -> Int[np.ndarray, " images"]:
        """The expected number of tokens: one per patch."""
        return (self.sizes // self.patch).prod(1)

    @property
    def verdict(self) -> Verdict:
        """The growth from the smallest to the largest image."""
        least = self.tokens.argmin()
        most = self.tokens.argmax()
        return Verdict(
            f"an image of {self.sizes[least, 0]} x {self.sizes[least, 1]} pixels is represented by "
            f"{self.tokens[least]} x {self.width} numbers, one of {self.sizes[most, 0]} x "
            f"{self.sizes[most, 1]} by {self.tokens[most]} x {self.width}"
        )

    def table(self) -> "pd.DataFrame":
        """Return one row per image: ``height``, ``width``, ``pixels``, ``tokens``, ``numbers``.

        ``numbers`` is the size of the representation.
        """
        import pandas as pd

        height, width = self.sizes.T
        numbers = self.tokens * self.width
        columns = {
            "height": height,
            "width": width,
            "pixels": height * width,
            "tokens": self.tokens,
        }
        return pd.DataFrame({**columns, "numbers": numbers})

    def drawing(self) -> Drawing:
        """Return the size of the representation by the number of pixels."""
        # Neighbouring points are close together, so their texts alternate between two sides.
        sides = ("top left", "bottom right")
        trace = markers(
            self.sizes.prod(1),
            self.tokens * self.width,
            colour=ACCENT,
            size=8,
            text=[f"{height} x {width}" for height, width in self.sizes.tolist()],
            textposition=[sides[i % 2] for i in range(len(self.sizes))],
            mode="markers+lines+text",
        )
        drawing = new_drawing(
            "The size of the representation, by the size of the image",
            "pixels",
            "numbers in the representation",
        )
        return extended(drawing, [trace])


def codes_need_not_be_small(setting: Setting) -> Answer:
    """``ae.j``: an overcomplete denoising autoencoder against a narrow one, and codes per patch."""
    dataset = setting.data or data.digits()
    roles = [data.split_roles(dataset.labels, seed=seed) for seed in setting.seeds]
    features = dataset.X.shape[1]
    kinds = {"denoising": GaussianNoise(NOISE * spread(dataset))}
    widths = {"wide": WIDER * features, "narrow": max(1, features // NARROWER)}
    encoders = {
        f"{name}, {width} units": [
            result.encoder
            for result in pretrained_on_own_rows(kinds, dataset, roles, setting, (HIDDEN, width))[
                "denoising"
            ]
        ]
        for name, width in widths.items()
    }
    wide, narrow = encoders
    arms = compared(
        f"Codes wider and narrower than the {features} inputs",
        encoders,
        dataset,
        roles,
        setting,
        labels=label_count(dataset, roles, per_class=LABELS_PER_CLASS),
        settings={
            "inputs": features,
            "hidden units": HIDDEN,
            "noise": kinds["denoising"].std,
            "epochs": epochs_at_most(setting),
        },
        baselines=("raw", "untrained"),
    )
    growth = tokens_of_images(setting)
    effects = effects_of(
        "ae.j",
        wide_minus_narrow=arms.difference(wide, narrow),
        wide_minus_raw=arms.difference(wide, "raw"),
        narrow_minus_raw=arms.difference(narrow, "raw"),
    )
    return Answer(
        protocol=arms.protocol,
        statement_id="ae.j",
        sentence=f"{widths['wide']} units for {features} inputs instead of {widths['narrow']} "
        f"change the accuracy by {effects['wide_minus_narrow'].interval} points, and "
        f"{growth.verdict.sentence}.",
        soundings={"arms": arms, "growth": growth},
        effects=effects,
        facts={"grows_with_the_image": _grows(growth)},
        findings=(finding(arms),),
    )


def _grows(growth: Growth) -> Fact:
    return Fact(
        f"vectors in a transformer's representation, for images of {len(growth.tokens)} sizes",
        bool((growth.tokens == growth.expected).all() and np.ptp(growth.tokens) > 0),
        ", ".join(map(str, growth.tokens.tolist())),
        ", ".join(map(str, growth.expected.tolist())),
    )


def tokens_of_images(setting: Setting) -> Growth:
    """Encode photographs of several sizes with a transformer pretrained on crops of one size."""
    trained_on = SIZES[2]
    crops = data.photograph_patches(256, trained_on[0], seed=0)
    model = MaskedPatchTransformer(
        trained_on, PATCH, width=32, depth=1, heads=2, decoder_width=16, pooling="none", seed=0
    )
    encoder = pretrain(model, crops.X, epochs=setting.pick(quick=5, full=20), seed=0).encoder
    large = data.photograph_patches(2, max(map(max, SIZES)), seed=1).images
    tokens = [_encoded(encoder, large[:, :, :height, :width]) for height, width in SIZES]
    protocol = Protocol(
        {"data": crops.name, "patch": PATCH, "trained on": trained_on, "width": 32}, seeds=(0,)
    )
    return Growth(protocol, np.array(SIZES), PATCH, np.array(tokens), encoder.output_size)


def _encoded(encoder: Encoder, images: np.ndarray) -> int:
    """Return the number of tokens of each image."""
    codes = encoder.encode(images)
    assert codes.shape[::2] == (len(images), encoder.output_size)
    return codes.shape[1]
