"""Holes are found, grouped and cut with context."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retouch.pipeline.holes import Box, components, groups, thickness


def test_components_are_tight_boxes():
    mask = np.zeros((200, 300), bool)
    mask[10:31, 20:52] = True
    mask[150:199, 250:300] = True
    assert components(mask) == [Box(10, 20, 21, 32), Box(150, 250, 49, 50)]


def test_components_of_a_large_mask_are_tight_too():
    mask = np.zeros((3000, 2000), bool)
    mask[1001:1050, 7:33] = True
    assert components(mask) == [Box(1001, 7, 49, 26)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 380), st.integers(0, 280), st.integers(1, 90), st.integers(1, 90)),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([64, 256, 512]),
)
def test_groups_cover_every_hole_and_stay_inside(
    boxes: list[tuple[int, int, int, int]], working_size: int
):
    mask = np.zeros((400, 300), bool)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = True
    covered = np.zeros_like(mask)
    for group in groups(mask, working_size):
        assert 0 <= group.crop.top <= group.holes.top
        assert group.holes.bottom <= group.crop.bottom <= 400
        assert 0 <= group.crop.left <= group.holes.left
        assert group.holes.right <= group.crop.right <= 300
        covered[group.holes.slices] = True
    assert covered[mask].all()


def test_near_holes_share_a_crop_and_far_ones_do_not():
    mask = np.zeros((1000, 1000), bool)
    mask[100:120, 100:120] = True
    mask[100:120, 160:180] = True
    mask[900:920, 900:920] = True
    assert len(groups(mask, 512)) == 2


def test_thickness_is_the_diameter_of_the_largest_disc():
    mask = np.zeros((300, 300), bool)
    mask[100:200, :] = True
    assert abs(thickness(mask) - 100) <= 6
    assert thickness(np.ones((50, 80), bool)) == 80
