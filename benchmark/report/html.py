"""One self-contained HTML page of a result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from shapeshd.benchmark.result.files import REPORT
from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.statistics.intervals import CONFIDENCE
from shapeshd.errors import explain
from shapeshd.support.atomic_files import replace_file
from shapeshd.support.progress import warn

from .facts import facts
from .pictures import Arrays, load_examples, load_rerenders
from .sections import (
    bin_count_section,
    decomposition_section,
    drawn,
    example_section,
    factor_section,
    fidelity_section,
    headline,
    image_check_section,
    recognizer_section,
)

_3DSHAPES = "https://github.com/google-deepmind/3dshapes-dataset"
_TEMPLATES = Path(__file__).parent / "templates"


def write_report(result: Result, out: Path) -> Path:
    """Write the page of a result.

    Args:
        result: the finished result.
        out: the folder of the result, in which `REPORT` is written and which holds the
            images that the result names; or the page's own path, ending in .html, beside them.

    Returns:
        the path of the page.

    Raises:
        ShapesHDError: if the images cannot be read.
    """
    path = out if out.suffix.lower() in (".html", ".htm") else out / REPORT
    examples = rerenders = None
    if name := result.examples.file:
        examples = load_examples(path.parent / Path(name).name)
    if result.fidelity and (name := result.fidelity.examples.file):
        rerenders = load_rerenders(path.parent / Path(name).name)
    text = report_page(result, examples, rerenders)
    write_page(text, path)
    return path


def draw_or_say(draw: Callable[[Path], object], out: Path) -> None:
    """Draw the page of a finished result; what goes wrong is a note, and the numbers stay.

    Args:
        draw: writes `REPORT` into the folder.
        out: folder of the result.
    """
    try:
        draw(out)
    except Exception as error:  # of whatever library: the numbers are worth more than the page
        warn(
            f"{out / REPORT}: cannot be drawn ({explain(error)}); the numbers are in the files "
            "beside it, and the same command draws it again"
        )


def report_page(
    result: Result, examples: Arrays | None = None, rerenders: Arrays | None = None
) -> str:
    """Return the page of a result as HTML.

    Args:
        result: the finished result.
        examples: those of `choose_examples`.
        rerenders: those of `choose_fidelity_examples`.
    """
    context = {
        **headline(result),
        **decomposition_section(result),
        **factor_section(result),
        **bin_count_section(result),
        **example_section(result, examples),
        **recognizer_section(result),
        "fidelity": fidelity_section(result, rerenders),
        "image_check": image_check_section(result),
        "figures": drawn(result),
        "facts": facts(result),
    }
    return render_page("report.html", context)


def write_page(text: str, path: Path) -> None:
    """Write a page; a reader finds the old file or the new one."""
    data = text.encode(errors="backslashreplace")  # half letters, as in names of files
    replace_file(path, lambda temporary: temporary.write_bytes(data))


def render_page(template: str, context: dict[str, Any]) -> str:
    """Fill a template; all texts are escaped."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.globals |= {"confidence": f"{CONFIDENCE:.0%}", "three_d_shapes": _3DSHAPES}
    return environment.get_template(template).render(context)
