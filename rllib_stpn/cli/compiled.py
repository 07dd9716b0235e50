"""A note on where compiled kernels are kept, if that is not the usual place."""

import warnings


def tell_where_kernels_are() -> None:
    """Prints a note where neither the package's directory nor the user's can be written to."""
    from rllib_stpn.kernels import disk_cache

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        disk_cache.directory()
    for each in told:
        print(f"note: {each.message}", flush=True)
