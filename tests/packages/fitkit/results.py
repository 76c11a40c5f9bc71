from collections import defaultdict


class ResultCollection:
    """Running means of what was logged."""

    def __init__(self):
        self._sums = defaultdict(float)
        self._counts = defaultdict(int)

    def update(self, name, value):
        self._sums[name] += value
        self._counts[name] += 1

    def metrics(self):
        return {name: self._sums[name] / self._counts[name] for name in self._sums}

    def reset(self):
        self._sums.clear()
        self._counts.clear()
