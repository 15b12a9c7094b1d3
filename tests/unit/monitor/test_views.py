"""What is told without analytics, of odd names, of many cameras and of nothing: unknown is said as unknown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import cast
from xml.etree import ElementTree

import pytest
from irisloop.monitor.v1 import monitor_pb2 as pb

from services.monitor import queries
from services.monitor.commands import Commands
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import CameraFault, Cause, Evidence, Harm, Incident, Shape, State
from services.monitor.domain.history import CLOSED, Decided, History, Line, Release, Span
from services.monitor.domain.inputs import Input, Seen
from services.monitor.domain.probe_events import ProbeVerdict, ProbeWord
from services.monitor.errors import UnknownIncident, UnknownModel
from services.monitor.handlers import Judge
from services.monitor.inbound.grpc import MonitorServicer
from services.monitor.outbound.clickhouse import NoAnalytics
from services.monitor.views import charts, explaining, words
from services.monitor.views.charts import Asked, Band, ChannelChart, Chronicle, Mark, Point, QualityChart
from services.monitor.views.drawing import channels, labels, quality
from services.monitor.views.drawing.style import picture
from services.monitor.views.page import page
from services.monitor.views.report import gather
from tests.unit.monitor import late_boxes
from tests.unit.monitor.records import Reading
from tests.unit.monitor.worlds import EPOCH, World, policy

SPAN = Span(EPOCH - 10, EPOCH + 80)
HOSTILE = "<script>alert(1)</script>"


def judged(model: str = "m", **world: object) -> Judge:
    judge, reading = Judge(policy()), Reading()
    for batch in World(5, **world).inputs():  # type: ignore[arg-type]
        judge.take(reading.read((where, holds, _of(item, model)) for where, holds, item in batch))
    judge.rest()
    return judge


def _of(item: Input, model: str) -> Input:
    return replace(item, model=model) if isinstance(item, Seen) else item


@pytest.fixture(scope="module")
def drifted() -> Judge:
    return judged(frames=6500, shift=1.5, error_after=0.4, uniform=0.1)


def evidence(channel: str, shift: float, statistic: float = 20.0, camera: str = "gate-1") -> Evidence:
    return Evidence(channel, camera, "cusum", statistic, 15.0, 0.5, 0.5 + shift / 10, shift)


def incident(**changes: object) -> Incident:
    made = Incident(
        id="i", model="m", version="1", state=State.ALARM, cause=Cause.SCENE, harm=Harm.UNKNOWN, shape=Shape.UNKNOWN,
        began_at=EPOCH, detected_at=EPOCH + 5, level_since=0.0, cameras=("gate-1",), class_names=(), evidence=(),
        risk=None, closed_at=0.0, trigger_asset_id="a",
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


async def test_without_analytics_the_report_tells_what_the_judge_knows_and_names_the_rest(drifted: Judge) -> None:
    report = await gather(drifted, CLOSED, Asked("m", SPAN))
    text = page(report, EPOCH)
    assert "Channels, accuracy over time, releases and counts of the pipeline: " in text
    assert "does not have the role" in text
    assert '<p class="state">CONFIRMED</p>' in text
    assert "Unknown: analytics hold nothing of this time." in text
    assert "retraining requested" in text
    assert report.pictures == []


async def test_without_labels_accuracy_is_unknown_and_not_zero() -> None:
    judge = judged(frames=2000, uniform=0.0)
    report = await gather(judge, CLOSED, Asked("m", SPAN))
    text = page(report, EPOCH)
    assert "Accuracy, classes, confusion and calibration: no label in this time." in text
    row = re.search(r"<tr><td>1</td><td>all</td>.*?</tr>", text, re.DOTALL)
    assert row is not None
    assert row[0].count("unknown") == 5
    assert "%" not in row[0]
    assert report.pictures == []


async def test_names_are_text_wherever_they_stand() -> None:
    judge = judged(HOSTILE, frames=2000)
    text = page(await gather(judge, CLOSED, Asked(HOSTILE, SPAN)), EPOCH, "http://localhost:8110")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


async def test_a_detectors_report_tells_how_its_boxes_fit() -> None:
    judge = judged(frames=600)
    judge.look(lambda engine: engine.learn(late_boxes.events(1)))
    text = page(await gather(judge, CLOSED, Asked("m", Span(EPOCH - 10, EPOCH + 9 * 3600))), EPOCH)
    answer = await queries.Reader(judge, NoAnalytics()).quality(pb.GetQualityRequest(model="m"))
    boxes = answer.segments[0].boxes
    assert f"{boxes.frames} labelled frames, loss {boxes.loss:.3f}" in text
    row = next(line for line in text.splitlines() if "mean of classes, errors of all" in line)
    assert f">{boxes.map:.3f}<" in row
    assert f">{boxes.mae:.2f}<" in row
    assert "; not anytime-valid" in text


async def test_a_model_that_nobody_knows_has_no_report(drifted: Judge) -> None:
    with pytest.raises(UnknownModel):
        await gather(drifted, CLOSED, Asked("nobody", SPAN))


async def test_over_grpc_an_incident_is_explained_and_missing_frames_are_said(drifted: Judge) -> None:
    reader = queries.Reader(drifted, cast(queries.AccuracySource, None))
    servicer = MonitorServicer(reader, cast(Commands, None))
    wanted = drifted.look(lambda engine: engine.models["m"].incidents[-1].id)
    context = cast("object", None)
    said = await servicer.ExplainIncident(pb.ExplainIncidentRequest(id=wanted), context)  # type: ignore[arg-type]
    assert said.incident.id == wanted
    assert (len(said.before), len(said.after)) == (0, 0)
    assert any(text.startswith("Frames of before and after: ") for text in said.unknown)
    with pytest.raises(UnknownIncident):
        await servicer.ExplainIncident(pb.ExplainIncidentRequest(id="x"), context)  # type: ignore[arg-type]


def test_an_explanation_names_the_channels_that_moved_furthest_first() -> None:
    quiet = evidence("pixels.red", 9.0, statistic=1.0)
    found = charts.furthest([evidence("energy", 0.2), quiet, evidence("margin", -2.0)])
    assert [one.channel for one in found] == ["margin", "energy", "pixels.red"]


def test_what_is_not_known_of_an_incident_is_said_until_it_is() -> None:
    young = list(explaining.unknowns(incident()))
    assert len(young) == 4
    old = incident(
        harm=Harm.NONE, shape=Shape.SUDDEN, level_since=EPOCH, closed_at=EPOCH + 9, evidence=(evidence("margin", 1.0),)
    )
    assert list(explaining.unknowns(old)) == []


async def test_an_incident_that_is_over_has_nothing_left_that_would_clear_it(drifted: Judge) -> None:
    def both(engine: object) -> tuple[int, int]:
        watch = engine.models["m"]  # type: ignore[attr-defined]
        still = watch.case.incident()
        return (
            len(list(explaining.clears(engine, watch, still))),  # type: ignore[arg-type]
            len(list(explaining.clears(engine, watch, replace(still, id="former")))),  # type: ignore[arg-type]
        )

    assert drifted.look(both) == (3, 0)


def test_labels_are_cleared_by_labels_or_another_champion_alone() -> None:
    judge = judged(frames=9000, swapped=(1, 2), uniform=0.2)

    def view(engine: object) -> tuple[Cause, list[str]]:
        watch = engine.models["m"]  # type: ignore[attr-defined]
        found = watch.case.incident()
        return found.cause, list(explaining.clears(engine, watch, found))  # type: ignore[arg-type]

    cause, ends = judge.look(view)
    assert cause is Cause.LABELS
    assert not any(text.startswith("Quiet") for text in ends)
    assert len(ends) == 2


PROBE = ProbeWord("p", ProbeVerdict.ASKED, 7, 6, 4, 0, "", "", EPOCH, EPOCH + 60.0)


def test_a_probe_that_is_held_is_told_as_what_is_not_known_yet() -> None:
    asked = incident(cause=Cause.LABELS, class_names=("a", "b"), harm=Harm.CROSSED, probe=PROBE)
    assert "Old answers, asked: people are given old assets again, unmarked." in explaining.reasons(asked)
    (open_,) = [text for text in explaining.unknowns(asked) if "something else" in text]
    assert "11 old answers were given again so far; they are waited for until 2023-11-14 22:14:20 UTC" in open_


def test_what_a_probe_said_stands_among_the_reasons_with_its_counts() -> None:
    why = "17 of 18 old answers about a, b are other now, 0 of 12 about other classes"
    word = replace(PROBE, verdict=ProbeVerdict.MOVED, why=why, annotator="ben")
    told = list(explaining.reasons(incident(cause=Cause.LABELS, class_names=("a", "b"), probe=word)))
    assert f"Old answers, {words.PROBES[ProbeVerdict.MOVED]} ({why})." in told
    assert "ben answers otherwise than the others; those answers are left out." in told
    assert "Classes: a, b." in told
    stands = incident(cause=Cause.SCENE, probe=replace(word, verdict=ProbeVerdict.STANDS))
    assert any("no channel stands out" in text for text in explaining.unknowns(stands))
    assert set(words.PROBES) == set(ProbeVerdict)


@dataclass
class Remembered:
    """A `History` of many cameras."""

    names: list[str] = field(default_factory=lambda: [f"gate-{n}" for n in range(40)])
    asked: list[str] = field(default_factory=list)

    async def extent(self, model: str, cameras: list[str], span: Span) -> Span | None:
        return None

    async def cameras(self, model: str, span: Span) -> list[str]:
        return self.names

    async def lines(self, model: str, cameras: list[str], names: list[str], span: Span, parts: int) -> list[Line]:
        self.asked = list(cameras)
        return [Line(camera, name, {0: 1.0, 1: 2.0}, {0: 5, 1: 5}) for camera in cameras for name in names]


async def test_of_many_cameras_those_of_the_incident_are_shown_and_the_others_counted(drifted: Judge) -> None:
    history = Remembered()
    story = Chronicle([incident(cameras=("gate-39",), evidence=(evidence("energy", 3.0, camera="gate-39"),))], (), ())
    chart = await charts.channels(drifted, cast(History, history), Asked("m", SPAN), story)
    assert chart.cameras[0] == "gate-39"
    assert len(chart.cameras) == charts.CAMERAS
    assert chart.left_out == 40 - charts.CAMERAS
    assert chart.channels[0] == "energy"
    svg = picture(lambda: channels.draw(chart), "svg", "t").decode()
    assert "34 more cameras are not shown" in svg


async def test_a_band_is_the_reference_and_before_it_what_an_incident_was_held_against(drifted: Judge) -> None:
    history = Remembered(names=["camera-0"])
    old = incident(
        version="0", cameras=("camera-0",), closed_at=EPOCH - 5, began_at=EPOCH - 9, detected_at=EPOCH - 8,
        evidence=(evidence("energy", 2.0, camera="camera-0"),),
    )  # fmt: skip
    story = Chronicle([old], [Release("0", EPOCH - 10), Release("1", EPOCH)], ())
    chart = await charts.channels(drifted, cast(History, history), Asked("m", SPAN, channels=("energy",)), story)
    now, before = sorted(chart.bands, key=lambda band: -band.since)
    assert (now.version, now.until, before.version) == ("1", SPAN.until, "0")
    assert (before.since, before.until, before.means) == (EPOCH - 10, EPOCH - 5, (0.5, 0.5))
    assert before.halves[0] < 0.2 * now.halves[0]  # sigma is .1 there, about 1 in this world


async def test_a_band_follows_the_daily_cycle_that_the_camera_has_learnt() -> None:
    day, history = Span(EPOCH, EPOCH + 86_400.0), Remembered(names=["camera-0"])

    def learn(engine: Engine) -> float:
        camera = engine.models["m"].cameras["camera-0"]
        assert camera.profile is not None and camera.reference is not None
        camera.profile.weights[1] = 2.0  # Two deviations up at midnight, down at noon.
        return 2.0 * float(camera.reference.scale[camera.reference.names.index("energy")])

    judge = judged(frames=2000)
    height = judge.look(learn)
    asked, story = Asked("m", day, channels=("energy",)), Chronicle([], [], ())
    (band,) = (await charts.channels(judge, cast(History, history), asked, story)).bands
    assert len(band.times) == len(band.means) == len(band.halves) > 100
    assert max(band.means) - min(band.means) == pytest.approx(2.0 * height, rel=0.05)
    top = band.times[band.means.index(max(band.means))] % 86_400.0
    assert min(top, 86_400.0 - top) < 1_800.0
    assert max(band.halves) > min(band.halves)  # Only a few seconds of the day were seen.


async def test_a_broken_cameras_frames_of_before_and_after_are_shown_without_analytics() -> None:
    fault = CameraFault("camera-0", "blur", EPOCH, "asset-before", "asset-after")
    broken = incident(cause=Cause.CAMERA, cameras=("camera-0",), faults=(fault,))
    judge = judged(frames=2000)
    judge.look(lambda engine: engine.models["m"].incidents.append(broken))
    said = await explaining.explain(judge, CLOSED, pb.ExplainIncidentRequest(id="i"))
    assert [(f.asset_id, f.camera_id) for f in (*said.before, *said.after)] == [
        ("asset-before", "camera-0"), ("asset-after", "camera-0"),
    ]  # fmt: skip
    assert any(text.startswith("Broken: blur on camera-0 since ") for text in said.why)
    assert not any(text.startswith("Frames") for text in said.unknown)
    text = page(await gather(judge, CLOSED, Asked("m", SPAN)), EPOCH, "http://localhost:8110")
    assert "http://localhost:8110/api/v1/assets/asset-before/content" in text
    assert "<td>blur</td>" in text


def test_a_chronicle_marks_only_what_lies_in_the_span() -> None:
    story = Chronicle(
        [incident(closed_at=EPOCH + 500)],
        [Release("1", EPOCH - 500)],
        [Decided("d", "m", "i", "declined", "", EPOCH + 7)],
    )
    assert [mark.kind for mark in story.marks(SPAN)] == ["began", "alarm", "declined"]


def test_too_many_marks_are_lines_without_words_and_nothing_is_said_in_words() -> None:
    marks = [Mark(EPOCH + n, "alarm", "alarm") for n in range(20)]
    lines = [Line("gate-1", "energy", dict.fromkeys(range(9), 0.5), dict.fromkeys(range(9), 3))]
    bands = [Band("gate-1", "energy", "1", (SPAN.since, SPAN.until), (0.5, 0.5), (0.1, 0.1))]
    chart = ChannelChart("m", SPAN, ["energy", "margin"], ["gate-1"], lines, bands, marks, 10, 0)
    drawn = texts(picture(lambda: channels.draw(chart), "svg", "t"))
    assert "alarm" not in drawn
    assert "no value of this channel in this time" in drawn
    empty = QualityChart("m", SPAN, [], [], [], ["Accuracy by labels: no label."])
    assert "Accuracy by labels: no label." in texts(picture(lambda: quality.draw(empty), "svg", "t"))
    assert "no label in this time" in texts(picture(lambda: labels.confusion(None, "m"), "svg", "t"))


def test_a_name_is_drawn_as_it_is_whatever_signs_it_has() -> None:
    name = "_gate$1$<&>"
    lines = [Line(name, "class.a$b", {0: 0.5}, {0: 3})]
    chart = ChannelChart("m$x$", SPAN, ["class.a$b"], [name], lines, [], [], 10, 0)
    drawn = [text.strip("\u200b") for text in texts(picture(lambda: channels.draw(chart), "svg", "t"))]
    assert {name, "m$x$: channels"} <= set(drawn)
    assert any(text.startswith("class.a$b") for text in drawn)


def test_corrected_labels_and_times_without_labels_are_marked_in_the_picture() -> None:
    points = [
        Point("1", EPOCH, EPOCH + 10, 30, 0.9, 0.8, 0.95),
        Point("1", EPOCH + 30, EPOCH + 40, 30, 0.8, 0.7, 0.9, sure=False),
    ]
    free = [Point("1", EPOCH, EPOCH + 60, 0, 0.85, 0.7, 0.95)]
    drawn = texts(picture(lambda: quality.draw(QualityChart("m", SPAN, points, free, [], [])), "svg", "t"))
    assert {
        "no label drawn at random: unknown",
        "labels corrected: interval not anytime-valid",
        "version 1, without labels (90 %)",
    } <= set(drawn)


def test_confusion_shows_inputs_without_an_answer() -> None:
    found = pb.Quality(version="1", labels=3)
    found.classes.add(class_name="cat", labels=3)
    found.confusion.add(truth="cat", predicted="cat", count=2)
    found.confusion.add(truth="cat", predicted="", count=1)
    assert "(no answer)" in texts(picture(lambda: labels.confusion(found, "m"), "svg", "t"))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (90_000, "1 d 1 h"), (86_400, "1 d")]
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert words.length(seconds) == text


def test_an_empty_span_is_refused() -> None:
    with pytest.raises(ValueError, match="before"):
        Span(5, 5)


def texts(svg: bytes) -> list[str]:
    """The words of an SVG."""
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("}text")]
