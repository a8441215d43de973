#!/bin/sh
# Let in every hospital whose public key lies in a folder; one that is in already stays in.
#   connected.sh ... register.sh FOLDER
set -eu
for key in "$1"/*.pub; do
  site=$(basename "$key" .pub)
  if answer=$(flwr supernode register "$key" federation --name "$site" 2>&1); then
    echo "$site: registered"
  else
    case $answer in
      *"already in use"*) echo "$site: is registered already" ;;
      *) echo "$site: $answer" >&2; exit 1 ;;
    esac
  fi
done
