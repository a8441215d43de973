#!/bin/sh
# Build the image without a Docker engine and unpack it, so that tests can start its programs. Takes root, buildah and
# debootstrap.
#   build-without-engine.sh FOLDER      prints the image's root folder; `build-without-engine.sh FOLDER remove` ends it
# The base is a Debian of its own, because without an engine there may be no registry to pull one from. Variables:
#   TORCH_BACKEND    as in the Dockerfile; the default here is empty, PyTorch's build of the package index
#   EXTRA_CA         a file of certificates that the network here wants trusted
set -eu
folder=$(mkdir -p "$1" && cd "$1" && pwd)
checkout=$(cd "$(dirname "$0")/.." && pwd)
packages=python3,python3-venv,ca-certificates

in_store() { buildah --root "$folder/store" --runroot "$folder/run" --storage-driver "$driver" "$@"; }

driver=overlay
in_store images >/dev/null 2>&1 || driver=vfs # where the kernel has no overlay; every layer is a copy then
if [ "${2-}" = remove ]; then
  in_store rm --all >/dev/null
  in_store rmi --all --force >/dev/null
  rm -rf "$folder"
  exit
fi

{
  if ! in_store inspect --type image fl-app-base >/dev/null 2>&1; then
    base=$(in_store from scratch)
    root=$(in_store mount "$base")
    debootstrap --variant=minbase --include="$packages" bookworm "$root"
    rm -rf "$root/var/cache/apt/archives" "$root/var/lib/apt/lists"
    if [ -n "${EXTRA_CA-}" ]; then
      cp "$EXTRA_CA" "$root/etc/ssl/certs/ca-certificates.crt"
      trusted=/etc/ssl/certs/ca-certificates.crt
      in_store config --env SSL_CERT_FILE="$trusted" --env PIP_CERT="$trusted" "$base"
    fi
    in_store commit --rm --quiet "$base" fl-app-base
  fi
  in_store bud --isolation chroot --format docker --file "$checkout/docker/Dockerfile" --tag fl-app \
    --build-arg BASE=localhost/fl-app-base --build-arg TORCH_BACKEND="${TORCH_BACKEND-}" "$checkout"
  container=$(in_store from --pull-never localhost/fl-app)
} >&2
in_store mount "$container"
