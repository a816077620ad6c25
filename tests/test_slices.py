"""Slices and points of the consolidated store, drawn by Hypothesis, agree with NumPy on the tiles.

They are drawn near the edges of tiles, where chunks, shards, tiles and zones meet in every way. The
draws are the same in every run, so that a failure repeats.
"""
import numpy as np
import pytest
import zarr
from archive import BANDS
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import Zone

NEAR = 80  # pixels beside a tile: more than an inner chunk
drawn = settings(deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def groups(whole, whole_mount):
    """Each zone as it must be, and as zarr-python has it open."""
    root = zarr.open_group(whole_mount.consolidated(), mode="r")
    return [(Zone(whole, zone), root[f"utm{zone}"]) for zone in (24, 25)]


def spans(first, length, end):
    """Slices of up to 160 pixels of an axis, which begin in a tile or near it."""
    return st.integers(max(0, first - NEAR), min(end - 1, first + length + NEAR)).flatmap(
        lambda start: st.builds(slice, st.just(start), st.integers(start, min(end, start + 160)), st.integers(1, 5)))


def any_tile(groups):
    """A zone, its group, and where a tile of any year lies in it."""
    return st.sampled_from([(zone, group, place) for zone, group in groups for year in zone.years for place in zone.places(year)])


def whole_slice(axis):
    return slice(axis.start, axis.stop)


@settings(drawn, max_examples=300)
@given(st.data())
def test_slices(groups, data):
    """Catches a window cut or placed wrongly where tiles, years and chunks meet; steps leave inner chunks out."""
    zone, group, (_, top, left, height, width) = data.draw(any_tile(groups), label="tile")
    rows = data.draw(spans(top, height, zone.height), label="rows")
    cols = data.draw(spans(left, width, zone.width), label="cols")
    times = data.draw(st.sampled_from([0, 1, slice(None), slice(1, None), slice(0, 0)]), label="times")
    forwards = st.slices(BANDS).filter(lambda bands: (bands.step or 1) > 0)
    bands = data.draw(st.one_of(st.integers(0, BANDS - 1), forwards), label="bands")
    windows = [zone.window(year, whole_slice(rows), whole_slice(cols)) for year in zone.years]
    embeddings, scales = (np.stack(arrays)[..., :: rows.step, :: cols.step] for arrays in zip(*windows))
    np.testing.assert_array_equal(group["embeddings"][times, bands, rows, cols], embeddings[times][..., bands, :, :])
    np.testing.assert_array_equal(group["scales"][times, rows, cols], scales[times])


@settings(drawn, max_examples=80)
@given(st.data())
def test_points(groups, data):
    """Catches pixels read one by one, from many inner chunks at once, that come from elsewhere or in another order."""
    zone, group, _ = data.draw(any_tile(groups), label="zone")
    pixel = st.sampled_from([(i, *place) for i, year in enumerate(zone.years) for place in zone.places(year)]).flatmap(
        lambda at: st.tuples(st.sampled_from(range(len(zone.years))),
                             st.integers(max(0, at[2] - NEAR), min(zone.height, at[2] + at[4] + NEAR) - 1),
                             st.integers(max(0, at[3] - NEAR), min(zone.width, at[3] + at[5] + NEAR) - 1)))
    points = data.draw(st.lists(pixel, min_size=1, max_size=30), label="points")
    want = [zone.window(zone.years[time], slice(row, row + 1), slice(col, col + 1)) for time, row, col in points]
    times, rows, cols = np.array(points).T
    bands = np.arange(BANDS)[None, :]
    np.testing.assert_array_equal(group["scales"].vindex[times, rows, cols], [scales[0, 0] for _, scales in want])
    np.testing.assert_array_equal(group["embeddings"].vindex[times[:, None], bands, rows[:, None], cols[:, None]],
                                  [embeddings[:, 0, 0] for embeddings, _ in want])
