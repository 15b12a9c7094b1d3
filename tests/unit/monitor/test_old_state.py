"""State that was written before there were boxes and grounds of verdicts is read, and goes on."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from struct import pack, unpack_from

from services.monitor.domain.engine import Engine
from services.monitor.domain.labels import Joined
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.quality import pieces
from services.monitor.domain.snapshot import dump, load
from tests.unit.monitor.late_labels import events
from tests.unit.monitor.worlds import policy


def test_labels_that_were_kept_in_the_first_format_are_counted_as_before() -> None:
    engine = Engine.new(policy())
    engine.learn(events(1)[:300])
    written = dict(Snapshots().changed(engine))
    head = load(written[pieces.KEY])
    assert head[0] == pieces.FORMAT == 2
    written[pieces.KEY] = dump([1, *head[1:]])
    for row in json.loads(load(written[next(key for key in written if key.startswith("@truth/"))])):
        assert len(row) == 9  # A classifier's rows are as they were.
    again = Engine.new(policy())
    rebuild(again, written)
    assert again.truth.cells == engine.truth.cells


def test_a_label_of_before_has_no_loss_and_no_first_number() -> None:
    label = Joined("a", "gate", 1.0, 2.0, 1, "1", "bag", "boot", "uniform", 7)
    written = zlib.decompress(dump(replace(label, loss=0.5, first=3)))
    length, _ = unpack_from("<II", written)
    document = json.loads(written[8 : 8 + length])
    for field in ("loss", "first"):
        del document["c"][1][field]
    text = json.dumps(document).encode()
    assert load(zlib.compress(pack("<II", len(text), 0) + text)) == label
    assert (label.loss, label.first, label.cost) == (None, -1, 1.0)
