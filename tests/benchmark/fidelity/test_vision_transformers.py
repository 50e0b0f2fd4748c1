"""DINOv2 and CLIP from small made weights, against torch-fidelity and PyTorch's own layers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shapeshd.benchmark.fidelity.pretrained import networks
from shapeshd.benchmark.fidelity.pretrained.networks import load_pretrained
from shapeshd.benchmark.fidelity.pretrained.vision_transformers import DinoVisionTransformer
from shapeshd.errors import MissingPackageError, UsageError

WIDTH, DEPTH, PATCH = 128, 2, 56  # 56: four patches a side of 224 pixels
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 3, 40, 40), dtype=torch.uint8, generator=generator)


def made(gated: bool = False, side: int = 4) -> dict[str, Tensor]:
    """Return random tensors with the names of DINOv2's."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    tensors = {
        "cls_token": random(1, 1, WIDTH),
        "pos_embed": random(1, side**2 + 1, WIDTH),
        "mask_token": random(1, WIDTH),
        "patch_embed.proj.weight": random(WIDTH, 3, PATCH, PATCH) / PATCH,
        "patch_embed.proj.bias": random(WIDTH),
        "norm.weight": 1 + random(WIDTH),
        "norm.bias": random(WIDTH),
    }
    for number in range(DEPTH):
        block = f"blocks.{number}."
        hidden = 4 * WIDTH
        mlp = {"w12": (2 * hidden, WIDTH), "w3": (WIDTH, hidden)} if gated else {
            "fc1": (hidden, WIDTH), "fc2": (WIDTH, hidden)}  # fmt: skip
        for name, shape in ({"qkv": (3 * WIDTH, WIDTH), "proj": (WIDTH, WIDTH)} | mlp).items():
            place = block + ("mlp." if name in mlp else "attn.") + name
            tensors[place + ".weight"], tensors[place + ".bias"] = random(*shape), random(shape[0])
        for name in ("1", "2"):
            tensors[f"{block}norm{name}.weight"] = 1 + random(WIDTH)
            tensors[f"{block}norm{name}.bias"] = random(WIDTH)
            tensors[f"{block}ls{name}.gamma"] = 1 + random(WIDTH)
    return tensors


def by_pytorch(tensors: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """Compute the class token with PyTorch's encoder layers; layer scale is part of a weight."""
    stem = nn.Conv2d(3, WIDTH, PATCH, PATCH)
    stem.load_state_dict({name: tensors[f"patch_embed.proj.{name}"] for name in ("weight", "bias")})
    tokens = stem(pixels).flatten(2).mT
    tokens = torch.cat((tensors["cls_token"].repeat(len(pixels), 1, 1), tokens), 1)
    tokens = tokens + tensors["pos_embed"]
    for number in range(DEPTH):
        at = f"blocks.{number}."
        layer = nn.TransformerEncoderLayer(
            WIDTH, WIDTH // 64, 4 * WIDTH, 0, "gelu", 1e-6, batch_first=True, norm_first=True
        ).eval()
        first, second = tensors[at + "ls1.gamma"], tensors[at + "ls2.gamma"]
        layer.load_state_dict({
            "self_attn.in_proj_weight": tensors[at + "attn.qkv.weight"],
            "self_attn.in_proj_bias": tensors[at + "attn.qkv.bias"],
            "self_attn.out_proj.weight": first[:, None] * tensors[at + "attn.proj.weight"],
            "self_attn.out_proj.bias": first * tensors[at + "attn.proj.bias"],
            "linear1.weight": tensors[at + "mlp.fc1.weight"],
            "linear1.bias": tensors[at + "mlp.fc1.bias"],
            "linear2.weight": second[:, None] * tensors[at + "mlp.fc2.weight"],
            "linear2.bias": second * tensors[at + "mlp.fc2.bias"],
            **{f"norm{n}.{part}": tensors[f"{at}norm{n}.{part}"]
               for n in "12" for part in ("weight", "bias")},
        })  # fmt: skip
        tokens = layer(tokens)
    last = nn.LayerNorm(WIDTH, 1e-6)
    last.load_state_dict({name: tensors[f"norm.{name}"] for name in ("weight", "bias")})
    return last(tokens[:, 0])


def prepared(images: Tensor, mean: Any, deviation: Any, side: int = 224) -> Tensor:
    """Prepare images as torch-fidelity does, by its own resizing."""
    fidelity = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    resize = fidelity.interpolate_bilinear_2d_like_tensorflow1x
    values = resize(images.float(), size=(side, side), align_corners=False) / 255
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in (mean, deviation))
    return (values - mean) / deviation


def test_dinov2_is_the_transformer_of_its_paper(tmp_path: Path, images: Tensor) -> None:
    tensors = made()
    pixels = prepared(images, MEAN, DEVIATION)
    torch.save(tensors, tmp_path / "dino.pth")
    found = load_pretrained("dinov2", tmp_path / "dino.pth")
    assert (found.name, found.dimension) == ("dinov2:dino.pth", WIDTH)
    assert found.digest == hashlib.sha256((tmp_path / "dino.pth").read_bytes()).hexdigest()
    with torch.no_grad():
        expected = by_pytorch(tensors, pixels)
    assert expected.std(0).min() > 1e-3  # the images differ in every feature
    np.testing.assert_allclose(found(images), expected, rtol=1e-3, atol=1e-4)


def test_the_largest_dinov2_has_gates() -> None:
    """Its hidden layer by hand; one block whose attention adds nothing."""
    tensors = made(gated=True)
    for number in range(DEPTH):
        for name in ("ls1", "ls2"):
            if (number, name) != (0, "ls2"):
                tensors[f"blocks.{number}.{name}.gamma"].zero_()
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    token = (tensors["cls_token"] + tensors["pos_embed"][:, :1]).flatten()
    normal = torch.layer_norm(
        token, (WIDTH,), tensors["blocks.0.norm2.weight"], tensors["blocks.0.norm2.bias"], 1e-6
    )
    both = tensors["blocks.0.mlp.w12.weight"] @ normal + tensors["blocks.0.mlp.w12.bias"]
    gate, value = both[: 4 * WIDTH], both[4 * WIDTH :]
    hidden = gate * gate.sigmoid() * value
    mixed = tensors["blocks.0.mlp.w3.weight"] @ hidden + tensors["blocks.0.mlp.w3.bias"]
    token = token + tensors["blocks.0.ls2.gamma"] * mixed
    expected = torch.layer_norm(token, (WIDTH,), tensors["norm.weight"], tensors["norm.bias"], 1e-6)
    found = DinoVisionTransformer(tensors)(pixels)
    torch.testing.assert_close(found, expected.expand(2, -1), rtol=1e-4, atol=1e-4)


def keys_cubic(distance: float) -> float:
    """Keys' kernel with a = -3/4, as PyTorch's and OpenCV's bicubic."""
    a, x = -0.75, abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def test_positions_of_another_grid_are_interpolated_as_the_published_models_do() -> None:
    """For n patches along a side of m positions, by the scale (n + 0.1) / m: theirs, not n / m."""
    side, patches = 7, 4
    tensors = made(side=side)
    weights = np.zeros((patches, side))
    for patch in range(patches):
        center = (patch + 0.5) * side / (patches + 0.1) - 0.5
        for place in range(int(np.floor(center)) - 1, int(np.floor(center)) + 3):
            weights[patch, min(max(place, 0), side - 1)] += keys_cubic(center - place)
    given = tensors["pos_embed"][0].double().numpy()
    grid = given[1:].reshape(side, side, WIDTH)
    expected = np.einsum("ia,jb,abc->ijc", weights, weights, grid).reshape(-1, WIDTH)
    found = DinoVisionTransformer(tensors)._positions(patches, patches)[0].numpy()
    np.testing.assert_allclose(found[0], given[0], rtol=1e-6)
    np.testing.assert_allclose(found[1:], expected, rtol=1e-4, atol=1e-5)


# CLIP


class Archive(nn.Module):
    """CLIP as OpenAI stores it: TorchScript, of which the tensors alone matter."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual
        self.text_projection = nn.Parameter(torch.zeros(9, 16))
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, values: Tensor) -> Tensor:
        return values


@pytest.fixture(scope="module")
def visual() -> nn.Module:
    """A small image encoder of CLIP with torch-fidelity's own classes: 16 features."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_clip")
    torch.manual_seed(4)
    made = module.CLIPVisual(16, 64, 2, 64, 32).visual
    halved = {name: value.half().float() for name, value in made.state_dict().items()}
    made.load_state_dict(halved)  # it keeps large matrices in half precision
    return made.eval()


def expected_of(visual: nn.Module, images: Tensor) -> np.ndarray:
    mean = (0.48145466, 0.4578275, 0.40821073)
    deviation = (0.26862954, 0.26130258, 0.27577711)
    with torch.no_grad():
        values: np.ndarray = visual(prepared(images, mean, deviation, 64)).numpy()
    return values


def test_clip_from_tensors(tmp_path: Path, images: Tensor, visual: nn.Module) -> None:
    from safetensors.torch import save_file

    tensors = {f"visual.{name}": value for name, value in visual.state_dict().items()}
    save_file(tensors, tmp_path / "clip.safetensors")
    torch.save(tensors | {"text_projection": torch.zeros(9, 16)}, tmp_path / "clip.pth")
    for name in ("clip.safetensors", "clip.pth"):
        found = load_pretrained("clip", tmp_path / name)
        assert found.dimension == 16
        np.testing.assert_allclose(found(images), expected_of(visual, images), atol=1e-4)


def test_clip_from_openais_form_takes_trust_or_a_published_digest(
    tmp_path: Path, images: Tensor, visual: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ViT.pt"
    example = torch.zeros(1)
    torch.jit.trace_module(Archive(visual), {"forward": example}).save(str(path))
    with pytest.raises(UsageError, match="trust"):
        load_pretrained("clip", path)
    expected = expected_of(visual, images)
    found = load_pretrained("clip", path, trust=True)
    np.testing.assert_allclose(found(images), expected, atol=1e-4)
    # torch-fidelity's own way to such a file gives the same.
    module = pytest.importorskip("torch_fidelity.feature_extractor_clip")
    theirs = module.FeatureExtractorCLIP(
        "clip-vit-b-32", ["clip"], feature_extractor_weights_path=str(path)
    )
    np.testing.assert_allclose(found(images), theirs(images)[0].numpy(), rtol=1e-5, atol=1e-6)
    published = {"clip-vit-b-32": {"hash": found.digest}}
    monkeypatch.setattr(module, "MODEL_METADATA", published)
    np.testing.assert_array_equal(load_pretrained("clip", path)(images), found(images))


# What is not such a network


@pytest.mark.parametrize("kind", ["dinov2", "clip"])
@pytest.mark.parametrize("damage", ["other", "missing", "more", "shape"])
def test_other_tensors(tmp_path: Path, visual: nn.Module, kind: str, damage: str) -> None:
    if kind == "clip":
        tensors = {f"visual.{name}": value for name, value in visual.state_dict().items()}
        place = "visual.ln_post.weight"
    else:
        tensors, place = made(), "blocks.1.norm2.weight"
    told = place
    if damage == "other":
        tensors = {"weight": torch.zeros(3)}
        told = "patch_embed.proj.weight" if kind == "dinov2" else "'weight'"
    elif damage == "missing":
        del tensors[place]
    elif damage == "more":
        told = "register_tokens" if kind == "dinov2" else "visual.more"
        tensors[told] = torch.zeros(1, 4, WIDTH)
    else:
        tensors[place] = torch.zeros(5)
    torch.save(tensors, tmp_path / "x.pth")
    with pytest.raises(UsageError, match=rf"{kind}:x\.pth: holds other tensors") as caught:
        load_pretrained(kind, tmp_path / "x.pth")
    assert "\n" not in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize("kind", ["dinov2", "clip"])
def test_without_torch_fidelity(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    torch.save(made(), tmp_path / "x.pth")
    monkeypatch.setitem(sys.modules, f"torch_fidelity.feature_extractor_{kind}", None)
    with pytest.raises(MissingPackageError, match=r"shapeshd\[fidelity\]"):
        load_pretrained(kind, tmp_path / "x.pth")


def test_published_weights_are_known_by_their_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch_fidelity")
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(networks, "fetch_checked", lambda *given: asked.append(given) or Path("x"))
    for kind in ("dinov2", "clip"):
        assert networks.published_weights(kind) == Path("x")
    (dino, clip) = asked
    assert dino[0].endswith("/dinov2_vitl14_pretrain.pth") and dino[1] == "dinov2:PATH"
    assert len(dino[2]) == len(clip[2]) == 64
    assert clip[0].endswith("/ViT-B-32.pt") and f"/{clip[2]}/" in clip[0]
    assert clip[3] == f"clip-vit-b-32-{clip[2]}.pt"
