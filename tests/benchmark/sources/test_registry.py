"""The registry: a kind of one's own, in this process and as a package, and what records say."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from shapeshd.benchmark.sources import OpenRequest, SourceKind, SourceOptions, open_source
from shapeshd.benchmark.sources.markdown_table import options_table, sources_table
from shapeshd.benchmark.sources.open import find_kind, known_suffixes, short_name
from shapeshd.benchmark.sources.options import OPTIONS
from shapeshd.benchmark.sources.registry import KINDS, register, source_kinds, unregister
from shapeshd.cli.main import main
from shapeshd.errors import UsageError, names_as_options
from shapeshd.images.numbered import NumberedImages
from tests.support.tiny_training import save_untrained

TOY = """
import torch
from shapeshd.benchmark.sources import SourceKind
from shapeshd.images.numbered import NumberedImages


class ToyImages(NumberedImages):
    kind = "toy"

    def _read(self, start, stop):
        torch.manual_seed(start)
        return torch.randint(0, 256, (stop - start, 3, 32, 32), dtype=torch.uint8)

    def describe(self):
        return {"made_by": "a toy"}

    def close(self):
        pass


def open_toy(request):
    return ToyImages(request.name, int(request.text))


KIND = SourceKind(
    name="toy",
    what="a toy",
    shown="toy:COUNT",
    summary="Noise of a toy package.",
    opener=open_toy,
    prefix="toy:",
    options=("key",),
)
"""


class Toy(NumberedImages):
    """Black images."""

    kind = "toy"

    def _read(self, start: int, stop: int) -> torch.Tensor:
        return torch.zeros(stop - start, 3, 4, 4, dtype=torch.uint8)

    def describe(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


@pytest.fixture
def toy() -> Iterator[SourceKind]:
    """Register a kind that reads .toy files, which hold the number of images."""
    kind = SourceKind(
        name="toy",
        what="a toy",
        shown=".toy",
        summary="Black images, as many as the file says.",
        opener=lambda request: Toy(request.name, int(request.path.read_text())),
        suffixes=(".toy",),
        options=("key",),
    )
    register(kind)
    yield kind
    unregister("toy")


def test_a_kind_of_one_s_own(
    toy: SourceKind, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.toy"
    path.write_text("7")
    with open_source(str(path), options=SourceOptions(key="a")) as source:
        assert source.images(2, 7).shape == (5, 3, 4, 4)
    with pytest.raises(UsageError, match=r"toy, .*latent_dim"):
        open_source(str(path), options=SourceOptions(latent_dim=3))
    (tmp_path / "x.xyz").write_text("7")
    with pytest.raises(UsageError, match=r", \.toy$"):
        open_source(str(tmp_path / "x.xyz"))
    assert ".toy" in known_suffixes()
    assert "| `.toy` |" in sources_table()
    with pytest.raises(SystemExit):
        main(["score", "--help"])
    assert toy.summary in " ".join(capsys.readouterr().out.split())


def test_a_kind_that_runs_code_is_asked_trust_before_it_is_opened(tmp_path: Path) -> None:
    opened = []
    kind = SourceKind(
        name="danger",
        what="a danger",
        shown="danger:",
        summary="",
        opener=opened.append,  # type: ignore[arg-type]
        prefix="danger:",
        trust="always",
        danger="it bites",
        examine=lambda request: int(request.text),
    )
    with pytest.raises(ValueError, match="invalid literal"):  # it is examined before
        kind.open(OpenRequest("danger:x"))
    with pytest.raises(UsageError, match=r"^danger:5: it bites.* trust"):
        kind.open(OpenRequest("danger:5"))
    assert not opened
    kind.open(OpenRequest("danger:5", trust=True))
    assert [request.text for request in opened] == ["5"]


def test_kinds_that_cannot_be_added(toy: SourceKind) -> None:
    for wrong, message in [
        ({"name": "toy"}, "prefix of another"),
        ({"name": "zip"}, "prefix of another"),
        ({"prefix": "cmd:"}, "prefix of another, 'command'"),
        ({"options": ("size",)}, "takes 'size'; options are range"),
    ]:
        given: dict[str, Any] = {
            "name": "new",
            "what": "",
            "shown": "",
            "summary": "",
            "opener": "",
        }
        with pytest.raises(UsageError, match=message):
            register(SourceKind(**{"name": "new", **given, **wrong}))
    assert source_kinds() == (*KINDS, toy)


def test_a_package_adds_a_kind(tmp_path: Path) -> None:
    """A distribution with an entry point, as an installer writes it, beside this environment."""
    (tmp_path / "site" / "toy_package-1.0.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "toy_package.py").write_text(TOY)
    info = tmp_path / "site" / "toy_package-1.0.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[shapeshd.sources]\ntoy = toy_package:KIND\nbroken = toy_package:NOTHING\n"
    )
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    paths = [str(tmp_path / "site"), *(path for path in sys.path if path)]
    (packages / "beside.pth").write_text("\n".join(paths) + "\n")

    save_untrained(tmp_path / "small.safetensors")  # which is quick
    lines = (
        "score --help",
        "score toy:5800 --steps 3",
        "score toy:5800 --recognizer small.safetensors --device cpu --out out",
    )
    script = (
        "import sys\nfrom pathlib import Path\nfrom shapeshd.benchmark.scoring import score\n"
        "from shapeshd.cli.main import main\n"
        "score.write_report = lambda *_: Path()\n"  # figures take seconds, and are tested elsewhere
        "for line in sys.argv[1:]:\n"
        "    try:\n        main(line.split())\n"
        "    except SystemExit as stop:\n        print('status', stop.code or 0)\n"
    )
    done = subprocess.run(
        [venv / "bin" / "python", "-c", script, *lines],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = [line for line in done.stdout.splitlines() if line.startswith("status ")]
    assert said == ["status 0", "status 2", "status 0"], done.stderr
    assert "Noise of a toy package." in " ".join(done.stdout.split())
    assert "toy-package adds no kind of source 'broken'" in done.stderr
    assert "leave out --steps" in done.stderr
    assert (tmp_path / "out" / "result.json").is_file()


def test_openers_that_records_name_exist() -> None:
    for kind in KINDS:
        for place in (kind.opener, kind.examine, kind.lacks):
            if isinstance(place, str):
                module, _, name = place.partition(":")
                found = importlib.import_module(f"shapeshd.benchmark.sources.{module}")
                assert callable(getattr(found, name)), place
        assert set(kind.options) <= set(OPTIONS)
        assert (kind.trust == "always") == bool(kind.danger)


def test_the_table_of_kinds_loads_no_framework() -> None:
    code = (
        "import sys; import shapeshd.cli.score, shapeshd.cli.sample; "
        "print([name for name in ('torch', 'h5py', 'scipy', 'pydantic') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ast.literal_eval(result.stdout) == []


def test_content_decides_before_the_suffix(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"\x89HDF\r\n\x1a\n...")
    (tmp_path / "x.h5").write_bytes(b"\x93NUMPY...")
    assert find_kind(str(tmp_path / "x.npz")).name == "hdf5"
    assert find_kind(str(tmp_path / "x.h5")).name == "npy"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a/b/x.onnx", "x.onnx"),
        ("render:0:20,size=64", "render:0:20,size=64"),
        ("cmd:./a/sampler {seed}", "sampler {seed}"),
        ("a/gen.py:make", "a/gen.py:make"),
        ("package.module:make", "package.module:make"),
    ],
)
def test_short_names(text: str, name: str) -> None:
    assert short_name(text) == name


def test_options_are_spelled_as_who_gives_them_does() -> None:
    wrong: dict[str, Any] = {"latent_dim": 0}
    with pytest.raises(UsageError, match=r"^latent_dim must be"):
        SourceOptions(**wrong)
    with names_as_options(), pytest.raises(UsageError, match=r"^--latent-dim must be"):
        SourceOptions(**wrong)
    with pytest.raises(UsageError, match=r"^latent_dim must be"):  # given back
        SourceOptions(**wrong)


def test_tables_name_every_kind_and_option() -> None:
    kinds, options = sources_table(), options_table()
    plain = str.maketrans("", "", "`'")  # code is quoted in one way there, in another here
    said = kinds.translate(plain)
    assert all(kind.summary.translate(plain) in said for kind in KINDS)
    assert "options" not in sources_table(options=False)
    assert all(f"`--{name.replace('_', '-')}`" in options for name in OPTIONS)
