#!/bin/sh
# Make what a hospital of the demo needs before it starts: keys, and images of digits; what is there stays as it is.
#   prepare-hospital.sh SITE SECRETS EXECUTOR PUBLIC IMAGES NUMBER TOTAL
set -eu
umask 077
site=$1 secrets=$2 executor=$3 public=$4 images=$5 number=$6 total=$7

place() { # whole or not at all
  [ -e "$2" ] || { cp "$1" "$2.partial" && mv "$2.partial" "$2"; }
}

[ -e "$secrets/$site.pub" ] || fl-app keys "$site" --out "$secrets"
if [ ! -e "$secrets/executor.secret" ]; then
  python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$secrets/executor.partial"
  mv "$secrets/executor.partial" "$secrets/executor.secret"
fi
place "$secrets/executor.secret" "$executor/executor.secret"
umask 022
place "$secrets/$site.pub" "$public/$site.pub"
fl-app example-images "$images" --share "$number" --of "$total"
