"""What calls mean for a checkpoint, by the dotted name of what is called."""

from __future__ import annotations

REFUSED, PERHAPS, NOTE = "refused", "perhaps", "note"
"""Surely refused; refused or not exact in a case that can't be told from the source; good to know."""
Rule = tuple[str, str]
"""Level and sentence."""

_HELD = (
    PERHAPS,
    "is opened anew by a resume: what the other side remembers, or was on its way, is not carried over",
)
_AGAIN = (
    PERHAPS,
    "is run again by each resume, if it stands before the training loop: there it can read, but write no file",
)
_ROWS = (
    PERHAPS,
    "rows that are written before the training loop, without a look whether they are there, refuse a resume",
)
_LAYOUT = (PERHAPS, "can't be carried over: a dump is refused while one is held")
_POOL = (PERHAPS, "a dump is refused while one of its threads runs the program's code")
_PROCESSES = (PERHAPS, "what its processes are doing is not carried over")
_CHILDREN = (REFUSED, "trains in child processes, and only the program's own process is saved")

CALLS: dict[str, Rule] = {
    "concurrent.futures.ThreadPoolExecutor": _POOL,
    "multiprocessing.pool.ThreadPool": _POOL,
    "concurrent.futures.ProcessPoolExecutor": _PROCESSES,
    "multiprocessing.Pool": _PROCESSES,
    "torch.multiprocessing.Pool": _PROCESSES,
    "torch.multiprocessing.spawn": _CHILDREN,
    "torch.multiprocessing.start_processes": _CHILDREN,
    "torch.distributed.init_process_group": (
        PERHAPS,
        "each rank is saved where it stands: ranks are not stopped at one common step",
    ),
    "os.fork": (PERHAPS, "what the child does is not carried over"),
    **dict.fromkeys(
        (
            "os.pipe", "os.popen", "socket.socket", "socket.create_connection",
            "subprocess.Popen", "mmap.mmap",
        ),
        _HELD,
    ),
    **dict.fromkeys(
        (
            "os.system", "subprocess.run", "subprocess.call", "subprocess.check_call",
            "subprocess.check_output",
        ),
        _AGAIN,
    ),
    **dict.fromkeys(
        (
            "torch.sparse_coo_tensor", "torch.sparse_csr_tensor", "torch.nested.nested_tensor",
            "torch.quantize_per_tensor",
        ),
        _LAYOUT,
    ),
    "sqlite3.connect": _ROWS,
    "input": (PERHAPS, "what was read from stdin before an interruption can't be read again"),
    "exec": (PERHAPS, "loops in a text that is executed are not seen"),
    "os.getpid": (NOTE, "is another one after an interruption"),
    "socket.gethostname": (NOTE, "may be another one after an interruption"),
    "uuid.uuid1": (NOTE, "is made of the clock"),
}  # fmt: skip
METHODS: dict[str, Rule] = {"to_sparse": _LAYOUT, "to_sparse_csr": _LAYOUT, "to_mkldnn": _LAYOUT}
"""By name of a method, whatever it is a method of."""
CLOCKS = {f"time.{name}" for name in ("time", "monotonic", "perf_counter", "process_time", "time_ns")} | {
    "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today",
}  # fmt: skip
CLOCK: Rule = (PERHAPS, "in a condition: after an interruption it may go the other way")
THREADS = {"threading.Thread", "threading.Timer"}
PROCESSES = {"multiprocessing.Process", "torch.multiprocessing.Process", "multiprocessing.context.Process"}
