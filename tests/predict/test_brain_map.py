"""The map of the brain in the package is the one that is drawn from template and atlas."""

from wmh.predict import brain_map


def test_the_cut_that_is_kept_is_the_one_that_is_drawn():
    height = brain_map.CUTS_MM[2]
    kept = next(cut for cut in brain_map.kept_cuts() if cut["height_mm"] == height)
    drawn = brain_map.draw_cut(height)
    for part in ("label", "path"):
        assert [s[part] for s in kept["shapes"]] == [s[part] for s in drawn["shapes"]]
    assert [cut["height_mm"] for cut in brain_map.kept_cuts()] == list(brain_map.CUTS_MM)
