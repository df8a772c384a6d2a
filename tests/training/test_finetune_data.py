"""What finetune is taught of pictures: targets, crops, losses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torchvision import tv_tensors
from torchvision.ops import box_iou
from torchvision.transforms import v2

from tests.training.defects import SIDE, make_parts
from twonines.datasets.record import Box, Record, Turns
from twonines.errors import ImageError
from twonines.models.align import shift
from twonines.models.detector import box_places, decode_boxes
from twonines.models.network import BINS, Layout
from twonines.training import finetune_labels as labels
from twonines.training.finetune_augment import AugmentPlan, build, cut_to_canvas
from twonines.training.finetune_boxes import ANSWERING, assign, box_losses
from twonines.training.finetune_data import Exercises, collate, open_gallery, shrink
from twonines.training.finetune_losses import bag_loss, map_loss

LAYOUT = Layout(("square", "stripe"), has_good=True)


def test_a_small_defect_pulls_the_map_as_a_kind_and_as_a_place() -> None:
    places = torch.full((1, 2, 16, 16), -5.0, requires_grad=True)
    kinds = torch.zeros(1, 32, 32, dtype=torch.uint8)
    kinds[0, 5, 7] = 1  # one pixel
    torch.autograd.backward(map_loss(places, kinds))
    assert places.grad is not None
    there = places.grad[0, :, 2, 3]
    assert there[0] < 0 and there[0] < there[1]
    assert there[0] < 20 * places.grad[0, 0, 8:, 8:].abs().max() * -1


def test_unknown_places_teach_nothing() -> None:
    places = torch.randn(2, 2, 8, 8, requires_grad=True)
    kinds = torch.zeros(2, 16, 16, dtype=torch.uint8)
    kinds[0] = labels.UNKNOWN
    kinds[1, :, 8:] = labels.UNKNOWN
    kinds[1, 2:6, 2:6] = 2
    torch.autograd.backward(map_loss(places, kinds))
    assert places.grad is not None
    assert not places.grad[0].any() and not places.grad[1, :, :, 4:].any()
    assert (places.grad[1, 1, 1:3, 1:3] < 0).all()  # kind 2 is pulled up where it is
    assert (places.grad[1, 0, :, :4] > 0).all()  # the other kind is pushed down everywhere


def test_bags_of_unknown_kinds_teach_nothing() -> None:
    bags = torch.zeros(1, 3, requires_grad=True)
    torch.autograd.backward(bag_loss(bags, torch.tensor([[1.0, 0.0, -1.0]])))
    assert bags.grad is not None
    down, up, none = bags.grad[0].tolist()
    assert down < 0 < up and none == 0


def record(name: str, **parts: Any) -> Record:
    return Record(Path("x.png"), name, **parts)


def test_targets_of_pictures() -> None:
    good = labels.picture_target(record("good"), LAYOUT)
    assert good.defect == 0 and good.bags.tolist() == [0, 0]
    sure = labels.picture_target(record("stripe"), LAYOUT)
    assert (sure.defect, sure.kinds.tolist(), sure.bags.tolist()) == (1, [0, 1], [0, 1])
    unsure = labels.picture_target(record("stripe", certainty=0.5), LAYOUT)
    assert unsure.defect == 0.75 and unsure.bags.tolist() == [-1, -1]
    several = labels.picture_target(record("several"), Layout(("several", "square"), True))
    assert several.bags.tolist() == [1, -1]
    boxes = (Box(0, 0, 4, 4, "square"), Box(8, 8, 9, 9, "stripe"))
    both = labels.picture_target(record("several", boxes=boxes), LAYOUT)
    assert both.kinds.tolist() == [0.5, 0.5] and both.bags.tolist() == [1, 1]


def test_a_box_leaves_its_rim_open_and_a_mask_does_not(tmp_path: Path) -> None:
    box = (Box(4, 4, 12, 12, "stripe"),)
    weak = labels.kind_map(record("stripe", boxes=box), LAYOUT, (16, 16))
    assert weak[8, 8] == 2 and weak[4, 4] == labels.UNKNOWN and weak[0, 0] == 0
    assert (labels.kind_map(record("stripe"), LAYOUT, (16, 16)) == labels.UNKNOWN).all()
    assert not labels.kind_map(record("good"), LAYOUT, (16, 16)).any()
    dataset = make_parts(tmp_path, {"square": 1}, masks=True)
    exact = labels.kind_map(dataset.records[0], LAYOUT, (SIDE, SIDE))
    assert set(np.unique(exact)) == {0, 1} and (exact == 1).sum() == 144


def test_a_scratch_of_one_pixel_survives_shrinking() -> None:
    kinds = np.zeros((64, 64), np.uint8)
    kinds[:, 31] = 2
    small = shrink(kinds, (16, 16))
    assert (small == 2).sum() == 16 and set(np.unique(small)) == {0, 2}
    assert (shrink(kinds, (128, 128)) == 2).sum() == 256


@pytest.mark.parametrize(
    ("flips", "turns", "count"), [(False, 1, 1), (True, 1, 2), (False, 2, 2), (True, 2, 4),
                                  (False, 4, 4), (True, 4, 8)]
)  # fmt: skip
def test_parts_lie_in_the_ways_that_the_card_allows(flips: bool, turns: Turns, count: int) -> None:
    change = build(AugmentPlan((2, 2), (1.0, 1.0), flips=flips, turns=turns, exposure=0))
    corners = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
    seen = set()
    for seed in range(100):
        torch.manual_seed(seed)
        got = change({"image": tv_tensors.Image(corners.expand(3, -1, -1))})
        seen.add(tuple(got["image"][0].flatten().tolist()))
    mirrored, turned = (2, 1, 4, 3), (4, 3, 2, 1)
    assert len(seen) == count and (1, 2, 3, 4) in seen
    assert (mirrored in seen) is flips and (turned in seen) is (turns > 1)
    assert ((3, 1, 4, 2) in seen) is (turns == 4)


def test_augmentation_keeps_boxes_on_their_marks() -> None:
    plan = AugmentPlan((48, 48), (0.8, 1.2), flips=True, turns=4, exposure=0.3)
    change = build(plan)
    seen = 0
    for seed in range(40):
        torch.manual_seed(seed)
        mask = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
        mask[20:30, 12:40] = 1
        image = tv_tensors.Image((mask * 255).expand(3, -1, -1))
        boxes = tv_tensors.BoundingBoxes(
            torch.tensor([[12.0, 20, 40, 30]]), format="XYXY", canvas_size=(SIDE, SIDE),
            clamping_mode=None,
        )  # fmt: skip
        got = change({"image": image, "kinds": tv_tensors.Mask(mask), "boxes": boxes})
        assert got["image"].shape == (3, 48, 48) and got["kinds"].shape == (48, 48)
        inside, kept, _ = cut_to_canvas(got["boxes"])
        rows, columns = torch.nonzero(got["kinds"], as_tuple=True)
        if not kept.any() or not len(rows):
            continue
        seen += 1
        drawn = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
        assert np.allclose(inside[0].tolist(), drawn, atol=1.5), seed
        bright = got["image"][0].float()
        inner = bright[got["kinds"].as_subclass(torch.Tensor) > 0].mean()
        assert inner > bright.mean()
    assert seen > 30


def test_a_crop_without_the_defect_is_good(tmp_path: Path) -> None:
    dataset = make_parts(tmp_path, {"square": 12}, masks=True)
    gallery = open_gallery(dataset.records, LAYOUT, (SIDE, SIDE))
    plan = AugmentPlan((24, 24), (1.0, 1.0), flips=False, turns=1, exposure=0)
    found = {0.0: 0, 1.0: 0}
    for seed in range(6):
        batch = collate([Exercises(gallery, range(12), plan, seed)[i] for i in range(12)])
        marked = (batch.kinds > 0).flatten(1).any(1)
        assert torch.equal(batch.defect, marked.float())
        found[0.0] += int((~marked).sum())
        found[1.0] += int(marked.sum())
    assert min(found.values()) > 5


def test_a_crop_teaches_only_the_kinds_that_it_shows(tmp_path: Path) -> None:
    part = make_parts(tmp_path, {"square": 1}).records[0]
    boxes = (Box(0, 0, 20, 20, "square"), Box(44, 44, 64, 64, "stripe"))
    both = Record(part.path, "square", boxes=boxes)
    gallery = open_gallery([both], Layout(("square", "stripe"), True, detect=True), (SIDE, SIDE))

    def cut(top: int, left: int, side: int) -> dict[str, Any]:
        exercises = Exercises(gallery, [0], None, 0)
        where = {"top": top, "left": left, "height": side, "width": side}
        exercises.change = lambda parts: {
            name: v2.functional.crop(value, **where)
            if isinstance(value, tv_tensors.TVTensor) else value for name, value in parts.items()
        }  # fmt: skip
        return exercises[0]

    whole = Exercises(gallery, [0], None, 0)[0]
    assert whole["shares"].tolist() == [0.5, 0.5] and whole["bags"].tolist() == [1, 1]
    first = cut(0, 0, 30)
    assert first["shares"].tolist() == [1, 0] and first["bags"].tolist() == [1, 0]
    half = cut(0, 0, 48)  # of the stripe a corner is left
    assert half["shares"].tolist() == [1, 0] and half["bags"].tolist() == [1, -1]
    none = cut(22, 22, 20)
    assert (none["defect"], none["weight"]) == (0.0, 1.0) and none["bags"].tolist() == [0, 0]


def test_references_are_laid_on_as_the_service_does(tmp_path: Path) -> None:
    dataset = make_parts(tmp_path, {"square": 1}, boxes=True, pairs=True)
    record = dataset.records[0]
    assert record.reference is not None
    image = np.asarray(PILImage.open(record.path).convert("RGB"))
    moved = shift(image, 2, -1)
    PILImage.fromarray(moved).save(record.reference)
    gallery = open_gallery([record], LAYOUT_PAIRS, (SIDE, SIDE))
    assert gallery.references is not None
    assert (gallery.references[0][6:-6, 6:-6] == image[6:-6, 6:-6]).all()
    PILImage.fromarray(moved[:40]).save(record.reference)
    with pytest.raises(ImageError, match=f"{record.reference.name}.*must show the view"):
        open_gallery([record], LAYOUT_PAIRS, (SIDE, SIDE))


def test_the_same_seed_gives_the_same_changes(tmp_path: Path) -> None:
    dataset = make_parts(tmp_path, {"square": 3}, boxes=True, pairs=True)
    gallery = open_gallery(dataset.records, LAYOUT_PAIRS, (SIDE, SIDE))
    plan = AugmentPlan((32, 32), (0.7, 1.0), flips=True, turns=4, exposure=0)
    one, two, other = (Exercises(gallery, range(3), plan, seed)[1] for seed in (0, 0, 1))
    assert torch.equal(one["image"], two["image"]) and torch.equal(one["boxes"], two["boxes"])
    assert not torch.equal(one["image"], other["image"])
    differ = (one["image"].int() - one["reference"].int()).abs().amax(0) > 60
    rows, columns = torch.nonzero(differ, as_tuple=True)
    x1, y1, x2, y2 = one["boxes"][0].tolist()
    assert abs(int(columns.min()) - x1) < 2.5 and abs(int(rows.max()) + 1 - y2) < 2.5


LAYOUT_PAIRS = Layout(("square", "stripe"), has_good=False, detect=True, reference=True)


def test_boxes_are_taught_where_they_are_and_tiny_ones_too(tmp_path: Path) -> None:
    dataset = make_parts(tmp_path, {"square": 2}, boxes=True)
    layout = Layout(("square", "stripe"), has_good=True, detect=True)
    gallery = open_gallery(dataset.records, layout, (SIDE, SIDE))
    batch = collate([Exercises(gallery, range(2), None, 0)[i] for i in range(2)])
    tiny = torch.tensor([[9.0, 9, 11, 11]])  # between the places of every stride
    batch = replace(
        batch,
        boxes=torch.cat([batch.boxes, tiny]),
        box_kinds=torch.cat([batch.box_kinds, torch.tensor([1])]),
        owners=torch.cat([batch.owners, torch.tensor([0])]),
    )
    middles, _ = box_places((SIDE, SIDE))
    chance = torch.full((2, 2, len(middles)), 0.1)
    framed = torch.cat([middles - 6, middles + 6], 1).expand(2, -1, -1)
    goal, owner = assign(chance, framed, (SIDE, SIDE), batch)
    for index in range(2):
        mine = owner[index] == index
        assert 1 <= mine.sum() <= ANSWERING
        low, high = batch.boxes[index, :2], batch.boxes[index, 2:]
        assert ((middles[mine] > low) & (middles[mine] < high)).all()
        best = box_iou(batch.boxes[index : index + 1], framed[index])[0, mine].max()
        assert goal[index, 0, mine].max() == pytest.approx(float(best), rel=1e-4)
    assert (owner[0] == 2).sum() == 1 and goal[0, 1].max() > 0 and not goal[1, 1].any()
    assert not goal.transpose(1, 2)[owner < 0].any()


def test_right_boxes_cost_less_and_pictures_without_known_boxes_nothing(tmp_path: Path) -> None:
    dataset = make_parts(tmp_path, {"square": 2}, boxes=True)
    layout = Layout(("square", "stripe"), has_good=True, detect=True)
    gallery = open_gallery(dataset.records, layout, (SIDE, SIDE))
    batch = collate([Exercises(gallery, range(2), None, 0)[i] for i in range(2)])
    middles, strides = box_places((SIDE, SIDE))

    def said(shift: float) -> torch.Tensor:
        """Edges (2, 4, BINS, P) of each picture's box, moved by so many pixels."""
        box = batch.boxes[:, None] + shift
        reach = torch.cat([middles - box[..., :2], box[..., 2:] - middles], 2) / strides[:, None]
        steps = torch.arange(BINS, dtype=torch.float32)
        return -((reach.transpose(1, 2)[:, :, None] - steps[:, None]).abs() * 4)

    kinds = torch.zeros(2, 2, len(middles))
    right, wrong = (box_losses(kinds, said(shift), batch) for shift in (0.0, 9.0))
    assert right["box"] < wrong["box"] and right["edge"] < wrong["edge"]
    named = torch.stack([torch.full_like(kinds[:, 0], 2.0), torch.full_like(kinds[:, 0], -9.0)], 1)
    inside = assign(torch.sigmoid(kinds), framed_by(said(0.0)), (SIDE, SIDE), batch)[1] >= 0
    named = torch.where(inside[:, None], named, torch.full_like(named, -9.0))
    assert box_losses(named, said(0.0), batch)["box_kind"] < right["box_kind"]

    unknown = replace(batch, boxed=torch.tensor([True, False]))
    asked = torch.zeros(2, 2, len(middles), requires_grad=True)
    torch.autograd.backward(box_losses(asked, said(0.0), unknown)["box_kind"])
    assert asked.grad is not None and asked.grad[0].any() and not asked.grad[1].any()

    none = replace(batch, boxes=batch.boxes[:0], box_kinds=batch.box_kinds[:0],
                   owners=batch.owners[:0])  # fmt: skip
    edges = said(0.0).requires_grad_()
    empty = box_losses(kinds, edges, none)
    assert empty["box"] == empty["edge"] == 0 and empty["box_kind"] > 0
    torch.autograd.backward(empty["box"])  # a batch without boxes must not stop training


def framed_by(edges: torch.Tensor) -> torch.Tensor:
    return decode_boxes(edges, (SIDE, SIDE))
