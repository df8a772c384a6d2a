import numpy as np
import pytest
import torch

from twonines.models.detector import box_overlap, find_boxes, place_centres, weaken_repeats
from twonines.models.finetuned import FinetunedModel, Finish
from twonines.models.network import DefectNetwork, Layout, loudest
from twonines.models.providers import make_runtime
from twonines.training.export import export_whole

LAYOUTS = [
    Layout(("a", "b"), has_good=True),
    Layout(("a", "b", "c"), has_good=False, detect=True),
    Layout(("a",), has_good=True, detect=True, reference=True),
]


def images(count: int, seed: int = 0, side: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def model(layout: Layout) -> FinetunedModel:
    torch.manual_seed(0)
    network = DefectNetwork(layout)
    depth = network.net.num_features
    rng = np.random.default_rng(0)
    finish = Finish(
        reject=np.array([1.5, 0.25, 0.125, 0.5], np.float32),
        temperature=np.array([2], np.float32),
        mean=np.zeros(depth, np.float32),
        gain=np.ones(depth, np.float32),
        landmarks=rng.normal(size=(5, depth)).astype(np.float16),
    )
    return FinetunedModel(network, finish, (64, 64))


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_onnx_agrees_with_pytorch_at_every_batch_size(layout: Layout) -> None:
    whole = model(layout)
    graph = export_whole(whole, (64, 64), pairs=layout.reference)
    runtime = make_runtime(graph.SerializeToString(), "cpu", 1)
    for count in (1, 2, 7, 32):
        feed = {"images": images(count)}
        if layout.reference:
            feed["references"] = images(count, seed=1)
        got = dict(
            zip(whole.output_names, runtime.run(list(whole.output_names), feed), strict=True)
        )
        with torch.inference_mode():
            values = whole(*(torch.from_numpy(value) for value in feed.values()))
        for name, value in zip(whole.output_names, values, strict=True):
            wanted = value.numpy()
            assert got[name].shape == wanted.shape and got[name].dtype == wanted.dtype
            if name not in ("boxes", "box_classes", "map_classes"):  # those turn on near ties
                assert np.allclose(got[name], wanted, atol=1e-4, rtol=1e-3), name
        assert got["defect_map"].shape == (count, 32, 32)


def test_the_reference_changes_the_answer() -> None:
    whole = model(LAYOUTS[2])
    first = torch.from_numpy(images(1))
    with torch.inference_mode():
        same, other = whole(first, first)[0], whole(first, torch.from_numpy(images(1, 1)))[0]
    assert not torch.allclose(same, other, atol=1e-4)


def test_training_leaves_the_pretrained_statistics() -> None:
    network = DefectNetwork(LAYOUTS[0]).train()
    before = network.net.conv_stem.mean.clone()
    network(torch.from_numpy(images(4)))
    assert torch.equal(before, network.net.conv_stem.mean)
    assert network.decoder.training


def test_boxes_stand_where_the_centre_is() -> None:
    centres = torch.full((1, 2, 16, 16), -9.0)
    centres[0, 1, 3, 5] = 4.0
    centres[0, 0, 10, 10] = 2.0
    sides = torch.ones(1, 4, 16, 16) * torch.tensor([4.0, 8.0, 6.0, 10.0])[None, :, None, None]
    boxes, scores, kinds = find_boxes(centres, sides, (64, 64))
    x, y = place_centres(16, 16)[3, 5].tolist()
    assert boxes[0, 0].tolist() == [x - 4, y - 8, x + 6, y + 10]
    assert kinds[0, :2].tolist() == [1, 0]
    assert scores[0, 0] == pytest.approx(1 / (1 + np.exp(-4.0)), abs=1e-6)
    assert boxes.min() >= 0 and boxes.max() <= 64


def test_a_repeat_loses_its_score_and_another_kind_keeps_it() -> None:
    boxes = torch.tensor(
        [[[0.0, 0, 10, 10], [1.0, 0, 11, 10], [1.0, 0, 11, 10], [30.0, 30, 40, 40]]]
    )
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    kinds = torch.tensor([[0, 0, 1, 0]])
    left = weaken_repeats(boxes, scores, kinds)[0]
    assert left[0] == pytest.approx(0.9) and left[2] == pytest.approx(0.7)
    assert left[3] == pytest.approx(0.6)
    overlap = 90 / 110
    assert left[1] == pytest.approx(0.8 * np.exp(-(overlap**2) / 0.3), rel=1e-5)
    assert box_overlap(boxes)[0, 0, 1] == pytest.approx(overlap)


def test_the_loudest_places_are_averaged() -> None:
    places = torch.zeros(1, 1, 10, 10)
    places[0, 0, 0, :4] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    assert loudest(places).item() == pytest.approx(2.5)
