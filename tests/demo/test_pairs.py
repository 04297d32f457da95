"""What a calibration of the demo model learns from."""

from chai_app.demo.pairs import demo_pairs


def test_pairs_know_that_colour_matters_and_that_a_red_ball_may_be_a_ball():
    pairs = list(demo_pairs())
    judged = {(a, b): match for _, a, b, match in pairs}
    assert judged["red ball", "crimson beach ball"] and judged["ball", "beach ball"]
    assert not judged["red ball", "blue ball"] and not judged["red ball", "red balloon"]
    assert not judged["ball", "party balloon"] and not judged["desert", "ocean"]
    assert not {("ball", "red ball"), ("red ball", "ball")} & set(judged)
    assert len(judged) == len(pairs), "no pair twice"
    assert {(kind, match) for kind, _, _, match in pairs} == {
        (kind, match) for kind in ("object", "scene", "prompt") for match in (True, False)
    }
    assert all(judged.get((b, a), match) == match for (a, b), match in judged.items())
