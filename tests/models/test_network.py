import numpy as np
import pytest
import torch

from twonines.models.detector import (
    box_overlap,
    box_places,
    find_boxes,
    listen,
    weaken_repeats,
)
from twonines.models.finetuned import FinetunedModel, Finish
from twonines.models.network import BINS, DefectNetwork, Layout, loudest
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
    for name, weight in network.named_parameters():
        if name.endswith("kind.2.weight"):  # an untrained box head's scores are all level
            torch.nn.init.normal_(weight)
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


def say(reach: torch.Tensor) -> torch.Tensor:
    """Logits (N, 4, BINS, P) of edges at whole distances (N, 4, P) in strides."""
    hot = torch.nn.functional.one_hot(reach, BINS).to(torch.float32)
    return (hot * 60.0).permute(0, 1, 3, 2)


def test_boxes_stand_around_their_places() -> None:
    middles, strides = box_places((64, 64))
    assert len(middles) == 8 * 8 + 4 * 4 + 2 * 2
    kinds = torch.full((1, 2, len(middles)), -9.0)
    fine, coarse = 3 * 8 + 5, 64 + 2 * 4 + 2
    kinds[0, 1, fine], kinds[0, 0, coarse] = 4.0, 2.0
    reach = torch.tensor([1, 2, 0, 3])[None, :, None].expand(1, 4, len(middles))
    boxes, scores, found = find_boxes(kinds, say(reach), (64, 64))
    assert strides[fine] == 8 and middles[fine].tolist() == [44, 28]
    assert boxes[0, 0].tolist() == pytest.approx([36, 12, 44, 52], abs=0.01)
    assert strides[coarse] == 16 and middles[coarse].tolist() == [40, 40]
    assert boxes[0, 1].tolist() == pytest.approx(
        [24, 8, 40, 64], abs=0.01
    )  # cut at the picture's edge
    assert found[0, :2].tolist() == [1, 0]
    assert scores[0, 0] == pytest.approx(1 / (1 + np.exp(-4.0)), abs=1e-6)


def test_a_picture_that_is_not_a_multiple_of_the_strides_has_places_at_its_rim() -> None:
    network = DefectNetwork(LAYOUTS[1]).eval()
    with torch.inference_mode():
        raw = network(torch.from_numpy(images(1)[:, :50, :43]))
    assert raw.box_kinds is not None and raw.edges is not None
    places, _ = box_places((50, 43))
    assert raw.box_kinds.shape == (1, 3, len(places)) == (1, 3, 7 * 6 + 4 * 3 + 2 * 2)
    assert raw.edges.shape == (1, 4, BINS, len(places))


def test_a_repeat_loses_its_score_and_another_kind_keeps_it() -> None:
    boxes = torch.tensor(
        [[[0.0, 0, 10, 10], [1.0, 0, 11, 10], [1.0, 0, 11, 10], [30.0, 30, 40, 40]]]
    )
    scores, kinds = torch.tensor([[0.9, 0.8, 0.7, 0.6]]), torch.tensor([[0, 0, 1, 0]])
    overlap = box_overlap(boxes) * (kinds[:, :, None] == kinds[:, None])
    assert overlap[0, 0, 1] == pytest.approx(90 / 110) and overlap[0, 0, 2] == 0
    left = weaken_repeats(scores, overlap)[0]
    assert left.tolist() == pytest.approx([0.9, 0.0, 0.7, 0.6], abs=1e-5)


def test_what_only_a_repeat_repeats_stands_for_itself() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [2.0, 0, 12, 10], [4.0, 0, 14, 10]]])
    left = weaken_repeats(torch.tensor([[0.9, 0.8, 0.7]]), box_overlap(boxes))[0]
    assert left.tolist() == pytest.approx([0.9, 0.0, 0.7], abs=0.05)


def test_a_box_listens_to_those_that_lie_as_it_does() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0.0, 0, 12, 10], [40.0, 40, 50, 50], [7, 7, 7, 7]]])
    scores = torch.tensor([[0.8, 0.8, 0.5, 0.1]])
    voted = listen(boxes, scores, box_overlap(boxes))[0]
    assert 10 < voted[0, 2] < 11 and voted[0, :2].tolist() == [0, 0]
    assert torch.allclose(voted[2], boxes[0, 2]) and torch.allclose(voted[3], boxes[0, 3])


def test_the_loudest_places_are_averaged() -> None:
    places = torch.zeros(1, 1, 10, 10)
    places[0, 0, 0, :4] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    assert loudest(places).item() == pytest.approx(2.5)
