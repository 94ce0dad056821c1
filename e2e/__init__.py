"""End-to-end tests on a real cluster. ``make test`` never runs them: they need a kubelet, images and minutes."""
