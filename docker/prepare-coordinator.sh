#!/bin/sh
# Make what the coordinator needs before it starts; what is there stays as it is.
#   prepare-coordinator.sh AUTHORITY SECRETS EXECUTOR PUBLIC RUNS --host NAME...
set -eu
umask 077
authority=$1 secrets=$2 executor=$3 public=$4 runs=$5
shift 5

place() { # whole or not at all
  [ -e "$2" ] || { cp "$1" "$2.partial" && mv "$2.partial" "$2"; }
}

if [ ! -w "$runs" ]; then
  echo "User $(id -u) cannot write to the folder of the results. Remove all with 'docker compose down --volumes'," >&2
  echo "set FL_APP_UID and FL_APP_GID to the numbers of the folder's owner, and start with --build." >&2
  exit 1
fi
[ -e "$authority/server.pem" ] || fl-app certificates "$@" --out "$authority"
for name in ca.crt server.pem server.key; do place "$authority/$name" "$secrets/$name"; done
if [ ! -e "$authority/executor.secret" ]; then
  python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$authority/executor.partial"
  mv "$authority/executor.partial" "$authority/executor.secret"
fi
place "$authority/executor.secret" "$secrets/executor.secret"
place "$authority/executor.secret" "$executor/executor.secret"
umask 022
place "$authority/ca.crt" "$public/ca.crt"
