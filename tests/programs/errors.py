"""Exceptions that are kept: the last one, a list of all, chains with their causes, and what they say of themselves"""

import errno
import json

import torch

torch.manual_seed(5)
w = torch.zeros(4, requires_grad=True)
opt = torch.optim.Adam([w], lr=0.1)


class Diverged(Exception):
    """Its __init__ has a signature of its own."""

    def __init__(self, step, *, loss):
        super().__init__(f"step {step}: loss {loss:.4f}")
        self.step, self.loss = step, loss

    def __str__(self):
        return f"diverged at {self.step} ({self.loss:.3f})"


class Retry(OSError):
    pass


def batch(step):
    """A sample that may be broken, in all the ways in which samples are."""
    match step % 8:
        case 1:
            raise Diverged(step, loss=float(w.detach().pow(2).sum()) + step)
        case 2:
            open(f"/nowhere/sample{step}").close()
        case 3:
            json.loads('{"a": ' + str(step))
        case 4:
            b"\xff\xfe".decode("utf-8")
        case 5:
            return {}["sample", step]
        case 6:
            raise Retry(errno.EAGAIN, "try again", f"shard-{step}")
        case 7:
            return next(iter(()))
    return torch.randn(4)


def told(error):
    """What a log would say of it."""
    if error is None:
        return "none"
    fields = [
        getattr(error, name, None)
        for name in ("errno", "filename", "pos", "start", "reason", "step", "count")
    ]
    return f"{type(error).__name__} {error} {error!r} {fields} {told(error.__cause__)} {error.__suppress_context__}"


last = worst = outcome = None
errors = []
by_kind = {}
for step in range(20):
    try:
        x = batch(step)
        error_here = False
    except (Diverged, OSError, ValueError, LookupError, StopIteration) as error:
        last = error
        last.count = len(errors)
        last.here = {"step": step, "error": error}
        errors.append(error)
        by_kind.setdefault(type(error), []).append(error)
        error_here = True
    if error_here:
        x = torch.randn(4) * 0.1
    if step % 5 == 4:
        try:
            try:
                raise last
            except Exception as inner:
                raise RuntimeError("too many", {"step": step}) from inner
        except RuntimeError as error:
            worst = error
    loss = (w - x).pow(2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item(), told(last))
    for part in range(2):
        print("  ", part, told(worst), len(errors))
    assert not errors or last is errors[-1]
    assert not errors or last.here["error"] is last

for error in errors:
    print(told(error), error.args, last.here["step"])
print({kind.__name__: len(found) for kind, found in by_kind.items()}, w.tolist())
print(
    worst.__cause__ in errors,
    worst.__context__ is worst.__cause__,
    isinstance(by_kind[Retry][0], BlockingIOError),
)
try:
    raise errors[0]
except Diverged as again:
    print("raised again", again, again.loss)
