"""Fit the map of the task ``segment``: sampled places, a small perceptron, what is not known last.

Places with a known cover teach first. Places that only belong to a box or to a defective picture
join by multiple-instance learning (mi-SVM's loop, Andrews et al. 2002): of each such bag, the
places that answer most are positives, and the fit is repeated.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn

from twonines.models.maps import MapWeights, enlarge
from twonines.training.marks import UNKNOWN, Marks
from twonines.types import FloatArray

MARKED, NEAR, FAR, BAG = 160, 64, 96, 256
"""Places sampled of one picture: marked, close beside a mark, elsewhere, and not known."""
NEAR_PLACES = 4
"""What lies within so many places of a mark is close: there the outline is decided."""
HIDDEN = 32
ROUNDS = 3
STEPS, BATCH, RATE, DECAY = 600, 1024, 3e-3, 1e-2


@dataclass(frozen=True, slots=True)
class Samples:
    """n sampled places: ``values`` (n, C), ``cover`` (n,), ``kind`` (n,) and their bags.

    ``bag`` (n,) is :data:`UNKNOWN` where the cover is known, else the number of the picture;
    ``expected`` (n,) is the share of the bag's places that are defective.
    """

    values: FloatArray
    cover: FloatArray
    kind: npt.NDArray[np.int64]
    bag: npt.NDArray[np.int64]
    expected: FloatArray


def sample_places(
    levels: list[FloatArray], marks: Marks, number: int, rng: np.random.Generator
) -> Samples:
    """Draw places of one picture.

    Args:
        levels: (C, h, w) float32 of one picture, from the finest, whose places ``marks`` count.
        marks: what is known of them.
        number: the picture's, for its bag.
        rng: draws.
    """
    chosen = _draw(marks, levels[0].shape[1:], rng)
    finest = torch.from_numpy(levels[0])[None]
    values = [
        enlarge(torch.from_numpy(level)[None], finest)[0].flatten(1)[:, chosen] for level in levels
    ]
    cover = marks.cover[chosen]
    unknown = np.isnan(cover)
    return Samples(
        torch.cat(values).T.numpy(),
        cover,
        marks.kind[chosen],
        np.where(unknown, number, UNKNOWN),
        np.where(unknown, marks.expected, 0).astype(np.float32),
    )


def _draw(marks: Marks, grid: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Indices of the places that teach, each group without replacement."""
    unknown = np.isnan(marks.cover)
    marked = ~unknown & (marks.cover > 0)
    reach = np.ones((2 * NEAR_PLACES + 1, 2 * NEAR_PLACES + 1), bool)
    touched = (marked | unknown).reshape(grid)
    close = ndimage.binary_dilation(touched, reach).ravel() & ~marked & ~unknown
    far = ~(marked | unknown | close)
    groups = ((marked, MARKED), (close, NEAR), (far, FAR), (unknown, BAG))
    return np.concatenate([rng.permutation(np.flatnonzero(g))[:most] for g, most in groups])


def join_samples(parts: list[Samples]) -> Samples:
    """Samples of all pictures."""
    names = ("values", "cover", "kind", "bag", "expected")
    return Samples(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def fit_map(samples: Samples, kinds: tuple[int, ...], seed: int) -> MapWeights:
    """Fit the map's perceptron; the same samples and seed give the same weights.

    Args:
        samples: places of the training pictures; ``kind`` counts within ``kinds``.
        kinds: the kinds' indices among the card's classes.
        seed: draws the first weights and the batches.
    """
    mean = samples.values.mean(0, dtype=np.float64).astype(np.float32)
    scale = samples.values.std(0, dtype=np.float64).astype(np.float32) + 1e-3
    places = torch.from_numpy((samples.values - mean) / scale)
    kind = torch.from_numpy(samples.kind)
    known = samples.bag == UNKNOWN
    # Without one known positive, every place of a bag starts as likely as the bag says.
    rough = not (samples.cover[known] > 0).any()
    target, asked = np.where(known, samples.cover, samples.expected), known | rough
    net = _fit(places[asked], torch.from_numpy(target[asked]), kind[asked], len(kinds), seed)
    for _ in range(0 if known.all() else ROUNDS - 1):
        with torch.inference_mode():
            answers = net(places)[:, 0].numpy()
        loud = _loudest(answers, samples)
        target, asked = np.where(known, samples.cover, np.float32(1)), known | loud
        net = _fit(places[asked], torch.from_numpy(target[asked]), kind[asked], len(kinds), seed)
    first, last = net[0], net[2]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    project = (first.weight.detach().numpy() / scale).T  # (C, M)
    offset = first.bias.detach().numpy() - mean @ project
    answer, bias = last.weight.detach().numpy().T, last.bias.detach().numpy()
    return MapWeights(np.ascontiguousarray(project), offset, np.ascontiguousarray(answer), bias,
                      kinds)  # fmt: skip


def _loudest(answers: FloatArray, samples: Samples) -> npt.NDArray[np.bool_]:
    """Of every bag, the expected share of places that answer most; at least one."""
    loud = np.zeros(len(answers), bool)
    for bag in np.unique(samples.bag[samples.bag != UNKNOWN]):
        members = np.flatnonzero(samples.bag == bag)
        keep = max(1, round(float(samples.expected[members[0]]) * len(members)))
        loud[members[np.argsort(-answers[members], kind="stable")[:keep]]] = True
    return loud


def _fit(places: Tensor, cover: Tensor, kind: Tensor, kinds: int, seed: int) -> nn.Sequential:
    """Binary cross-entropy with the cover as soft label, and cross-entropy of kinds on marks."""
    rng = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Linear(places.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1 + kinds))
    with torch.no_grad():
        for layer in (net[0], net[2]):
            assert isinstance(layer, nn.Linear)
            layer.weight.normal_(0, layer.in_features**-0.5, generator=rng)
            layer.bias.zero_()
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        batch = torch.randint(len(places), (BATCH,), generator=rng)
        answers, wanted, own = net(places[batch]), cover[batch], kind[batch]
        loss = nn.functional.binary_cross_entropy_with_logits(answers[:, 0], wanted)
        if kinds > 1:
            each = nn.functional.cross_entropy(
                answers[:, 1:], own, ignore_index=UNKNOWN, reduction="none"
            )
            loss = loss + (each * wanted).mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    return net
