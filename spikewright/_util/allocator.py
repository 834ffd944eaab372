"""What the C library does with memory that was freed."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_NEVER = 2**31 - 1
_SMALL = 2**16


def reuse_freed_memory() -> bool:
    """Let this process keep freed memory for its next tensors, instead of handing it back to the operating system.

    A training step on the CPU frees and asks for the same large blocks over and over; faulting their pages in anew each
    time can take longer than computing on them.  The process then holds the largest amount it ever needed.  For the
    whole process, and for glibc only.

    Returns:
        Whether it took effect.
    """
    # No block gets a mapping of its own, which would be undone when it is freed, and the heap never shrinks.
    return _set(_MMAP_MAX, 0) and _set(_TRIM_THRESHOLD, _NEVER)


def return_freed_memory() -> bool:
    """Have this process hand freed memory back at once, so that it holds no more than its tensors take.

    By default freed blocks of up to 32 MiB stay with the process, and new ones do not fit into all of the gaps, so that
    what a process holds depends on what it did before.  A training step takes longer this way.  For the whole process,
    and for glibc only.

    Returns:
        Whether it took effect.
    """
    return _set(_MMAP_THRESHOLD, _SMALL)  # larger blocks have a mapping of their own, undone when they are freed


def _set(parameter: int, value: int) -> bool:
    import ctypes
    import platform

    return platform.libc_ver()[0] == "glibc" and bool(ctypes.CDLL(None).mallopt(parameter, value))
