"""What a prompt says is not there is no entity, and what it says beside that is."""

import pytest

from chai_app.prompts import extract


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("a hen, not a goose, in a barn", "hen barn"),
        ("a clown without hair or a nose sits in a cafe", "clown cafe"),
        ("a cake with neither candles nor flowers", "cake"),
        ("a harp instead of a piano on a boat", "harp boat"),
        ("a mule rather than a horse waits", "mule"),
        ("a nurse who isn't wearing a hat holds a lamp", "nurse lamp"),
        ("a monk who doesn't carry a bag; he pushes a cart", "monk cart"),
        ("she is not holding an umbrella but a cane", "cane"),
        ("two gulls that are not standing on a boat but on a rock", "two gulls rock"),
        ("a lake with no boats and a red canoe", "red canoe lake"),
        ("a street without any cars, bikes or people in the fog", "street fog"),
        ("a desk with everything but a computer", "desk"),
        ("a room with no furniture except a piano", "piano room"),
        ("no longer a caterpillar, a butterfly leaves a cocoon", "butterfly cocoon"),
        ("a crowd of people, none of them wearing hats", "people"),
        ("a church whose roof is missing", "church"),
        ("not just a hen but also a goose", "hen goose"),
        ("a barn not far from a pond", "barn pond"),
        ("nobody is on the bridge; a hen crosses it", "hen bridge"),
        ("there isn't a single cloud in the sky above the desert", "sky desert"),
        ("a dog that does not chase the cat", "dog cat"),
        ("a dog that does not wear the collar", "dog"),
        ("Do not show any musicians. Avoid umbrellas and cars. A hen runs.", "hen"),
        ("a car-free road, a hen", "hen car-free road"),
    ],
)
def test_a_negation_reaches_as_far_as_its_clause_lets_it(prompt, named):
    found = extract(prompt)
    assert " ".join(entity.phrase for entity in (*found.objects, *found.scenes)) == named
