"""Features of real and spoilt images: what gives them, and what the statistics then say."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as filters
from torch import Tensor, nn

from shapeshd.benchmark.fidelity.compare_features import compare_features
from shapeshd.benchmark.fidelity.features import FeatureNetwork, load_features
from shapeshd.benchmark.fidelity.pretrained import networks
from shapeshd.benchmark.recognizer.recognizer import Recognizer, decode_reading, load_recognizer
from shapeshd.errors import MissingPackageError, ShapesHDError, UsageError
from shapeshd.factors import SHAPE, uniform_factors
from shapeshd.raytracer.tracer import trace_images

HALF = 120
POOL = 2 * HALF


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return load_recognizer("lite")


@pytest.fixture(scope="module")
def network(recognizer: Recognizer) -> FeatureNetwork:
    return load_features("recognizer", recognizer)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return trace_images(uniform_factors(5, 0, POOL), 64)


@pytest.fixture(scope="module")
def real(network: FeatureNetwork, images: Tensor) -> np.ndarray[Any, Any]:
    return network(images)


def noised(images: Tensor, deviation: float) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + deviation * noise).round().clamp(0, 255).byte()


def test_features_are_what_the_factors_are_read_from(
    recognizer: Recognizer, images: Tensor
) -> None:
    part = images[:5]
    raw = recognizer.features(part)
    assert raw.dtype == np.float32
    assert raw.shape == (5, recognizer.feature_dim) == (5, 6 + 3 * 48 + 128)
    with torch.inference_mode():
        reading = recognizer.network(part)
        pooled = torch.from_numpy(raw[:, 6:].copy())
        scale, orientation, shape = recognizer.network.geometry.read(pooled)
    np.testing.assert_allclose(raw[:, :6], reading.hues.flatten(1), atol=1e-6)
    again = reading._replace(scale=scale, orientation=orientation, shape=shape)
    np.testing.assert_allclose(decode_reading(again), recognizer(part), atol=1e-4)
    np.testing.assert_allclose(raw[2:3], recognizer.features(part[2:3]), atol=1e-5)


def test_features_say_whose_they_are(
    network: FeatureNetwork, recognizer: Recognizer, real: np.ndarray[Any, Any]
) -> None:
    assert (network.name, network.digest) == ("recognizer lite", recognizer.digest)
    assert real.shape == (POOL, network.dimension)
    assert real.dtype == np.float32
    # One scale for all: none outweighs the others, and none has a long tail.
    assert real.std(0).max() < 2
    assert np.abs(real).max() < 10


def test_images_of_another_size_are_resized_as_for_a_score(
    network: FeatureNetwork, images: Tensor
) -> None:
    double = images[:3].repeat_interleave(2, 2).repeat_interleave(2, 3)
    np.testing.assert_allclose(network(double), network(images[:3]), atol=1e-4)
    with pytest.raises(UsageError, match="must be square"):
        network(images[:3, :, :40])


def test_blur_and_noise_grow_in_fid_and_kid(
    network: FeatureNetwork, images: Tensor, real: np.ndarray[Any, Any]
) -> None:
    """Of the same images, so that nothing else differs; and beyond what real ones differ by."""
    first, other = images[:HALF], real[HALF:]
    ideal = compare_features(real[:HALF], other)
    assert ideal["kid"]["low"] <= 0 <= ideal["kid"]["high"]
    assert ideal["density"]["low"] < 1 < ideal["density"]["high"]
    for made in (
        [filters.gaussian_blur(first, 9, sigma) for sigma in (1.0, 2.5)],
        [noised(first, deviation) for deviation in (25, 60)],
    ):
        found = [ideal, *(compare_features(network(each), other) for each in made)]
        for name in ("fid", "kid"):
            values = [each[name]["value"] for each in found]
            assert values == sorted(values), name
        worst = found[-1]
        assert worst["fid"]["low"] > ideal["fid"]["high"]
        assert worst["kid"]["low"] > 0
        for name in ("precision", "density", "coverage"):
            assert worst[name]["high"] < ideal[name]["value"], name
            assert worst[name]["value"] < ideal[name]["low"], name


def test_a_dropped_shape_and_copies_show_in_recall_and_coverage(
    real: np.ndarray[Any, Any],
) -> None:
    shapes = uniform_factors(5, 0, POOL)[:, SHAPE]
    rows = np.arange(POOL)
    generated, other = rows[rows % 2 == 0], rows[rows % 2 == 1]
    ideal = compare_features(real[generated], real[other])
    # Spheres alone, repeated: as many images as before, each of them good.
    spheres = np.resize(generated[shapes[generated] == 2], HALF)
    dropped = compare_features(real[spheres], real[other])
    assert dropped["precision"]["high"] > 0.9
    assert dropped["coverage"]["high"] < ideal["coverage"]["value"]
    assert dropped["coverage"]["value"] < ideal["coverage"]["low"]
    assert dropped["fid"]["value"] > ideal["fid"]["high"]
    copies = compare_features(np.repeat(real[generated[:4]], 30, axis=0), real[other])
    assert copies["recall"]["value"] == 0
    assert copies["coverage"]["value"] < 0.3
    assert copies["coverage"]["high"] < ideal["coverage"]["low"]


# Networks of others


class Payload:
    """Writes a file when a pickle of it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.target}",))


class Scripted(nn.Module):
    """Answers as NVlabs' metric networks do; gives no features unless asked for them."""

    def forward(self, images: Tensor, return_features: bool = False) -> Tensor:
        values = images.float().flatten(2).mean(2)
        if not return_features:
            return values[:, :1]
        return torch.cat((values, values * 2), 1)


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A file of random weights, and torch-fidelity's own network of them."""
    extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:  # its own way to random weights is a download
        patch.setattr(extractor, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(extractor.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        made = extractor.FeatureExtractorInceptionV3("inception", ["2048"])
    torch.save(made.state_dict(), path)
    whole = extractor.FeatureExtractorInceptionV3(
        "inception", ["2048"], feature_extractor_weights_path=str(path)
    )
    return path, whole


def test_inception_is_torch_fidelitys(
    inception: tuple[Path, nn.Module], recognizer: Recognizer, images: Tensor, tmp_path: Path
) -> None:
    path, original = inception
    found = load_features(f"inception:{path}", recognizer)
    assert (found.name, found.dimension) == ("inception:inception.pth", 2048)
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    expected = original(images[:2])[0].numpy()
    assert expected.std() > 0
    assert isinstance(found, networks.PretrainedFeatures)
    assert found.class_weights is not None
    np.testing.assert_array_equal(found.class_weights, original.fc.weight.numpy())
    np.testing.assert_allclose(found(images[:2]), expected, rtol=1e-4, atol=1e-6)
    wrapped = tmp_path / "wrapped.pth"
    torch.save({f"module.{name}": value for name, value in torch.load(path).items()}, wrapped)
    again = load_features(f"inception:{wrapped}", recognizer)
    np.testing.assert_array_equal(again(images[:2]), found(images[:2]))


def test_inception_without_torch_fidelity(
    inception: tuple[Path, nn.Module], recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'shapeshd\[fidelity\]'"):
        load_features(f"inception:{inception[0]}", recognizer)


def test_vgg_is_torchvisions(
    tmp_path: Path, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a narrow network of the same form: the real one has 553 MB."""

    class Narrow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Conv2d(3, 4, 32, stride=32)
            self.classifier = nn.Sequential(
                nn.Linear(196, 10), nn.ReLU(), nn.Dropout(), nn.Linear(10, 7), nn.ReLU(),
                nn.Dropout(), nn.Linear(7, 5),
            )  # fmt: skip

        def forward(self, x: Tensor) -> Tensor:
            return self.classifier(self.features(x).flatten(1))

    from safetensors.torch import save_file

    monkeypatch.setattr("torchvision.models.vgg16", Narrow)
    torch.manual_seed(1)
    original = Narrow().eval()
    path = tmp_path / "vgg.safetensors"
    save_file(original.state_dict(), path)
    found = load_features(f"vgg:{path}", recognizer)
    images = torch.randint(0, 256, (3, 3, 224, 224), dtype=torch.uint8)
    pixels = filters.normalize(images / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = original.classifier[:5](original.features(pixels).flatten(1))
    assert found.dimension == 7
    np.testing.assert_allclose(found(images), expected, rtol=1e-4, atol=1e-5)
    assert found(images[..., :64, :64]).shape == (3, 7)
    assert found(torch.zeros(40, 3, 256, 256, dtype=torch.uint8)).shape == (40, 7)
    wrapped = {f"_orig_mod.{name}": value for name, value in original.state_dict().items()}
    save_file(wrapped, tmp_path / "wrapped.safetensors")
    again = load_features(f"vgg:{tmp_path / 'wrapped.safetensors'}", recognizer)
    np.testing.assert_array_equal(again(images), found(images))


def test_torchscript_is_run_with_trust_alone(tmp_path: Path, recognizer: Recognizer) -> None:
    path = tmp_path / "net.pt"
    torch.jit.script(Scripted()).save(str(path))
    with pytest.raises(UsageError, match="trust"):
        load_features(f"inception:{path}", recognizer)
    found = load_features(f"inception:{path}", recognizer, trust=True)
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    means = images.float().mean((2, 3))
    np.testing.assert_allclose(found(images), torch.cat((means, 2 * means), 1), rtol=1e-5)


@pytest.mark.parametrize("kind", ["inception", "vgg"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pkl", ".safetensors"])
@pytest.mark.parametrize("trust", [False, True])
def test_no_code_in_a_file_of_weights_runs(
    tmp_path: Path, recognizer: Recognizer, kind: str, suffix: str, trust: bool
) -> None:
    target = tmp_path / "ran"
    for name, write in (
        ("zip", lambda path: torch.save({"weight": Payload(target)}, path)),
        ("plain", lambda path: path.write_bytes(pickle.dumps(Payload(target)))),
    ):
        path = tmp_path / f"{name}{suffix}"
        write(path)
        with pytest.raises(ShapesHDError, match=r"no (weights|safetensors file)"):
            load_features(f"{kind}:{path}", recognizer, trust=trust)
        assert not target.exists()
    pickle.loads(pickle.dumps(Payload(target)))
    assert target.exists()  # so it would have been seen


def test_an_old_pytorch_does_not_read_pickled_weights(
    tmp_path: Path, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1)}, path)
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(UsageError, match=r"\.safetensors.*trust"):
        load_features(f"vgg:{path}", recognizer)


def test_what_is_no_network(tmp_path: Path, recognizer: Recognizer) -> None:
    other, listed, cut = (tmp_path / name for name in ("other.pth", "list.pth", "cut.pth"))
    torch.save({"conv.weight": torch.zeros(3)}, other)
    torch.save([torch.zeros(3)], listed)
    cut.write_bytes(other.read_bytes()[:100])
    for text, error, message in (
        ("resnet", UsageError, "'resnet'; say recognizer"),
        ("vgg:", UsageError, "'vgg:' name no file: say vgg:PATH"),
        ("dinov2:", UsageError, "'dinov2:' name no file: say dinov2:PATH"),
        ("recognizer:x", UsageError, "no features 'recognizer:x'"),
        (f"vgg:{tmp_path / 'none.pth'}", UsageError, "no such file"),
        (f"vgg:{other}", UsageError, "other tensors.*VGG16"),
        (f"vgg:{listed}", UsageError, "no dictionary"),
        (f"inception:{cut}", ShapesHDError, "no weights"),
    ):
        with pytest.raises(error, match=message) as caught:
            load_features(text, recognizer)
        assert "\n" not in str(caught.value)
    pytest.importorskip("torch_fidelity")
    with pytest.raises(UsageError, match=r"other tensors.*Inception"):
        load_features(f"inception:{other}", recognizer)


def test_a_network_that_gives_no_vectors(tmp_path: Path, recognizer: Recognizer) -> None:
    class Picture(nn.Module):
        def forward(self, images: Tensor, return_features: bool = False) -> Tensor:
            return images

    path = tmp_path / "net.pt"
    torch.jit.script(Picture()).save(str(path))
    with pytest.raises(ShapesHDError, match="vector for each image"):
        networks.load_pretrained("vgg", path, trust=True)
