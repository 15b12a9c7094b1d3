"""What the touched have in common, and which alarms of many are beyond chance."""

from __future__ import annotations

import numpy as np
import pytest

from services.monitor.domain.events import Scope
from services.monitor.domain.fleet.alike import cosine, together
from services.monitor.domain.fleet.patience import believed
from services.monitor.domain.fleet.scope import explain, of_cameras, quarter


def cameras(count: int = 100, sites: int = 5) -> dict[str, dict[str, str]]:
    """As many at each site; every third has the new firmware."""
    return {
        f"c{n}": {"site": f"s{n % sites}", "firmware": "2" if n % 3 == 0 else "1", "serial": str(n)}
        for n in range(count)
    }


def test_one_camera_is_itself_and_all_are_the_model() -> None:
    watched = cameras()
    assert of_cameras(["c7"], watched) == Scope("camera", "c7", 1, 1, 99, 0)
    assert of_cameras(list(watched), watched) == Scope("model", "", 100, 100, 0, 0)


@pytest.mark.parametrize("share", [1.0, 0.7, 0.4])
def test_a_site_is_named_when_most_of_it_is_touched_even_if_not_all(share: float) -> None:
    watched = cameras()
    site = [name for name, labels in watched.items() if labels["site"] == "s2"]
    touched = site[: int(share * len(site))]
    scope = of_cameras(touched, watched)
    assert (scope.kind, scope.value, scope.inside, scope.inside_hit) == ("site", "s2", 20, len(touched))


def test_a_firmware_is_named_across_sites_and_one_stray_camera_does_not_hide_it() -> None:
    watched = cameras()
    touched = [name for name, labels in watched.items() if labels["firmware"] == "2"]
    assert str(of_cameras([*touched, "c1"], watched)) == "firmware 2"


def test_cameras_without_anything_in_common_are_listed() -> None:
    rng = np.random.default_rng(0)
    watched = cameras()
    for _ in range(200):
        touched = [f"c{n}" for n in rng.choice(100, 3, replace=False)]
        sites = {watched[name]["site"] for name in touched}
        if len(sites) == 3:
            assert of_cameras(touched, watched).kind == "cameras"


def test_wrong_labels_are_put_down_to_the_annotator_who_gave_them_and_to_nobody_by_chance() -> None:
    rng = np.random.default_rng(1)
    found = named = 0
    for _ in range(100):
        who = rng.integers(0, 5, 400)
        labels = [{"annotator": f"a{w}", "camera": f"c{c}"} for w, c in zip(who, rng.integers(0, 20, 400), strict=True)]
        quiet = rng.random(400) < 0.1
        found += explain(list(zip(labels, quiet.tolist(), strict=True))) is not None
        loud = quiet | ((who == 3) & (rng.random(400) < 0.3))
        scope = explain(list(zip(labels, loud.tolist(), strict=True)))
        named += str(scope) == "annotator a3"
    assert named >= 90
    assert found <= 5


def test_more_alarms_make_each_of_them_easier_to_believe_and_a_larger_fleet_harder() -> None:
    assert believed({"a": 1000.0}, 1, 1000.0) == {"a"}
    assert believed({"a": 1000.0}, 100, 1000.0) == set()
    assert believed({"a": 100_000.0, "b": 500.0}, 100, 1000.0) == {"a"}
    assert believed(dict.fromkeys("abcdefghijklmnopqrst", 5000.0), 100, 1000.0) == set("abcdefghijklmnopqrst")


def test_changes_are_alike_by_direction_not_by_size() -> None:
    darker = {"pixels.brightness": -0.8, "pixels.contrast": -0.6}
    sharper = {"pixels.sharpness": 1.0}
    assert cosine(darker, together([darker, darker])) == pytest.approx(1.0)
    assert cosine(darker, sharper) == 0.0
    assert cosine(darker, {}) == 0.0


def test_the_quarter_of_a_day_is_in_utc() -> None:
    assert [quarter(h * 3600.0) for h in (0, 5.99, 6, 23)] == ["00-06 UTC", "00-06 UTC", "06-12 UTC", "18-24 UTC"]
