"""A certificate for the tiny model."""

from pathlib import Path

from twonines.models.card import ModelCard
from twonines.models.certificate import Certificate, WatchCut
from twonines.models.image import preprocessing_digest
from twonines.models.onnx_file import graph_digest, replace_card
from twonines.models.parts import Metric


def make_certificate(
    card: ModelCard,
    *,
    graph: str = "",
    preprocessing: str = "",
    watch: tuple[WatchCut, ...] = (),
) -> Certificate:
    return Certificate(
        alpha=0.05,
        delta=0.05,
        unit="picture",
        accept_below=card.policy.accepts_below,
        n_defective=100,
        n_good=0,
        defective_pictures=100,
        good_pictures=0,
        escapes=0,
        escape_bound=0.03,
        review_defective=Metric(value=0, n=100, low=0, high=0.04, count=0),
        data_name="generated",
        data="0" * 64,
        independent=True,
        graph=graph,
        preprocessing=preprocessing,
        decision=card.decision_digest(),
        execution_providers=("cpu",),
        watch=watch,
        created="2026-01-01T00:00:00+00:00",
    )


def certify_file(
    model: Path, card: ModelCard, out: Path, watch: tuple[WatchCut, ...] = ()
) -> Certificate:
    """Write the model with a certificate that is valid for it."""
    data = model.read_bytes()
    certificate = make_certificate(
        card,
        graph=graph_digest(data),
        preprocessing=preprocessing_digest(card.input_size),
        watch=watch,
    )
    out.write_bytes(replace_card(data, card.model_copy(update={"certificate": certificate})))
    return certificate
