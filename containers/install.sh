#!/bin/sh
# Installs cscdarts into an image, for Dockerfile and cscdarts.def alike: first `dependencies`, from the lock beside this
# file, then `package`, from the sources one folder up. Debian or Ubuntu with Python 3.11, as root. With `dry-run` each
# step is printed and none is taken.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
environment=/opt/cscdarts
do=
[ "${2:-}" != dry-run ] || do=echo

dependencies() {
    python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
        echo "The lock holds for Python 3.11; take a base image that has it." >&2
        exit 2
    }
    # Triton and torch.compile compile what they launch, with the headers of the Python that they run in.
    packages="g++ libc6-dev"
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages="$packages python3-venv"
    header=$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    [ -e "$header" ] || packages="$packages python3-dev"
    $do apt-get update -q
    # shellcheck disable=SC2086  # words, not one name
    DEBIAN_FRONTEND=noninteractive $do apt-get install -q -y --no-install-recommends $packages
    $do rm -rf /var/lib/apt/lists
    $do python3 -m venv "$environment"
    # Nothing is installed whose hash the lock does not hold, and nothing is built.
    $do "$environment/bin/pip" install --quiet --no-cache-dir --only-binary :all: --require-hashes \
        -r "$here/requirements.lock"
}

package() {
    # The lock holds what builds the package, so that no other version is fetched for it.
    $do "$environment/bin/pip" install --quiet --no-cache-dir --no-index --no-deps --no-build-isolation "$here/.."
    $do "$environment/bin/pip" check
    $do "$environment/bin/python" -m compileall -qq -j 0 -x "/tests?/" "$environment"  || true
    $do "$environment/bin/cscdarts" config --presets
}

case "${1:-}" in
    dependencies | package) "$1" ;;
    *)
        echo "usage: install.sh dependencies|package [dry-run]" >&2
        exit 2
        ;;
esac
