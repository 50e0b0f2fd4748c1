"""Network pickles that their authors' code loads: their images, and one line for what is wrong."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from shapeshd.benchmark.scoring import score as scoring
from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.benchmark.sources.latents import normal_latents, sample_choices
from shapeshd.benchmark.sources.networks.generator import GeneratorSource
from shapeshd.benchmark.sources.subprocess import code_process
from shapeshd.cli import score_run
from shapeshd.errors import ShapesHDError, UsageError
from tests.support import network_pickles
from tests.support.fake_scores import ReadsWritten
from tests.support.network_pickles import MARKER, Call, Saved, write
from tests.support.same_process import SameProcess, own_children

Run = Callable[..., tuple[int, str, str]]
DIM, LAST = 5, 7

# A repository as there are many: a way to save modules with their code, and what that code needs.
PERSISTENCE = """
import types

def _reconstruct_persistent_obj(meta):
    module = types.ModuleType("saved")
    exec(meta["module_src"], module.__dict__)
    kind = module.__dict__[meta["class_name"]]
    made = kind.__new__(kind)
    made.__dict__.update(meta["state"])
    return made
"""
EASY = "class EasyDict(dict):\n    pass\n"
CODE = f"""
import os, sys, time
import torch
from pkg_resources import parse_version
from shades import SHADES

assert parse_version("1.13") > parse_version("1.9.1")
open({MARKER!r}, "a").close()
EXPECTED = (1, None, "const")
print("rubbish", flush=True)
%s

class Generator(torch.nn.Module):
    def forward(self, z, c, truncation_psi=0.5, truncation_cutoff=None, noise_mode="random"):
        assert (truncation_psi, truncation_cutoff, noise_mode) == EXPECTED
        assert not self.training and not torch.is_grad_enabled() and not self.use_fp16
        ramp = torch.linspace(-2, 2, 48).reshape(3, 4, 4)
        images = torch.sin(z @ self.weight)[:, None, None, None] * ramp
        %s
        return images
"""
CONDITIONAL = "images = images + (c @ torch.tensor(SHADES))[:, None, None, None]"


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder REPO in the working directory; no process is left behind."""
    monkeypatch.chdir(tmp_path)
    others = own_children()
    for name, text in [
        ("torch_utils/persistence.py", PERSISTENCE),
        ("torch_utils/__init__.py", ""),
        ("dnnlib/util.py", EASY),
        ("dnnlib/__init__.py", ""),
        ("shades.py", "SHADES = [0.0, 0.25, -0.5]\n"),
    ]:
        path = tmp_path / "REPO" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    yield tmp_path / "REPO"
    assert not own_children() - others


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the code run in this process, which is quicker; nothing of it is left."""
    for name in ("torch_utils", "dnnlib", "shades", "pkg_resources"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(code_process, "_Child", SameProcess)


@pytest.fixture
def pkl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Write net.pkl, whose code has `top` at its top and `body` in its forward pass."""

    def make(
        body: str = "pass", top: str = "pass", saved_as: str = "Generator", **changes: Any
    ) -> Path:
        monkeypatch.setattr(network_pickles, "SOURCE", CODE % (top, body))
        plain = {"z_dim": DIM, "c_dim": 0, "img_channels": 3, "use_fp16": True, **changes}
        plain = {name: value for name, value in plain.items() if value is not None}
        return write(tmp_path / "net.pkl", Saved(saved_as, {"weight": WEIGHT}, **plain))

    return make


WEIGHT = torch.linspace(-1, 1, DIM)


def opened(trust: bool = True, **options: Any) -> Any:
    chosen = {"batch": LAST, "timeout": 90, "code_dir": "REPO", **options}
    return open_source("net.pkl", seed=3, trust=trust, options=SourceOptions(**chosen))


def levels(images: Tensor) -> Tensor:
    return torch.floor(images.double() * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def expected(stop: int) -> Tensor:
    z = normal_latents(3, 0, stop, DIM)
    return torch.sin(z @ WEIGHT)[:, None, None, None] * torch.linspace(-2, 2, 48).reshape(3, 4, 4)


def near(images: Tensor, wanted: Tensor) -> bool:
    apart = (images.int() - wanted.int()).abs()
    return images.shape == wanted.shape and bool(apart.max() <= 1 and apart.sum() <= 3)


def test_images_are_those_of_the_repository_s_code(here: None, pkl: Callable[..., Path]) -> None:
    pkl()
    with opened() as source:
        assert isinstance(source, GeneratorSource)
        assert (source.kind, source.count) == ("network-code", None)
        whole = source.images(0, 20)
        assert near(whole, levels(expected(20)))
        assert torch.equal(source.images(13, 15), whole[13:15])
        said = source.describe()
    assert (said["latent_dim"], said["noise"], said["network_class"]) == (DIM, "const", "Generator")
    assert said["code_dir"].endswith("REPO") and "classes" not in said
    assert said["range_from"] == "stated"


@pytest.mark.parametrize(("text", "drawn"), [(None, [0, 1, 2]), ("1-2", [1, 2]), ("2", [2])])
def test_labels_are_one_hot(
    here: None, pkl: Callable[..., Path], text: str | None, drawn: list[int]
) -> None:
    pkl(CONDITIONAL, c_dim=3)
    labels = torch.tensor(drawn)[sample_choices(3, 0, 20, len(drawn))]
    shades = torch.tensor([0.0, 0.25, -0.5])[labels][:, None, None, None]
    with opened(labels=text) as source:
        assert near(source.images(0, 20), levels(expected(20) + shades))
        said = source.describe()
    assert (said["classes"], said["labels"]) == (3, text or "uniform")


def test_truncation_and_noise_are_the_network_s_own(here: None, pkl: Callable[..., Path]) -> None:
    drawn = "images = images + torch.randn(len(z), 1, 1, 1)"
    pkl(drawn, "EXPECTED = (0.5, 3, 'random')")
    with opened(truncation=0.5, truncation_cutoff=3, noise="random") as source:
        first, again, said = source.images(0, 20), source.images(0, 20), source.describe()
    assert (said["truncation"], said["truncation_cutoff"], said["noise"]) == (0.5, 3, "random")
    assert torch.equal(first, again)  # each batch has a seed of its own
    assert not near(first, levels(expected(20)))
    pkl("pass", "EXPECTED = (0.25, None, 'none')")
    with opened(truncation=0.25, noise="none") as source:
        assert near(source.images(0, 20), levels(expected(20)))


def refuse(kind: type[ShapesHDError], message: str, **options: Any) -> str:
    """Open and use the file; return the one line that says why that is refused."""
    with pytest.raises(kind) as caught, opened(**options) as source:
        source.images(0, 3 * LAST)
    text = str(caught.value)
    assert type(caught.value) is kind and message in text and text.startswith("net.pkl")
    assert text.isprintable()
    return text


def test_nothing_runs_without_trust_and_a_repository(pkl: Callable[..., Path]) -> None:
    pkl()
    refuse(UsageError, "is code, which can do anything that you can do: add trust", trust=False)
    advice = "its authors' code as code_dir"
    for trust in (False, True):
        with pytest.raises(UsageError) as caught:
            open_source("net.pkl", trust=trust)
        assert str(caught.value).endswith(advice)
    write(Path("net.pkl"), Call(os.system, f"touch {MARKER}"))
    with pytest.raises(UsageError, match=r"asks for 'posix\.system'") as caught:
        open_source("net.pkl", trust=True)
    assert str(caught.value).endswith(advice)
    assert not Path(MARKER).exists()


LOADING: list[tuple[str, dict[str, Any], type[ShapesHDError], str]] = [
    ("raises", {"top": "raise ValueError('no\\nway')"}, ShapesHDError, "raised ValueError: no way"),
    ("exits", {"top": "sys.exit(3)"}, ShapesHDError, "raised SystemExit: 3"),
    ("syntax", {"top": "x = = 2"}, ShapesHDError, "raised SyntaxError: invalid syntax"),
    (
        "class",
        {"saved_as": "Other"},
        ShapesHDError,
        "KeyError: 'Other' (persistence.py, line 7)",
    ),
    ("needs", {"top": "import no_such"}, ShapesHDError, "needs the module no_such"),
    ("no z_dim", {"z_dim": None}, UsageError, "give latent_dim"),
    ("z_dim", {"z_dim": 512, "latent_dim": 4}, UsageError, "512 values, not of 4"),
    ("grey", {"img_channels": 1}, UsageError, "1 channels, not 3"),
    ("c_dim", {"c_dim": -2}, UsageError, "no sensible c_dim"),
    ("labels", {"labels": "1"}, UsageError, "network without classes"),
    ("classes", {"classes": 3}, UsageError, "leave out classes"),
    ("beyond", {"c_dim": 3, "labels": "1-3"}, UsageError, "labels='1-3' goes beyond"),
    ("differ", {"c_dim": 3, "classes": 4}, UsageError, "3 classes, not 4"),
    ("range", {"range": "unit"}, UsageError, "range and layout"),
    ("key", {"key": "images"}, UsageError, "leave out key"),
    ("form", {"label_form": "index"}, UsageError, "leave out label_form"),
    (
        "no folder",
        {"code_dir": "absent"},
        UsageError,
        "no folder 'absent'",
    ),
    ("a file", {"code_dir": "net.pkl"}, UsageError, "no folder 'net.pkl'"),
    ("nothing", {"code_dir": ""}, UsageError, "no folder ''"),
]


@pytest.mark.parametrize(("_", "given", "kind", "message"), LOADING, ids=[c[0] for c in LOADING])
def test_what_cannot_be_loaded(
    here: None,
    pkl: Callable[..., Path],
    _: str,
    given: dict[str, Any],
    kind: type[ShapesHDError],
    message: str,
) -> None:
    said = {name for name in given if name in SourceOptions.__dataclass_fields__}
    pkl(**{name: value for name, value in given.items() if name not in said})
    refuse(kind, message, **{name: given[name] for name in said})


def test_another_repository(here: None, pkl: Callable[..., Path], repository: Path) -> None:
    """An empty one; one of the same layout, but with other code in it."""
    pkl()
    Path("EMPTY").mkdir()
    refuse(ShapesHDError, "module dnnlib, which is neither in code_dir='EMPTY'",
           code_dir="EMPTY")  # fmt: skip
    (repository / "torch_utils" / "persistence.py").write_text("x = 1\n")
    refuse(ShapesHDError, "raised AttributeError: ")
    assert not Path(MARKER).exists()


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"pickled cucumbers", ShapesHDError, "raised UnpicklingError: "),
        (b"\x80\x04]", ShapesHDError, "raised EOFError"),
        (pickle.dumps([1]), UsageError, "no network pickle"),
        (pickle.dumps({"G_ema": [1]}), UsageError, "its G_ema is a list"),
    ],
    ids=["text", "cut off", "list", "no network"],
)
def test_other_files(here: None, content: bytes, kind: type[ShapesHDError], message: str) -> None:
    Path("net.pkl").write_bytes(content)
    refuse(kind, message)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("raise ValueError('no\\nway')", ShapesHDError, "raised ValueError: no way"),
        ("sys.exit()", ShapesHDError, "raised SystemExit"),
        ("images = images[:, :1]", UsageError, "1 channel, grey"),
        ("images = images.repeat(1, 2, 1, 1)", UsageError, "shape (7, 6, 4, 4)"),
        ("images = images[0]", UsageError, "not (n, 3, H, W)"),
        ("images = images[:3]", ShapesHDError, "3 images for 7 samples"),
        ("images[2] = float('nan')", ShapesHDError, "NaN values in 1 of 7"),
        ("images = [images]", ShapesHDError, "returned a list"),
        ("images = None", ShapesHDError, "returned None"),
        (
            "from torch.utils import cpp_extension; cpp_extension.load('plugin')",
            ShapesHDError,
            "compile an extension",
        ),
    ],
    ids=lambda value: value[-24:] if isinstance(value, str) else "",
)
def test_networks_that_fail(
    here: None,
    pkl: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    kind: type[ShapesHDError],
    message: str,
) -> None:
    compiler: Any = ModuleType("torch.utils.cpp_extension")  # the real one takes 3 s to import
    compiler.load = compiler.load_inline = lambda *_: pytest.fail("it was compiled")
    monkeypatch.setitem(sys.modules, compiler.__name__, compiler)
    monkeypatch.setattr(torch.utils, "cpp_extension", compiler, raising=False)
    pkl(body)
    refuse(kind, message)


def test_a_network_that_hangs_is_ended(
    pkl: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """In a process of its own, which prints a lot; none of that is taken for a result."""
    pkl("os.write(1, b'noise ' * 40_000); time.sleep(600 * os.path.exists('hang'))")
    others = own_children()
    with opened() as source:
        (child,) = own_children() - others
        assert near(source.images(0, LAST), levels(expected(LAST)))
        Path("hang").touch()
        source._batches._timeout = 1.0
        with pytest.raises(ShapesHDError, match=r"^net\.pkl: .*within 1 s"):
            source.images(LAST, 2 * LAST)
        psutil.wait_procs([child], timeout=5)
        assert not child.is_running()
        with pytest.raises(ShapesHDError, match="the source is closed"):
            source.images(0, 1)
    out, err = capfd.readouterr()
    assert out == "" and "rubbish" in err and err.count("noise") >= 40_000
    assert Path(MARKER).exists()


@pytest.mark.usefixtures("no_page")
def test_a_score_keeps_what_was_counted(
    run: Run, pkl: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends on the way; then the whole, by the same command."""
    monkeypatch.setattr(scoring, "choose_examples", lambda *_, **__: {})
    monkeypatch.setattr(score_run, "load_recognizer", lambda *_: ReadsWritten(32))
    pkl(
        "images = -torch.ones(len(z), 3, 32, 32)\n"
        "        self.calls = getattr(self, 'calls', 0) + 1\n"
        "        if self.calls > 5 and not os.path.exists('whole'): os._exit(5)",
        c_dim=3,
    )
    base = ["score", "net.pkl", "--trust", "--code-dir", "REPO", "--samples", 5800]
    base += ["--device", "cpu", "--batch", 2048, "--labels", "0,2"]
    refused = [["--labels", "0,3"], ["--code-dir", "absent"], ["--classes", 4]]
    with monkeypatch.context() as patch:
        patch.setattr(code_process, "_Child", SameProcess)
        for more in refused:
            status, out, err = run(*base, *more)
            # The code prints, here into our own stdout; in its own process, to stderr.
            assert (status, len(err.splitlines())) == (2, 1), err
            assert out in ("", "rubbish\n")
    status, out, err = run(*base)
    assert (status, out) == (1, "")
    last = err.splitlines()[-1]
    assert "(exit status 5)" in last
    assert "2,048 of 5,800" in last or "4,096 of 5,800" in last
    Path("whole").touch()
    with monkeypatch.context() as patch:
        patch.setattr(code_process, "_Child", SameProcess)
        status, out, err = run(*base, "--json")
    assert status == 0, err
    said = json.loads(out[out.index("{") :])["source"]
    assert (said["labels"], said["classes"], said["kind"]) == ("0,2", 3, "network-code")
    assert np.load("score-net.pkl/histogram.npy").sum() == 5800
