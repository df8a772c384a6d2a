"""One person is one reviewer, however the name is written."""

import pytest

from tests.serving.store.conftest import make_entry, put
from twonines.errors import ConflictError, SettingsError
from twonines.serving.store.findings import Report
from twonines.serving.store.records import Records


@pytest.mark.parametrize("again", [" Ann", "ann ", "ANN", "\uff21nn", "\tAnn\u3000"])
def test_one_person_is_one_reviewer_however_the_name_is_written(
    records: Records, again: str
) -> None:
    (key,) = put(records, make_entry("REVIEW", due=2))
    records.add_review(key, reviewer="Ann", verdict="OK")
    assert records.queue(reviewer=again).items == ()
    with pytest.raises(ConflictError, match="'ann'"):
        records.add_review(key, reviewer=again, verdict="OK")
    assert records.get(key).due == 1


@pytest.mark.parametrize("name", ["", " \t", "a\x07b", "a\u202eb", "x" * 201])
def test_a_name_that_is_none_is_refused(records: Records, name: str) -> None:
    (key,) = put(records, make_entry("REVIEW", due=1, part_id="P"))
    with pytest.raises(SettingsError, match="reviewer: must"):
        records.add_review(key, reviewer=name, verdict="OK")
    with pytest.raises(SettingsError, match="reviewer: must"):
        records.queue(reviewer=name)
    with pytest.raises(SettingsError, match="reporter: must"):
        records.add_finding(Report("escape", part_id="P"), reporter=name)
