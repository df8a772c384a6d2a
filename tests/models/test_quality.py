import numpy as np
import pytest
from scipy import ndimage

from twonines.models.image import resize
from twonines.models.quality import FEATURES, find_faults, learn_limits, measure
from twonines.types import Image


def picture(rng: np.random.Generator) -> Image:
    grey = rng.normal(120, 25, (64, 48, 1)).clip(0, 255).astype(np.uint8)
    return np.repeat(grey, 3, axis=2)


def look(image: Image) -> dict[str, float]:
    return measure((image.shape[0], image.shape[1]), resize(image, (64, 48)))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda i: np.full_like(i, 120), "blank"),
        (lambda i: (i // 4).astype(np.uint8), "too dark"),
        (lambda i: np.where(i > 130, 255, i).astype(np.uint8), "saturated"),
        (lambda i: ndimage.gaussian_filter(i, (2, 2, 0)), "blurred"),
        (lambda i: (i * [1.0, 0.7, 0.4]).astype(np.uint8), "another colour"),
        (lambda i: i[:, :20], "too few columns"),
        (lambda i: i.repeat(2, axis=1), "too wide"),
    ],
)
def test_faults_are_named_and_plain_pictures_pass(change: object, word: str) -> None:
    rng = np.random.default_rng(0)
    limits = learn_limits(look(picture(rng)) for _ in range(50))
    assert limits.n == 50 and set(limits.limits) == set(FEATURES)
    assert not any(find_faults(look(picture(rng)), limits) for _ in range(100))
    assert callable(change)
    assert word in " ".join(find_faults(look(change(picture(rng))), limits))


def test_a_feature_that_is_missing_or_no_number_is_a_fault() -> None:
    limits = learn_limits([look(picture(np.random.default_rng(0)))])
    assert len(find_faults({}, limits)) == len(FEATURES)
    assert find_faults({}, None) == []
    with pytest.raises(ValueError, match="at least one picture"):
        learn_limits([])


def test_features_of_a_plain_grey_picture() -> None:
    found = look(np.full((10, 20, 3), 255, np.uint8))
    assert found["brightness"] == 255 and found["contrast"] == found["sharpness"] == 0
    assert found["bright_share"] == 1 and found["colour"] == found["dark_share"] == 0
    assert (found["height"], found["width"], found["aspect"]) == (10, 20, 2)


def test_tiny_pictures_are_measured() -> None:
    assert np.isfinite(list(measure((1, 1), np.zeros((1, 1, 3), np.uint8)).values())).all()


def plain_measure(image: Image, resized: Image) -> dict[str, float]:
    """The same features as their definitions read."""
    red, green, blue = (resized[:, :, i].astype(float) for i in range(3))
    laplacian = ndimage.convolve(green, [[0, -1, 0], [-1, 4, -1], [0, -1, 0]])[1:-1, 1:-1]
    height, width = image.shape[:2]
    return {
        "brightness": green.mean(),
        "contrast": green.std(),
        "dark_share": (green <= 4).mean(),
        "bright_share": (resized >= 251).mean(),
        "sharpness": np.abs(laplacian).mean() if laplacian.size else 0.0,
        "colour": np.abs(red - blue).mean() + np.abs(red - green).mean(),
        "height": height,
        "width": width,
        "aspect": width / height,
    }


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (3, 3), (3, 40), (64, 48), (301, 300)])
@pytest.mark.parametrize("kind", ["noise", "ends", "grey", "view"])
def test_features_are_as_their_definitions_say(size: tuple[int, int], kind: str) -> None:
    rng = np.random.default_rng(size[0])
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    if kind == "ends":
        image = np.where(image > 127, 255, 0).astype(np.uint8)
    if kind == "grey":
        image = np.repeat(image[:, :, :1], 3, axis=2)
    if kind == "view":
        image = rng.integers(0, 256, (size[0] * 2, size[1] + 5, 3), dtype=np.uint8)[::2, 5:]
    found, expected = measure((image.shape[0], image.shape[1]), image), plain_measure(image, image)
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
