"""The recipe finetune on generated parts, with the real backbone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from tests.training.defects import make_parts
from tests.training.threads import one_torch_thread
from twonines.datasets.mask_sources import MaskFile
from twonines.datasets.record import Box, Dataset, Record, Task, Turns
from twonines.datasets.splits import Split, make_split
from twonines.errors import DatasetError, SettingsError
from twonines.models.network import DefectNetwork, Layout
from twonines.models.session import InspectionSession
from twonines.training import finetune as recipe
from twonines.training import finetune_labels as labels
from twonines.training import finetune_module as module
from twonines.training.finetune_augment import AugmentPlan
from twonines.training.finetune_data import Exercises, collate, open_gallery
from twonines.training.finetune_losses import losses
from twonines.training.finetune_module import Lessons, Trainee, rate_at
from twonines.training.finetune_options import FinetuneOptions
from twonines.training.lesson import Lesson
from twonines.training.teach import TeachResult, teach
from twonines.training.teach_options import TeachOptions

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


@pytest.mark.parametrize(
    ("kind", "size"),
    [("classify", (64, 64)), ("segment", (48, 96)), ("detect", (96, 48)), ("pairs", (64, 64))],
)
def test_every_task_is_trained_and_exported(
    kind: str, size: tuple[int, int], tmp_path: Path
) -> None:
    counts = {"square": 16, "stripe": 16} | ({} if kind == "pairs" else {"good": 16})
    dataset = make_parts(
        tmp_path / "parts", counts, masks=kind == "segment", boxes=kind in ("detect", "pairs"),
        pairs=kind == "pairs",
    )  # fmt: skip
    result = run(dataset, tmp_path / "run", epochs=6, input_size=size)
    card = result.card
    assert card.input_size == size
    assert card.recipe == "finetune"
    assert card.task == ("detect" if kind == "pairs" else kind)
    assert card.classes == (() if kind == "pairs" else ("good",)) + ("square", "stripe")
    assert card.reference is (kind == "pairs")
    assert "lightning" in card.software
    session = InspectionSession.load(result.model, execution_provider="cpu")
    images = np.random.default_rng(0).integers(0, 256, (7, *size, 3), dtype=np.uint8)
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


@pytest.mark.parametrize(
    ("task", "crop", "zoom"),
    [
        ("segment", None, (0.7, 1.0)),
        ("segment", 32, (0.7, 1.3)),
        ("detect", None, (0.85, 1.0)),  # as inspected: cut boxes teach wrong sides
        ("detect", 32, (0.7, 1.3)),
    ],
)
def test_how_far_pictures_are_cut(
    tmp_path: Path, task: Task, crop: int | None, zoom: tuple[float, float]
) -> None:
    dataset = make_parts(tmp_path / "parts", {"good": 4, "square": 4}, boxes=True)
    one = replace(lesson(dataset, tmp_path, crop=crop), task=task)
    assert isinstance(one.options, FinetuneOptions)
    gallery = open_gallery(dataset.records, LAYOUT, one.size)
    plan = recipe.augment_plan(one, one.options, gallery)
    assert (plan.crop, plan.zoom, plan.turns) == ((crop or 64,) * 2, zoom, 4)
    strip = replace(one, size=(48, 96))
    plan = recipe.augment_plan(strip, one.options, open_gallery(dataset.records, LAYOUT, (48, 96)))
    assert (plan.crop, plan.zoom, plan.turns) == ((crop or 48, crop or 96), zoom, 2)


@pytest.mark.parametrize(
    ("turns", "flips", "views"),
    [(1, False, [0]), (1, True, [0, 4]), (2, False, [0, 2]), (2, True, [0, 2, 4, 6]),
     (4, False, [0, 2, 1, 3]), (4, True, [0, 2, 4, 6, 1, 3, 5, 7])],
)  # fmt: skip
def test_views_are_those_that_the_card_allows(
    tmp_path: Path, turns: Turns, flips: bool, views: list[int]
) -> None:
    dataset = make_parts(tmp_path / "parts", {"good": 4, "square": 4})
    card = replace(dataset.card, turns=turns, flips_allowed=flips)
    one = lesson(replace(dataset, card=card), tmp_path)
    for wanted in (1, 2, 8):
        options = TeachOptions(input_size=64, views=wanted)
        assert replace(one, options=options).views == views[:wanted]
        strip = replace(one, options=options, size=(48, 96))
        assert strip.views == [view for view in views if view % 2 == 0][:wanted]


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


def test_several_processes_share_the_pictures_and_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on several accelerators, but for the device."""
    dataset = make_parts(tmp_path / "parts", {"good": 24, "square": 24}, masks=True)
    monkeypatch.setattr(recipe, "choose_precision", lambda *_: "32-true")
    one = lesson(dataset, tmp_path / "run", batch_size=4, epochs=4)
    assert isinstance(one.options, FinetuneOptions)
    gallery = open_gallery(one.split.train, LAYOUT, one.size)
    torch.manual_seed(one.split.seed)
    before = DefectNetwork(LAYOUT).settle()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(recipe, "count_processes", lambda: 2)
    after = recipe.train(one, one.options, LAYOUT, gallery)
    batch = collate([Exercises(gallery, range(16), None, 0)[i] for i in range(16)])
    with torch.inference_mode():
        wrong = [sum(map(float, losses(n(batch.images), batch).values())) for n in (before, after)]
    assert wrong[1] < 0.5 * wrong[0]
    kept = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert (len(gallery), kept["global_step"], kept["epoch"]) == (31, 4 * 4, 3)


@pytest.mark.parametrize(
    ("pictures", "processes", "steps"), [(31, 1, 3), (31, 2, 2), (10, 2, 1), (5, 1, 1), (16, 2, 1)]
)
def test_every_process_has_a_step(
    pictures: int, processes: int, steps: int, tmp_path: Path
) -> None:
    gallery = open_gallery(make_parts(tmp_path, {"square": 2}).records, LAYOUT, (64, 64))
    plan = AugmentPlan((64, 64), (1.0, 1.0), flips=False, turns=1, exposure=0.0)
    lessons = Lessons(gallery, [0] * pictures, [], plan, 8, 0, processes)
    batches = lessons.train_dataloader()
    share = range(0, pictures, processes)  # as Lightning deals them
    batches = DataLoader(Subset(batches.dataset, share), 8, drop_last=batches.drop_last)
    assert lessons.steps == len(batches) == steps


@pytest.mark.parametrize(("reduced", "wanted"), [(0.8, "bf16-mixed"), (0.95, "32-true")])
def test_bfloat16_is_taken_where_a_step_is_clearly_faster_with_it(
    reduced: float, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = open_gallery(make_parts(tmp_path, {"square": 2}).records, LAYOUT, (64, 64))
    batch = collate([Exercises(gallery, range(2), None, 0)[i] for i in range(2)])
    network = DefectNetwork(LAYOUT)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    real, took = module._step_seconds, {False: 1.0, True: reduced}

    def step(*args: Any) -> float:
        real(*args)
        return took[args[2]]

    monkeypatch.setattr(module, "_step_seconds", step)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert module.choose_precision(network, batch, repeats=1) == wanted
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


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


def record(name: str, **parts: Any) -> Record:
    return Record(Path("x.png"), name, **parts)


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


def test_learning_rate_rises_and_falls() -> None:
    assert rate_at(0.05) == pytest.approx(1.0)
    assert rate_at(0.02) == pytest.approx(0.4)
    assert rate_at(1.0) == pytest.approx(0.01)


def test_boxes_of_a_long_strip_are_taught_in_cuts(tmp_path: Path) -> None:
    dataset = make_parts(tmp_path / "parts", {"good": 4, "square": 4}, boxes=True)
    one = replace(lesson(dataset, tmp_path), task="detect", size=(96, 400))
    assert isinstance(one.options, FinetuneOptions)
    plan = recipe.augment_plan(one, one.options, open_gallery(dataset.records, LAYOUT, one.size))
    assert (plan.crop, plan.zoom) == ((96, 320), (0.7, 1.3))


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
