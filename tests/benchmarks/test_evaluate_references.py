from pathlib import Path

from tests.conftest import tiny_card
from tests.images import png
from tests.made_models import write_comparing_model
from twonines.benchmarks.evaluate import judge_records
from twonines.datasets.record import Record
from twonines.models.session import InspectionSession


def test_pictures_are_judged_beside_their_references(tmp_path: Path, tiny_model: Path) -> None:
    for name, data in (("a", png(250)), ("b", png(20)), ("broken", b"x")):
        (tmp_path / name).write_bytes(data)
    a, b, broken = (tmp_path / name for name in ("a", "b", "broken"))
    records = [
        Record(a, "defective", reference=b),
        Record(a, "good", reference=a),
        Record(a, "good"),
        Record(a, "good", reference=broken),
        Record(broken, "good", reference=a),
        Record(b, "good", reference=b),
    ]
    path = write_comparing_model(tmp_path / "m.onnx", tiny_card(reference=True))
    session = InspectionSession.load(path, execution_provider="cpu")
    judged = judge_records(session, records)
    assert [i.verdict for i in judged.inspections] == ["NG", "OK", "ERROR", "ERROR", "ERROR", "OK"]
    assert "reference: must be given" in (judged.inspections[2].error or "")
    plain = InspectionSession.load(tiny_model, execution_provider="cpu")
    assert judge_records(plain, records[:1]).inspections[0].verdict == "NG"  # needs none
