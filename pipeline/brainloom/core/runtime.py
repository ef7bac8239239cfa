"""How a process uses the machine: threads, precision and the cache of compiled programs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

PRECISIONS = ("float64", "float32")
ONE_THREAD_FLAGS = ("--xla_cpu_multi_thread_eigen=false", "intra_op_parallelism_threads=1")
# jaxlib 0.10 hangs on two independent batched inverses unless this scheduler is off.
SCHEDULER_FLAG = "--xla_cpu_enable_concurrency_optimized_scheduler=false"


def default_cache_dir() -> str:
    """Folder of compiled programs: the variable ``BRAINLOOM_CACHE``, else ``~/.cache/brainloom/jax``."""
    return os.environ.get("BRAINLOOM_CACHE") or str(Path.home() / ".cache" / "brainloom" / "jax")


def configure(threads: int = 1, precision: str = "float64", cache_dir: str | None = None) -> None:
    """
    Set threads, precision and the compile cache of this process.

    Everything goes through environment variables, so jax itself is not imported here; call this before
    anything imports it. If it is imported already, precision and cache are still changed, the number of
    threads of its own pool only as long as no computation has run.

    Parameters
    ----------
    threads : int
        CPU threads for XLA and for the linear algebra of numpy and scipy, at least 1. With 1, XLA runs each
        operation on one thread, which is the fastest when every core has its own process.
    precision : {"float64", "float32"}
        Default floating-point type of jax.
    cache_dir : str, optional
        Folder of compiled programs, shared safely by processes; `default_cache_dir` if not given. A folder
        that cannot be made is no error: programs are then compiled anew.

    Raises
    ------
    ValueError
        `threads` is below 1 or `precision` is not one of the two.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1")
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PJRT_NPROC"):
        os.environ[name] = str(threads)
    _set_xla_flags(threads)
    # Each program that comes from the cache would print several lines about features that XLA itself prefers.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "numpy" in sys.modules:  # its linear algebra has read the variables when it was loaded
        import threadpoolctl

        threadpoolctl.threadpool_limits(limits=threads)

    directory = _usable(cache_dir or default_cache_dir())
    settings = {
        "jax_enable_x64": precision == "float64",
        "jax_compilation_cache_dir": directory,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for key, value in settings.items():
        if value is None:
            os.environ.pop(key.upper(), None)
        else:
            os.environ[key.upper()] = str(int(value)) if isinstance(value, bool | float) else str(value)
    if "jax" in sys.modules:
        import jax

        for key, value in settings.items():
            jax.config.update(key, value)


@contextlib.contextmanager
def compiling_alone(name: str) -> Iterator[None]:
    """
    Hold a lock beside the compile cache, so that parallel jobs compile a program once, not each.

    The first job compiles inside the block and fills the cache; the others wait and find it there. Where the
    folder cannot be locked (some network file systems), the block runs at once: programs are then compiled
    by each job, with the same result.

    Parameters
    ----------
    name : str
        Of the program.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(KeyError, OSError):
            folder = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
            file = stack.enter_context(open(folder / f"{name}.lock", "w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def device_kind() -> str:
    """
    Kind of device that jax computes on in this process: ``"gpu"``, ``"tpu"`` or ``"cpu"``.

    A process that has not imported jax computes on the CPU; nothing is imported to find out.
    """
    if "jax" not in sys.modules:
        return "cpu"
    import jax

    return jax.default_backend()


def _set_xla_flags(threads: int) -> None:
    """Put our XLA flags behind those of the user, who wins where both name the same one."""
    wanted = list(ONE_THREAD_FLAGS) if threads == 1 else []
    if _jaxlib_hangs():
        wanted.append(SCHEDULER_FLAG)
    ours = set(ONE_THREAD_FLAGS)
    kept = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if flag not in ours]
    named = {flag.split("=")[0] for flag in kept}
    added = [flag for flag in wanted if flag.split("=")[0] not in named]
    if SCHEDULER_FLAG in added:
        print(
            "note: this jaxlib can hang on batched inverses; its concurrent scheduler is off", file=sys.stderr
        )
    flags = " ".join(kept + added)
    if flags:
        os.environ["XLA_FLAGS"] = flags
    else:
        os.environ.pop("XLA_FLAGS", None)


def _jaxlib_hangs() -> bool:
    """Whether the installed jaxlib is of the series in which the hang was seen."""
    try:
        return metadata.version("jaxlib").startswith("0.10.")
    except metadata.PackageNotFoundError:
        return False


def _usable(directory: str) -> str | None:
    """The folder, made if needed, or None where it cannot be written (a read-only home, as in containers)."""
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError:
        return None
    return directory if os.access(directory, os.W_OK) else None
