import numpy as np
import pytest
import torch
from torchvision.ops import nms

from twonines.models.backbone import Backbone
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
from twonines.training.fit import FeatureLayout, fit_head

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
    classes = ("good", "defective")[1 - layout.has_good :]
    seen = torch.from_numpy(
        images(6, seed=9) // np.arange(1, 7, dtype=np.uint8)[:, None, None, None]
    )
    with torch.inference_mode():
        features = network.eval().features(seen, seen if layout.reference else None).numpy()
    finish = Finish(
        neighbours=fit_head(
            features, np.arange(6) % len(classes), np.ones(6, np.float32), classes,
            FeatureLayout.of(network.widths), seed=0,
        ),
        reject=np.array([1.5, 0.25, 0.125, 2.0, 0.5], np.float32),
        temperature=np.array([2], np.float32),
    )  # fmt: skip
    return FinetunedModel(network, finish, (64, 64))


@pytest.mark.parametrize("layout", LAYOUTS)
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


def test_features_are_those_of_the_backbone_and_training_does_without() -> None:
    network, batch = DefectNetwork(LAYOUTS[0]), torch.from_numpy(images(3))
    backbone = Backbone()
    with torch.inference_mode():
        wanted = backbone(batch)[0]
        assert torch.allclose(network.eval()(batch).features, wanted, atol=1e-3)
    assert network.widths == backbone.widths
    assert network.train()(batch).features.shape == (3, 0)


def test_the_neighbours_have_a_say_in_the_score() -> None:
    whole, batch = model(LAYOUTS[0]), torch.from_numpy(images(2, seed=9))
    batch[1] //= 2  # the first two that the neighbours are of: a good and a defective one
    with torch.inference_mode():
        before = whole(batch)[0]
        whole.reject[3] = 0.0
        moved = torch.logit(before) - torch.logit(whole(batch)[0])
    assert moved[0] < -0.5 and moved[1] > 0.5


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
    at_the_edge = [24, 8, 40, 64]  # cut there
    assert boxes[0, 1].tolist() == pytest.approx(at_the_edge, abs=0.01)
    assert found[0, :2].tolist() == [1, 0]
    assert boxes.min() >= 0 and boxes.max() <= 64
    assert scores[0, 0] == pytest.approx(1 / (1 + np.exp(-4.0)), abs=1e-6)


def test_a_picture_that_is_not_a_multiple_of_the_strides_has_places_at_its_rim() -> None:
    network = DefectNetwork(LAYOUTS[1]).eval()
    with torch.inference_mode():
        raw = network(torch.from_numpy(images(1)[:, :50, :43]))
    assert raw.box_kinds is not None and raw.edges is not None
    places, _ = box_places((50, 43))
    assert raw.box_kinds.shape == (1, 3, len(places)) == (1, 3, 7 * 6 + 4 * 3 + 2 * 2)
    assert raw.edges.shape == (1, 4, BINS, len(places))


def as_places(
    wanted: list[tuple[list[float], int, float]], size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """What heads of two kinds say of wanted (box, kind, score), each at a place near its middle."""
    middles, strides = box_places(size)
    kinds = torch.full((1, 2, len(middles)), -30.0)
    edges = torch.zeros(1, 4, BINS, len(middles))
    free = torch.ones(len(middles), dtype=torch.bool)
    for box, kind, score in wanted:
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        far = (middles - torch.tensor([x, y])).square().sum(1)
        place = int(far.masked_fill(~free, np.inf).argmin())
        free[place] = False
        kinds[0, kind, place] = np.log(score / (1 - score))
        px, py = middles[place].tolist()
        for edge, value in enumerate((px - box[0], py - box[1], box[2] - px, box[3] - py)):
            steps = value / float(strides[place])
            low = int(steps)
            edges[0, edge, :, place] = -60.0
            edges[0, edge, low, place] = np.log(low + 1 - steps + 1e-12)
            edges[0, edge, low + 1, place] = np.log(steps - low + 1e-12)
    return kinds, edges


def test_a_box_of_a_picture_that_is_not_square_ends_at_its_edge() -> None:
    kinds, edges = as_places([([60.0, 8, 260, 40], 0, 0.9)], (48, 200))
    boxes, scores, _ = find_boxes(kinds, edges, (48, 200))
    assert boxes[0, 0].tolist() == pytest.approx([60, 8, 200, 40], abs=0.01)
    assert scores[0, 0] == pytest.approx(0.9, abs=1e-4)


def test_repeats_are_listed_once_each_kind_apart_and_the_best_first() -> None:
    wanted = [
        ([20.0, 20, 60, 60], 0, 0.9),
        ([22.0, 20, 62, 60], 0, 0.8),  # a repeat
        ([20.0, 20, 60, 60], 1, 0.7),  # another kind at the same place
        ([20.0, 22, 60, 62], 0, 0.6),  # a repeat
        ([80.0, 20, 120, 60], 0, 0.5),
        ([60.0, 20, 100, 60], 0, 0.4),  # overlaps, but by less than half
    ]
    boxes, scores, kinds = find_boxes(*as_places(wanted, (96, 128)), (96, 128))
    assert scores[0, :5].tolist() == pytest.approx([0.9, 0.7, 0.5, 0.4, 0], abs=1e-4)
    assert kinds[0, :4].tolist() == [0, 1, 0, 0]
    # The first listens to its repeats, by score and overlap to the eighth.
    near = (40 * 38 / (2 * 40 * 40 - 40 * 38)) ** 8
    shift = [2 * 0.8 * near, 2 * 0.6 * near]
    total = 0.9 + 0.8 * near + 0.6 * near
    x, y = shift[0] / total, shift[1] / total
    assert boxes[0, 0].tolist() == pytest.approx([20 + x, 20 + y, 60 + x, 60 + y], abs=0.05)
    assert boxes[0, 1].tolist() == pytest.approx([20, 20, 60, 60], abs=0.01)
    assert boxes[0, 2].tolist() == pytest.approx([80, 20, 120, 60], abs=0.05)


def test_many_defects_are_all_listed_though_ten_places_answer_for_each() -> None:
    wanted = []
    for number in range(36):
        x, y = 16.0 + 80 * (number % 6), 16.0 + 80 * (number // 6)
        for repeat in range(9):
            box = [x + repeat % 3, y + repeat // 3, x + 60 + repeat % 3, y + 60 + repeat // 3]
            wanted.append((box, 0, 0.95 - 0.01 * number - 0.001 * repeat))
    _, scores, _ = find_boxes(*as_places(wanted, (512, 512)), (512, 512))
    assert (scores[0] > 0.3).sum() == 36


def test_a_chain_of_repeats_keeps_every_second_box() -> None:
    count = 8
    left = torch.arange(count) * 2.0
    boxes = torch.stack(
        [left, torch.zeros(count), left + 10, torch.full((count,), 10.0)], 1
    )[None]  # fmt: skip
    scores = torch.linspace(0.9, 0.5, count)[None]
    kept = weaken_repeats(scores, box_overlap(boxes))
    by_hand = nms(boxes[0], scores[0], 0.5)
    assert torch.nonzero(kept[0])[:, 0].tolist() == by_hand.tolist()
    assert torch.equal(kept[0, by_hand], scores[0, by_hand])


def test_a_box_of_no_area_stays_what_it_is() -> None:
    boxes = torch.tensor([[[7.0, 7, 7, 7], [40, 40, 50, 50]]])
    overlap = box_overlap(boxes)
    assert torch.allclose(listen(boxes, torch.tensor([[0.9, 0.8]]), overlap), boxes)


def test_the_loudest_places_are_averaged() -> None:
    places = torch.zeros(1, 1, 10, 10)
    places[0, 0, 0, :4] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    assert loudest(places).item() == pytest.approx(2.5)
