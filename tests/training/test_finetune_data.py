"""What finetune is taught of pictures: targets, crops, losses."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torchvision import tv_tensors
from torchvision.ops import box_iou, complete_box_iou_loss
from torchvision.transforms import v2

from tests.training.defects import SIDE, make_parts
from twonines.datasets.record import Box, Record, Turns
from twonines.errors import ImageError
from twonines.models.align import shift
from twonines.models.detector import box_places, decode_boxes
from twonines.models.network import BINS, Layout
from twonines.training import finetune_data as module
from twonines.training import finetune_labels as labels
from twonines.training.finetune_augment import AugmentPlan, build, cut_to_canvas
from twonines.training.finetune_boxes import (
    LEAST_ANSWERS,
    LEAST_GOAL,
    assign,
    box_losses,
    edge_loss,
)
from twonines.training.finetune_data import Batch, Exercises, collate, open_gallery, shrink
from twonines.training.finetune_losses import bag_loss, map_loss

LAYOUT = Layout(("square", "stripe"), has_good=True)


@pytest.mark.parametrize("pairs", [False, True])
def test_a_large_gallery_lies_in_a_file_and_is_not_sent_to_other_processes(
    pairs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = make_parts(tmp_path / "parts", {"square": 6}, masks=True, pairs=pairs)
    layout = Layout(("square",), has_good=False, reference=pairs)
    small = open_gallery(parts.records, layout, (64, 64))
    monkeypatch.setattr(module, "MEMORY_BYTES", 0)
    large = open_gallery(parts.records, layout, (64, 64), cache=tmp_path / "cache")
    assert large.folder is not None and Path(large.folder.name).parent == tmp_path / "cache"
    for gallery in (small, large):
        sent = pickle.dumps(gallery)
        assert (len(sent) > small.images.nbytes) is (gallery is small)
        there = pickle.loads(sent)
        assert there.folder is None  # whoever sent it clears up
        assert (there.images == small.images).all() and (there.kinds == small.kinds).all()
        assert there.records == gallery.records and there.layout == layout
        if pairs:
            assert (there.references == small.references).all()
        else:
            assert there.references is None
    large.folder.cleanup()


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


DETECT = Layout(("square", "stripe"), has_good=True, detect=True)


def boxed_batch(tmp_path: Path, more: list[tuple[int, int, list[float]]] | None = None) -> Batch:
    """Two pictures with a square each, and more boxes as (picture, kind, corners)."""
    dataset = make_parts(tmp_path, {"square": 2}, boxes=True)
    gallery = open_gallery(dataset.records, DETECT, (SIDE, SIDE))
    batch = collate([Exercises(gallery, range(2), None, 0)[i] for i in range(2)])
    owners, kinds, corners = zip(*(more or []), strict=True) if more else ((), (), ())
    return replace(
        batch,
        boxes=torch.cat([batch.boxes, torch.tensor(corners).reshape(-1, 4)]),
        box_kinds=torch.cat([batch.box_kinds, torch.tensor(kinds, dtype=torch.long)]),
        owners=torch.cat([batch.owners, torch.tensor(owners, dtype=torch.long)]),
    )


def said(batch: Batch) -> torch.Tensor:
    """Edges (2, 4, BINS, P) by which every place frames its picture's first box."""
    middles, strides = box_places((SIDE, SIDE))
    box = batch.boxes[:2, None]
    reach = torch.cat([middles - box[..., :2], box[..., 2:] - middles], 2) / strides[:, None]
    steps = torch.arange(BINS, dtype=torch.float32)
    return -((reach.transpose(1, 2)[:, :, None] - steps[:, None]).abs() * 4)


def assign_slowly(
    chance: torch.Tensor, framed: torch.Tensor, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor]:
    """The assignment of TOOD, one place at a time."""
    middles, _ = box_places((SIDE, SIDE))
    goal, owner = torch.zeros_like(chance), torch.full(chance.shape[::2], -1)
    for picture in range(2):
        answers: dict[int, list[tuple[float, float, int]]] = {}
        for index in torch.nonzero(batch.owners == picture)[:, 0].tolist():
            low, high = batch.boxes[index, :2], batch.boxes[index, 2:]
            inside = [p for p, m in enumerate(middles) if (m > low).all() and (m < high).all()]
            if not inside:
                inside = [int((middles - (low + high) / 2).square().sum(1).argmin())]
            kind = int(batch.box_kinds[index])
            overlap = box_iou(batch.boxes[index : index + 1], framed[picture])[0]
            suits = {p: float(chance[picture, kind, p] ** 0.5 * overlap[p] ** 6) for p in inside}
            for p in sorted(inside, key=lambda p: -suits[p])[:10]:
                answers.setdefault(p, []).append((float(overlap[p]), suits[p], index))
        mine: dict[int, list[tuple[int, float, float]]] = {}
        for p, offers in answers.items():
            best = max(offers, key=lambda offer: offer[0])
            owner[picture, p] = best[2]
            mine.setdefault(best[2], []).append((p, best[1], best[0]))
        for index, places in mine.items():
            most = max(LEAST_GOAL, *(overlap for _, _, overlap in places))
            top = max(suit for _, suit, _ in places)
            for p, suit, _ in places:
                goal[picture, int(batch.box_kinds[index]), p] = suit / top * most
    return goal, owner


def test_places_are_assigned_as_toods_paper_says(tmp_path: Path) -> None:
    more: list[tuple[int, int, list[float]]] = [
        (0, 1, [2.0, 3, 40, 45]), (0, 0, [10.0, 5, 60, 50]), (1, 1, [9.0, 9, 11, 11]),
        (1, 0, [0.0, 0, 64, 64]),
    ]  # fmt: skip
    batch = boxed_batch(tmp_path, more)
    middles, strides = box_places((SIDE, SIDE))
    generator = torch.Generator().manual_seed(0)
    chance = torch.rand(2, 2, len(middles), generator=generator)
    reach = (1 + 3 * torch.rand(2, len(middles), 4, generator=generator)) * strides[:, None]
    framed = torch.cat([middles - reach[..., :2], middles + reach[..., 2:]], 2)
    goal, owner = assign(chance, framed, middles, batch)
    wanted_goal, wanted_owner = assign_slowly(chance, framed, batch)
    assert torch.equal(owner, wanted_owner)
    assert torch.allclose(goal, wanted_goal, rtol=1e-3, atol=1e-6)
    # Between all places lies the tiny one: the nearest answers, and not as background.
    assert (owner[1] == 4).sum() == 1 and goal[1, 1].max() == pytest.approx(LEAST_GOAL)


def test_right_boxes_cost_less_and_pictures_without_known_boxes_nothing(tmp_path: Path) -> None:
    batch = boxed_batch(tmp_path)
    middles, _ = box_places((SIDE, SIDE))
    kinds = torch.zeros(2, 2, len(middles))
    right, framed = box_losses(kinds, said(batch), batch), decode_boxes(said(batch), (SIDE, SIDE))
    goal, owner = assign(torch.sigmoid(kinds), framed, middles, batch)
    named = torch.logit(goal.clamp(1e-4, 1 - 1e-4))
    assert box_losses(named, said(batch), batch)["box_kind"] < 0.2 * right["box_kind"]

    # Worth at least so much a picture, and a place weighs what it shall say.
    picture, place = torch.nonzero(owner >= 0, as_tuple=True)
    weight = goal[picture, :, place].sum(1)
    total = max(float(weight.sum()), LEAST_ANSWERS * 2)
    cost = complete_box_iou_loss(framed[picture, place], batch.boxes[owner[picture, place]])
    assert float(right["box"]) == pytest.approx(float((cost * weight).sum()) / total, rel=1e-3)

    unknown = replace(batch, boxed=torch.tensor([True, False]))
    asked = torch.zeros(2, 2, len(middles), requires_grad=True)
    torch.autograd.backward(box_losses(asked, said(batch), unknown)["box_kind"])
    assert asked.grad is not None and asked.grad[0].any() and not asked.grad[1].any()


def test_a_batch_without_boxes_teaches_in_a_calm_voice(tmp_path: Path) -> None:
    batch = boxed_batch(tmp_path)
    none = replace(batch, boxes=batch.boxes[:0], box_kinds=batch.box_kinds[:0],
                   owners=batch.owners[:0])  # fmt: skip
    kinds = torch.zeros(2, 2, len(box_places((SIDE, SIDE))[0]))
    edges = said(batch).requires_grad_()
    found = box_losses(kinds, edges, none)
    assert found["box"] == found["edge"] == 0
    assert float(found["box_kind"]) == pytest.approx(kinds.numel() * np.log(2) / LEAST_ANSWERS / 2)
    torch.autograd.backward(found["box"])  # it must not stop training


def test_a_box_framed_without_extent_leaves_the_gradient_finite(tmp_path: Path) -> None:
    batch = boxed_batch(tmp_path)
    middles, _ = box_places((SIDE, SIDE))
    edges = torch.zeros(2, 4, BINS, len(middles))
    edges[:, :, 0] = 200.0
    edges.requires_grad_()
    torch.autograd.backward(box_losses(torch.zeros(2, 2, len(middles)), edges, batch)["box"])
    assert edges.grad is not None and bool(edges.grad.isfinite().all())


def test_an_edge_is_taught_as_the_two_distances_beside_it(tmp_path: Path) -> None:
    edges = torch.zeros(1, 4, BINS)
    edges[0, :, 2], edges[0, :, 3] = 3.0, 1.0
    reach = torch.tensor([[2.3, 2.0, -1.0, 99.0]])
    norm = np.log(np.exp(3.0) + np.exp(1.0) + BINS - 2)
    by_hand = [
        0.7 * (norm - 3) + 0.3 * (norm - 1), norm - 3, norm,
        norm,  # farther than the last distance is taught as that
    ]  # fmt: skip
    assert edge_loss(edges, reach).tolist() == pytest.approx([np.mean(by_hand)], rel=1e-3)
