"""Colour profiles written by hand (ICC.1:2010, matrix and curves), and what they mean exactly."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PRIMARIES = {
    "sRGB by hand": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    "Display P3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "Adobe RGB (1998)": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
}
"""Chromaticities of red, green and blue; white is D65 in all."""

GAMMA = {"Adobe RGB (1998)": 563 / 256}
"""Of those whose curve is a power; the others have that of sRGB."""

_D65 = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
_D50 = np.array([0.9642, 1, 0.8249])  # of ICC's connection space
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def _to_xyz(name: str) -> Floats:
    """Return the matrix from linear RGB to XYZ, white being D65."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in PRIMARIES[name]]).T
    return columns * np.linalg.solve(columns, _D65)


def _decode(name: str, values: Floats) -> Floats:
    if name in GAMMA:
        return values ** GAMMA[name]
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def as_srgb(name: str, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Convert pixels (..., 3) of a profile to sRGB by IEC 61966-2-1, in double precision."""
    linear = _decode(name, pixels / 255) @ _to_xyz(name).T
    found = np.clip(linear @ np.linalg.inv(_to_xyz("sRGB by hand")).T, 0, 1)
    encoded = np.where(found <= 0.0031308, 12.92 * found, 1.055 * found ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded).astype(np.uint8)


def profile(name: str, *, space: bytes = b"RGB ") -> bytes:
    """Return the bytes of a profile of version 2.1; `space` is what its header claims."""
    scale = (_BRADFORD @ _D50) / (_BRADFORD @ _D65)
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(scale) @ _BRADFORD @ _to_xyz(name)
    text = name.encode() + b"\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"wtpt": _xyz(_D50),
        b"rXYZ": _xyz(adapted[:, 0]),
        b"gXYZ": _xyz(adapted[:, 1]),
        b"bXYZ": _xyz(adapted[:, 2]),
    } | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(name))
    place, directory, body = 128 + 4 + 12 * len(tags), b"", b""
    for tag, data in tags.items():
        data += bytes(-len(data) % 4)
        directory += tag + struct.pack(">II", place + len(body), len(data))
        body += data
    size = place + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"none", 0x02100000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _fixed(_D50)
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + directory + body


def _fixed(values: Floats) -> bytes:
    return struct.pack(">3i", *(round(float(value) * 65536) for value in values))


def _xyz(values: Floats) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


def _curve(name: str) -> bytes:
    if name in GAMMA:
        return b"curv" + bytes(4) + struct.pack(">IH", 1, round(GAMMA[name] * 256))
    table = np.round(65535 * _decode(name, np.linspace(0, 1, 1024))).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", 1024) + table.tobytes()
