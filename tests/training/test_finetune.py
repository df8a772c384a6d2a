"""The recipe finetune on generated parts, with the real backbone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torchvision import tv_tensors
from torchvision.transforms import v2

from tests.training.defects import SIDE, make_parts
from tests.training.threads import one_torch_thread
from twonines.datasets.mask_sources import MaskFile
from twonines.datasets.record import Box, Dataset, Record
from twonines.datasets.splits import Split, make_split
from twonines.errors import DatasetError, GateError, ImageError, SettingsError
from twonines.models.align import shift
from twonines.models.network import DefectNetwork, Layout
from twonines.models.session import InspectionSession
from twonines.training import finetune as recipe
from twonines.training import finetune_finish as finishing
from twonines.training import finetune_labels as labels
from twonines.training.finetune_augment import AugmentPlan, build, cut_to_canvas
from twonines.training.finetune_data import Exercises, collate, open_gallery, shrink
from twonines.training.finetune_finish import match_boxes
from twonines.training.finetune_losses import bag_loss, centre_loss, centre_targets, map_loss
from twonines.training.finetune_module import Trainee, rate_at
from twonines.training.finetune_options import FinetuneOptions
from twonines.training.lesson import Lesson
from twonines.training.teach import TeachResult, teach

LAYOUT = Layout(("square", "stripe"), has_good=True)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    with one_torch_thread():
        yield


def run(dataset: Dataset, out: Path, **options: Any) -> TeachResult:
    chosen: dict[str, Any] = {"input_size": 64, "epochs": 2, "batch_size": 8} | options
    return teach(
        dataset, make_split(dataset), out, FinetuneOptions(**chosen), cache=out / "cache",
        http_scores=None, metrics=lambda *_: {},
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["classify", "segment", "detect", "pairs"])
def test_every_task_is_trained_and_exported(kind: str, tmp_path: Path) -> None:
    counts = {"square": 16, "stripe": 16} | ({} if kind == "pairs" else {"good": 16})
    dataset = make_parts(
        tmp_path / "parts", counts, masks=kind == "segment", boxes=kind in ("detect", "pairs"),
        pairs=kind == "pairs",
    )  # fmt: skip
    result = run(dataset, tmp_path / "run", epochs=6)
    card = result.card
    assert card.recipe == "finetune"
    assert card.task == ("detect" if kind == "pairs" else kind)
    assert card.classes == (() if kind == "pairs" else ("good",)) + ("square", "stripe")
    assert card.reference is (kind == "pairs")
    assert "lightning" in card.software
    session = InspectionSession.load(result.model, execution_provider="cpu")
    images = np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)
    pair = (images, images) if kind == "pairs" else (images,)
    together = session.run(*pair)
    alone = np.concatenate([session.run(*(p[i : i + 1] for p in pair)).score for i in range(7)])
    assert np.allclose(together.score, alone, atol=1e-4)
    assert (together.boxes is not None) is (kind in ("detect", "pairs"))


def lesson(dataset: Dataset, out: Path, **options: Any) -> Lesson:
    chosen: dict[str, Any] = {"input_size": 64, "epochs": 3, "batch_size": 8} | options
    return Lesson(
        dataset, make_split(dataset), FinetuneOptions(**chosen), "segment", (64, 64), out,
        out / "cache", lambda *_: None,
    )  # fmt: skip


def trained(dataset: Dataset, out: Path, **options: Any) -> dict[str, torch.Tensor]:
    one = lesson(dataset, out, **options)
    assert isinstance(one.options, FinetuneOptions)
    gallery = open_gallery(one.split.train, LAYOUT, one.size)
    return recipe.train(one, one.options, LAYOUT, gallery).state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_killed_run_goes_on_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_parts(tmp_path / "parts", {"good": 16, "square": 16, "stripe": 16}, masks=True)
    monkeypatch.setattr(recipe, "choose_precision", lambda *_: "32-true")
    whole = trained(dataset, tmp_path / "whole")
    step = Trainee.training_step
    epochs: list[int] = []
    killed = True

    def watched(self: Trainee, batch: Any, index: int) -> Any:
        epochs.append(self.current_epoch)
        if killed and epochs.count(2) == 2:
            raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(Trainee, "training_step", watched)
    with pytest.raises(SystemExit):
        trained(dataset, tmp_path / "killed")
    killed = False
    epochs.clear()
    assert same(trained(dataset, tmp_path / "killed"), whole)
    assert set(epochs) == {2}
    epochs.clear()
    assert not same(trained(dataset, tmp_path / "killed", lr=2e-3), whole)
    assert 0 in epochs


def test_every_epoch_is_kept_though_none_was_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_parts(tmp_path / "parts", {"good": 40, "square": 40}, masks=True)

    def worse(self: Trainee, batch: Any, index: int) -> None:
        self.log("loss", torch.tensor(1.0 + self.current_epoch), batch_size=1, on_epoch=True)

    monkeypatch.setattr(Trainee, "validation_step", worse)
    trained(dataset, tmp_path / "run", validation=0.3)
    folder = tmp_path / "run" / "checkpoints"
    kept = {
        name: torch.load(folder / f"{name}.ckpt", weights_only=True)["epoch"]
        for name in ("last", "best")
    }
    assert kept == {"last": 2, "best": 0}


def test_the_score_follows_what_sorts_the_held_out_pictures() -> None:
    rng = np.random.default_rng(0)
    labels_ = np.repeat([0, 1], 40)
    sorting, noise = labels_ + rng.normal(0, 0.3, 80), rng.normal(size=80)
    embedding = rng.normal(size=(80, 6)).astype(np.float32)
    network = DefectNetwork(LAYOUT)

    def fitted(*signs: Any, truth: Any = labels_) -> Any:
        kinds = rng.normal(size=(80, 2))
        held = finishing.Answers(embedding, np.stack(signs, 1), kinds, [], [])
        return finishing.fit_finish(network, embedding, held, truth, seed=0).reject

    none = np.zeros(80)
    picture, place, box, _ = fitted(sorting, noise, none)
    assert picture > 0 and place == box == 0
    picture, place, box, bias = fitted(noise, sorting, none)
    assert picture == box == 0 and place > 0
    assert 0 < -bias / place < 1  # even odds lie between good and defective
    picture, place, box, _ = fitted(noise, none + rng.normal(size=80), sorting)
    assert picture == place == 0 and box > 0
    with pytest.raises(GateError, match="got 80 defective ones among 80"):
        fitted(sorting, noise, none, truth=np.ones(80, int))


def test_two_signs_that_err_apart_are_taken_together() -> None:
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1], 40)
    one, two = (truth + rng.normal(0, 0.8, 80) for _ in range(2))
    held = finishing.Answers(
        np.zeros((80, 6), np.float32), np.stack([one, 100 * two + 7, np.zeros(80)], 1),
        rng.normal(size=(80, 2)), [], [],
    )  # fmt: skip
    slopes = finishing.fit_finish(DefectNetwork(LAYOUT), held.embedding, held, truth, seed=0).reject
    assert slopes[0] > 0 and slopes[1] > 0 and slopes[2] == 0
    assert slopes[0] / slopes[1] == pytest.approx(100 * two.std() / one.std(), rel=1e-3)
    odds = held.signs @ slopes[:3] + slopes[3]
    assert abs(odds[truth == 0].mean() + odds[truth == 1].mean()) < 1


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


def test_augmentation_keeps_boxes_on_their_marks() -> None:
    plan = AugmentPlan((48, 48), (0.8, 1.2), flips=True, turns=True, exposure=0.3)
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
    plan = AugmentPlan((24, 24), (1.0, 1.0), flips=False, turns=False, exposure=0)
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


def test_a_torn_note_of_a_run_begins_anew(tmp_path: Path) -> None:
    dataset = make_parts(tmp_path / "parts", {"good": 12, "square": 12}, masks=True)
    trained(dataset, tmp_path / "run", epochs=1)
    (tmp_path / "run" / "checkpoints" / "run.json").write_text('{"digest": "12')
    trained(dataset, tmp_path / "run", epochs=1)


def test_a_map_of_one_kind_needs_no_good_part(tmp_path: Path) -> None:
    dataset = make_parts(tmp_path / "parts", {"square": 24}, masks=True)
    result = run(dataset, tmp_path / "run")
    assert result.card.task == "segment" and result.card.classes == ("square",)
    only = dataset.records[:1]
    with pytest.raises(DatasetError, match="'classify' needs at least two, got square"):
        labels.choose_layout(Split(only, (), (), "random", 0), "classify")


def test_the_same_seed_gives_the_same_changes(tmp_path: Path) -> None:
    dataset = make_parts(tmp_path, {"square": 3}, boxes=True, pairs=True)
    gallery = open_gallery(dataset.records, LAYOUT_PAIRS, (SIDE, SIDE))
    plan = AugmentPlan((32, 32), (0.7, 1.0), flips=True, turns=True, exposure=0)
    one, two, other = (Exercises(gallery, range(3), plan, seed)[1] for seed in (0, 0, 1))
    assert torch.equal(one["image"], two["image"]) and torch.equal(one["boxes"], two["boxes"])
    assert not torch.equal(one["image"], other["image"])
    differ = (one["image"].int() - one["reference"].int()).abs().amax(0) > 60
    rows, columns = torch.nonzero(differ, as_tuple=True)
    x1, y1, x2, y2 = one["boxes"][0].tolist()
    assert abs(int(columns.min()) - x1) < 2.5 and abs(int(rows.max()) + 1 - y2) < 2.5


LAYOUT_PAIRS = Layout(("square", "stripe"), has_good=False, detect=True, reference=True)


def test_centres_and_sides_are_taught_at_the_box(tmp_path: Path) -> None:
    dataset = make_parts(tmp_path, {"square": 2}, boxes=True)
    layout = Layout(("square", "stripe"), has_good=True, detect=True)
    gallery = open_gallery(dataset.records, layout, (SIDE, SIDE))
    batch = collate([Exercises(gallery, range(2), None, 0)[i] for i in range(2)])
    heat, owner = centre_targets(torch.zeros(2, 2, 16, 16), batch)
    for index in range(2):
        x1, y1, x2, y2 = batch.boxes[index].tolist()
        row, column = divmod(int(heat[index, 0].argmax()), 16)
        assert abs((column + 0.5) * 4 - (x1 + x2) / 2) <= 2
        assert abs((row + 0.5) * 4 - (y1 + y2) / 2) <= 2
        assert owner[0, index, row, column] == index
    assert (heat[:, 1] == 0).all() and int((heat == 1).sum()) == 2
    right = torch.where(heat == 1, 5.0, -5.0)
    assert centre_loss(right, heat) < 0.1 * centre_loss(-right, heat)


def test_task_follows_the_labels(tmp_path: Path) -> None:
    def split(*records: Record) -> Split:
        return Split(records, (), (), "random", 0)

    box = (Box(0, 0, 2, 2, "square"),)
    mask = MaskFile(tmp_path / "m.png")
    assert labels.choose_task(split(record("good"), record("square")), "auto") == "classify"
    assert labels.choose_task(split(record("square", mask=mask)), "auto") == "segment"
    assert labels.choose_task(split(record("square", boxes=box)), "auto") == "detect"
    assert labels.choose_task(split(record("square", boxes=box)), "classify") == "classify"
    with pytest.raises(DatasetError, match="--task anomaly"):
        labels.choose_task(split(record("good")), "auto")
    with pytest.raises(DatasetError, match="needs boxes"):
        labels.choose_task(split(record("square")), "detect")


def test_inner_validation_keeps_groups_together(tmp_path: Path) -> None:
    dataset = make_parts(tmp_path, {"good": 60, "square": 60})
    grouped = [
        Record(r.path, r.defect_class, group=f"g{i // 4}") for i, r in enumerate(dataset.records)
    ]
    train, held = recipe.inner_split(dataset, grouped, 0.1, 0)
    assert len(held) >= 8 and not set(train) & set(held) and len(train) + len(held) == 120
    assert not {grouped[i].group for i in train} & {grouped[i].group for i in held}
    assert not len(recipe.inner_split(dataset, grouped[:20], 0.1, 0)[1])


def test_a_box_is_right_once_and_for_its_kind() -> None:
    truth = np.array([[0, 0, 10, 10]], np.float32)
    found = np.array([[0, 0, 10, 9], [0, 0, 10, 10], [0, 0, 10, 10]], np.float32)
    kinds = np.array([1, 0, 0])
    assert match_boxes(found, kinds, truth, np.zeros(1, np.float32)).tolist() == [
        False, True, False,
    ]  # fmt: skip


def test_learning_rate_rises_and_falls() -> None:
    assert rate_at(0.05) == pytest.approx(1.0)
    assert rate_at(0.02) == pytest.approx(0.4)
    assert rate_at(1.0) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"lr": 0.0}, "lr"),
        ({"minutes": 0.0}, "minutes"),
        ({"crop": 16}, "crop"),
        ({"validation": 0.6}, "validation"),
        ({"patience": 0}, "patience"),
        ({"views": 2}, "views"),
        ({"task": "anomaly"}, "task"),
        ({"threshold": 1.0}, "threshold"),
    ],
)
def test_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}:"):
        FinetuneOptions(**options)
