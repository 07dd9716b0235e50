"""How the loops are compiled: with numba, into the directory of ``disk_cache``."""

import numba

from rllib_stpn.kernels import disk_cache

inline = numba.njit(forceinline=True, error_model="numpy")
compiled_part = numba.njit(error_model="numpy")


def compiled(arguments):
    """Compiles for one signature at once, or takes from the disk what was compiled before."""
    code = {"f": "float32[::1]", "b": "uint8[::1]", "i": "int64", "s": "float32"}
    signature = f"void({', '.join(code[a] for a in arguments)})"

    def compile_now(function):
        options = {"nogil": True, "error_model": "numpy"}
        place = disk_cache.directory()
        if place is not None:
            try:
                name = f"{function.__module__}.{function.__name__}"
                with disk_cache.alone(place, name), disk_cache.used_by_numba(place):
                    return numba.njit(signature, cache=True, **options)(function)
            except Exception as error:  # A full disk, or files that were cut short, which fail in many ways.
                disk_cache.give_up(place, error)
        return numba.njit(signature, **options)(function)

    return compile_now
