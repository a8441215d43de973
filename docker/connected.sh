#!/bin/sh
# Tell Flower's commands where the SuperLink is, under the name `federation`, then run one of them.
#   connected.sh ADDRESS CERTIFICATE COMMAND...       CERTIFICATE `insecure`: no TLS
set -eu
address=$1 certificate=$2
shift 2
mkdir -p "$FLWR_HOME"
{
  echo '[superlink]'
  echo 'default = "federation"'
  echo '[superlink.federation]'
  echo "address = \"$address\""
  if [ "$certificate" = insecure ]; then echo 'insecure = true'; else echo "root-certificates = \"$certificate\""; fi
} >"$FLWR_HOME/config.toml"
exec "$@"
