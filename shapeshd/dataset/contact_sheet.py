"""Drawing images, with captions, into one picture, and writing it to a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.scene.render_options import Image
from shapeshd.support.atomic_files import replace_file

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
MAX_PIXELS = 200_000_000
_LONGEST_SIDE = {"PNG": 2**31 - 1, "JPEG": 65500, "WEBP": 16383}
_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}
_MARGIN = 16
_GAP = 8
_PAD = 3
_BACKGROUND, _INK, _FAINT = "white", "#202020", "#707070"

Font = ImageFont.FreeTypeFont
Lines = Sequence[str]
"""A caption: its lines, from top to bottom."""


def check_output(out: Path) -> None:
    """Raise `UsageError` if a picture cannot be written as `out`."""
    if out.suffix.lower() not in FORMATS:
        raise UsageError(f"{out}: the name of the picture must end in {', '.join(FORMATS)}")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: there is no folder {out.parent}")
    if out.is_dir():
        raise UsageError(f"{out}: is a folder; give the name of a file")


def save_sheet(sheet: PILImage.Image, out: Path) -> None:
    """Write `sheet` as `out` under a temporary name, then rename it.

    Raises:
        UsageError: if the name or folder is impossible, or the format has no room.
    """
    check_output(out)
    kind = FORMATS[out.suffix.lower()]
    if max(sheet.size) > _LONGEST_SIDE[kind]:
        raise UsageError(f"{out}: {kind} holds no picture of {describe_size(sheet.size)}; use .png")
    try:
        replace_file(out, lambda path: sheet.save(path, format=kind, **_OPTIONS[kind]))
    except (KeyError, ValueError) as error:  # a Pillow that was built without this format
        raise ShapesHDError(f"{out}: Pillow cannot write {kind} ({error}); use .png") from None


def draw_sheet(
    images: Iterable[Image],
    shape: tuple[int, int],
    rows: Sequence[Sequence[Lines]],
    *,
    heads: Sequence[Lines] = (),
    foot: Lines = (),
    thumbnail: int | None = None,
) -> PILImage.Image:
    """Draw images in rows, each with its caption below.

    Args:
        images: uint8 (H, W, 3), sRGB, row after row; as many as there are captions.
        shape: (H, W) of all images.
        rows: the captions of the images of each row; an empty caption takes no room.
        heads: text at the left of each row, or nothing.
        foot: text below all.
        thumbnail: length in pixels of a drawn image's longer side; by default its own.

    Raises:
        UsageError: if the picture would have more than `MAX_PIXELS`.
    """
    height, width = _drawn_size(shape, thumbnail)
    font = _font(min(16, max(11, height // 10)))
    line = sum(font.getmetrics())
    captions = [caption for row in rows for caption in row]
    head_width = _text_width(font, heads) + 2 * _GAP if heads else 0
    cell_width = max(width, _text_width(font, captions))
    lines = max((len(caption) for caption in captions), default=0)
    cell_height = height + (2 * _PAD + line * lines) * bool(lines)
    columns = max((len(row) for row in rows), default=0)
    grid_width = head_width + columns * (cell_width + _GAP) - _GAP
    grid_height = len(rows) * (cell_height + _GAP) - _GAP
    foot_height = _GAP + line * len(foot) if foot else 0
    total = (
        2 * _MARGIN + max(grid_width, _text_width(font, [foot])),
        2 * _MARGIN + grid_height + foot_height,
    )
    if total[0] * total[1] > MAX_PIXELS:
        raise UsageError(
            f"the picture would have {describe_size(total)} pixels; draw fewer or smaller images "
            "(--count, --thumbnail)"
        )
    sheet = PILImage.new("RGB", total, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    source = iter(images)
    for number, row in enumerate(rows):
        top = _MARGIN + number * (cell_height + _GAP)
        if heads:
            middle = top + (height - line * len(heads[number])) / 2
            _write(draw, (_MARGIN, middle), heads[number], font, line)
        for column, caption in enumerate(row):
            left = _MARGIN + head_width + column * (cell_width + _GAP) + (cell_width - width) // 2
            sheet.paste(_resized(next(source), (width, height)), (left, top))
            _write(draw, (left, top + height + _PAD), caption, font, line, centre=width)
    _write(draw, (_MARGIN, total[1] - _MARGIN - line * len(foot)), foot, font, line, ink=_FAINT)
    return sheet


def describe_size(size: tuple[int, int]) -> str:
    """Write (width, height) for a message."""
    return f"{size[0]:,} x {size[1]:,}"


def _drawn_size(shape: tuple[int, int], thumbnail: int | None) -> tuple[int, int]:
    if thumbnail is None:
        return shape
    height, width = (max(1, round(side * thumbnail / max(shape))) for side in shape)
    return height, width


def _resized(image: Image, size: tuple[int, int]) -> PILImage.Image:
    picture = PILImage.fromarray(image)
    if picture.size == size:
        return picture
    # Enlarged pixels stay visible as such; reduced ones are averaged.
    method = PILImage.Resampling.NEAREST if size > picture.size else PILImage.Resampling.LANCZOS
    return picture.resize(size, method)


def _font(size: int) -> Font:
    font = ImageFont.load_default(size)
    if not isinstance(font, Font):
        raise ShapesHDError("Pillow was built without FreeType and cannot draw text; reinstall it")
    return font


def _text_width(font: Font, texts: Iterable[Lines]) -> int:
    return round(max((font.getlength(line) for lines in texts for line in lines), default=0))


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    lines: Lines,
    font: Font,
    line_height: int,
    *,
    centre: int = 0,
    ink: str = _INK,
) -> None:
    """Write lines from `place` (left, top) down, centred in a width of `centre` unless it is 0."""
    for number, text in enumerate(lines):
        indent = (centre - font.getlength(text)) / 2 if centre else 0
        draw.text((place[0] + indent, place[1] + number * line_height), text, ink, font)
