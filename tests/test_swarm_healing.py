"""How soon regions that were cut apart agree again."""

from __future__ import annotations

from worlds import REGIONS, small_world


def test_regions_agree_within_half_a_second_of_a_heal_however_much_was_written() -> None:
    world = small_world(11, per_region=20)
    world.network.cut(("us-east",), ("us-west", "eu-central"))
    world.run_until(lambda: all(len(node.regions.groups()) == 2 for node in world.nodes()), 5.0)
    # Ten writes a second on each side until the end: what was written last counts as well.
    for number in range(150):
        for region in REGIONS[:2]:
            world.write(f"{region}-1", f"app.{region}.key{number}", number)
        world.run(0.1)
    world.network.heal()
    assert world.run_until(world.converged, 10.0) <= 0.5
