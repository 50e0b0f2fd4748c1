"""In which precision a recognizer computes its convolutions, and what the hardware does natively.

Hues, heat maps and the dense layers are computed in float32 in any case: they are finer than
bfloat16 can say. Its convolutions in bfloat16 make a recognizer read a little differently, so its
card holds the accuracy of both.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from shapeshd.errors import UsageError, named

if TYPE_CHECKING:
    import torch

    from .card import RecognizerCard

Precision = Literal["fp32", "bf16"]
PRECISIONS: Final = ("auto", "fp32", "bf16")

_AMPERE = (8, 0)  # the first of NVIDIA's GPUs with bfloat16


def computes_bf16(device: torch.device) -> bool:
    """Tell whether a device computes in bfloat16 natively, and not by way of float32.

    Of a CPU these are AVX512_BF16 and AMX, through oneDNN. What is not known to do so does not.
    """
    import torch  # readers of results need none

    if device.type == "cuda":
        if torch.version.hip is not None:
            return True
        return torch.cuda.get_device_capability(device) >= _AMPERE
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    # Names of PyTorch's own, which differ between its versions.
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)


def default_precision(device: torch.device) -> Precision:
    """Return "bf16" where the device computes in it natively, else "fp32"."""
    return "bf16" if computes_bf16(device) else "fp32"


def check_precision(asked: str, recognizer: object = None) -> None:
    """Refuse a precision that is none, or that cannot be chosen.

    Args:
        asked: should be one of `PRECISIONS`.
        recognizer: a name or path, None for the one that suits the images, or an object, which has
            a precision of its own.

    Raises:
        UsageError: if it is another word, or `recognizer` is an object and it is not "auto".
    """
    if asked not in PRECISIONS:
        raise UsageError(f"{named('precision')} must be {', '.join(PRECISIONS)}, not {asked!r}")
    if asked != "auto" and not (recognizer is None or isinstance(recognizer, (str, Path))):
        raise UsageError(
            f"{named('precision', asked)}: a recognizer that is an object has its own precision: "
            "give it to load_recognizer"
        )


def chosen_precision(asked: str, device: torch.device, card: RecognizerCard) -> Precision:
    """Return the precision that a recognizer computes in.

    Args:
        asked: one of `PRECISIONS`; "auto" is bf16 where the device computes in it natively and the
            card says how well the recognizer then reads, else fp32.
        device: where it computes.
        card: of the recognizer.

    Raises:
        UsageError: if `asked` is another word.
    """
    check_precision(asked)
    if asked == "auto":
        return default_precision(device) if card.measured("bf16").accuracy else "fp32"
    return "bf16" if asked == "bf16" else "fp32"
