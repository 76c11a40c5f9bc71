class PrefetchingFetcher:
    """Iterates one batch ahead, so that the last one is known to be the last."""

    def __init__(self, loader, prefetch=1):
        self.loader = loader
        self.prefetch = prefetch
        self.batches = []
        self.fetched = 0
        self.done = False
        self.iterator = None

    def __iter__(self):
        self.iterator = iter(self.loader)
        self.batches, self.fetched, self.done = [], 0, False
        for _ in range(self.prefetch):
            self._fetch()
            if self.done:
                break
        return self

    def __next__(self):
        if self.batches:
            batch = self.batches.pop(0)
            if not self.done:
                self._fetch()
            if not self.batches:
                self.done = True
        else:
            raise StopIteration
        return batch, self.fetched - len(self.batches) - 1, self.done

    def _fetch(self):
        try:
            self.batches.append(next(self.iterator))
            self.fetched += 1
        except StopIteration:
            self.done = True


def cycle(loader):
    """Batches for as long as anybody asks, shuffled anew each round."""
    while True:
        yield from loader
