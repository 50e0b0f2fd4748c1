"""The sizes of the run: those for half an hour of a GPU, and tiny ones that take every path."""

from __future__ import annotations

from dataclasses import dataclass

from tests import ROOT

TABLE = ("ours", "aae", "stylegan2")
"""The methods of the table."""

ABLATIONS = (
    "no-difference", "no-c2", "small-batch", "unpaired", "from-scratch", "contrast", "flow", "vae",
)  # fmt: skip
"""The methods after them, as far as there is time."""


@dataclass(frozen=True)
class Setting:
    """How much is computed.

    Attributes:
        name: of the setting.
        config: of the table: a name or a file.
        size: of its images, pixels.
        images: that the table's methods are trained on, held-out ones included.
        samples: of a score in the table.
        fidelity: images whose fidelity is measured in the table; 0 for none.
        untrained: read by an untrained recognizer in the table: quick, and means nothing.
        rates: configurations of which training steps are timed; the table's comes first.
        rate_steps: steps that are timed of each phase.
        trained_like: configuration whose phases are compared with a CPU.
        trace: images by size that are traced and compared with a CPU.
        read: images by recognizer that are read and compared with a CPU.
        scored: samples of the score that is compared with a CPU.
        evaluated: images by recognizer that are read to be compared with its card.
        floor: traced images by recognizer whose D is measured; 0 for none.
        recognizer_images: shown to a recognizer that is trained anew.
        steps_size: pixels of the networks whose steps are timed beside NVIDIA's.
        steps_options: options of that timing.
        throughput: samples by size of the timed scores.
        score_batch: images that a generator makes at a time in them.
    """

    name: str
    config: str
    size: int
    images: int
    samples: int
    fidelity: int
    untrained: bool
    rates: tuple[str, ...]
    rate_steps: int
    trained_like: str
    trace: tuple[tuple[int, int], ...]
    read: tuple[tuple[str, int], ...]
    scored: int
    evaluated: tuple[tuple[str, int], ...]
    floor: tuple[tuple[str, int], ...]
    recognizer_images: int
    steps_size: int
    steps_options: tuple[str, ...]
    throughput: tuple[tuple[int, int], ...]
    score_batch: int


_TINY_FILE = str(ROOT / "tests" / "experiments" / "gpu" / "steps" / "tiny.toml")

FULL = Setting(
    name="full",
    config="lite",
    size=64,
    images=110_000,
    samples=332_000,
    fidelity=1_000,
    untrained=False,
    rates=("lite", "hd"),
    rate_steps=32,
    trained_like="smoke",
    trace=((64, 400), (256, 32)),
    read=(("lite", 1_000), ("hd", 64), ("lite-256", 64)),
    scored=6_000,
    evaluated=(("lite", 10_000), ("hd", 10_000), ("lite-256", 10_000)),
    floor=(("lite", 100_000), ("hd", 0), ("lite-256", 0)),
    recognizer_images=700_000,
    steps_size=256,
    steps_options=("--batch", "32", "--rounds", "5", "--precision", "bf16"),
    throughput=((256, 16_384), (64, 65_536)),
    score_batch=512,
)

TINY = Setting(
    name="tiny",
    config=_TINY_FILE,
    size=32,
    images=120,
    samples=6_000,
    fidelity=0,
    untrained=True,
    rates=(_TINY_FILE,),
    rate_steps=2,
    trained_like=_TINY_FILE,
    trace=((64, 8), (256, 1)),
    read=(("lite", 16), ("hd", 1), ("lite-256", 2)),
    scored=6_000,
    evaluated=(("lite", 64), ("hd", 2)),
    floor=(("lite", 0), ("hd", 0)),
    recognizer_images=128,
    steps_size=16,
    steps_options=(
        *("--batch", "2", "--rounds", "1", "--channel-base", "64", "--channel-max", "8"),
        *("--latent-dim", "8", "--mapping-layers", "1"),
    ),
    throughput=((64, 6_000),),
    score_batch=64,
)

SETTINGS = {setting.name: setting for setting in (FULL, TINY)}
