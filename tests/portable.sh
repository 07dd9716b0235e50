#!/bin/sh
# The tests of arithmetic as on other machines: other vector instructions, numbers of threads, seeds and orders.
# `make portable` calls it; it ends with the variants that failed. Arguments are handed on to pytest.
cd "$(dirname "$0")/.." || exit 1
pytest=".venv/bin/pytest -q -p no:cacheprovider"
arithmetic="tests/kernels tests/layers tests/supervised"
failed=""

variant() {
    name=$1
    shift
    echo "== $name"
    if ! env "$@"; then failed="$failed $name"; fi
}

one_core=$(command -v taskset >/dev/null && echo "taskset -c 0")
case $(uname -m) in
    x86_64) older=haswell ;;  # AVX2, no AVX-512
    *) older=generic ;;
esac

# Without a list of features numba takes the host's, whatever the CPU's name.
variant older-cpu ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 \
    NUMBA_CPU_NAME=$older NUMBA_CPU_FEATURES= NUMBA_CACHE_DIR=.venv/numba-$older OMP_NUM_THREADS=4 $pytest -n 2 $arithmetic "$@"
variant no-vectors-one-core ATEN_CPU_CAPABILITY=default MKL_ENABLE_INSTRUCTIONS=SSE4_2 ONEDNN_MAX_CPU_ISA=SSE41 \
    OMP_NUM_THREADS=1 $one_core $pytest $arithmetic "$@"
# By more than an environment has rows, which take the seeds from the first one's on.
variant other-seeds-and-order $pytest -n 2 --other-seeds 1000003 --shuffle 1 $arithmetic tests/envs "$@"

if [ -n "$failed" ]; then
    echo "failed:$failed"
    exit 1
fi
echo "every variant passed"
