"""Latents as bytes and back."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chai_app.cache.codec import decode, encode

NOISE = np.random.default_rng(0).standard_normal((4, 3, 5, 7)).astype(np.float32) * 3


def test_fp32_gives_every_bit_back():
    np.testing.assert_array_equal(decode(encode({"clean": NOISE}, "fp32"))["clean"], NOISE)


def test_fp16_keeps_eleven_bits():
    np.testing.assert_allclose(decode(encode({"clean": NOISE}, "fp16"))["clean"], NOISE, rtol=2**-11, atol=1e-7)


def test_int8_is_half_a_step_off_at_most_in_every_channel():
    loud = NOISE * np.array([1, 100, 0.01, 0], np.float32)[:, None, None, None]
    error = np.abs(decode(encode({"clean": loud}, "int8"))["clean"] - loud).reshape(4, -1).max(axis=1)
    assert (error <= np.abs(loud).reshape(4, -1).max(axis=1) / 127 / 2 * 1.001).all()


def test_an_entry_of_240p_and_51_frames_takes_less_than_450_kilobytes():
    latents = np.zeros((4, 15, 30, 53), np.float32)
    assert len(encode({"clean": latents})) < 192_000
    three = {"step_2": latents, "step_3": latents, "step_4": latents}
    assert len(encode(three, "int8")) < 290_000


def test_values_beyond_fp16_are_kept_in_fp32():
    large = NOISE * 1e6
    np.testing.assert_array_equal(decode(encode({"clean": large}, "fp16"))["clean"], large)


def test_several_tensors_keep_their_names_and_shapes_and_half_precision_goes_in_too():
    tensors = {"step_2": NOISE, "scale": NOISE[:2].astype(np.float16), "clean": NOISE[:, :1]}
    found = decode(encode(tensors))
    assert {name: t.shape for name, t in found.items()} == {name: t.shape for name, t in tensors.items()}
    assert {t.dtype for t in found.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_on_the_way_in_and_on_the_way_out(value):
    bad = NOISE.copy()
    bad[1, 2, 3, 4] = value
    with pytest.raises(ValueError, match="not finite"):
        encode({"clean": bad})
    content = encode({"clean": NOISE}, "fp32")
    with pytest.raises(ValueError, match="not finite"):
        decode(content.replace(NOISE[1, 2, 3, 4].tobytes(), np.float32(value).tobytes()))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_gets_past_but_as_a_value_error(data):
    content = bytearray(encode({"clean": NOISE[:1, :1]}, data.draw(st.sampled_from(["fp32", "fp16", "int8"]))))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    try:
        tensors = decode(bytes(content))
    except ValueError:
        return
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())


@pytest.mark.parametrize("storage", ["int8", "fp64", None, 7, [], {}])
def test_a_file_that_says_of_its_tensors_what_they_are_not_is_refused(storage):
    from safetensors.numpy import save

    metadata = {"format": "chai-latents-1", "storage": json.dumps({"clean": storage})}
    with pytest.raises(ValueError, match="clean"):
        decode(save({"clean": NOISE}, metadata=metadata))
