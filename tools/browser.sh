#!/bin/sh
# Get what the tests of a report in a browser need, and print the path of axe.min.js:
#   FL_APP_AXE=$(tools/browser.sh) .venv/bin/python -m pytest tests/runs/report/test_browser.py
# Debian's chromium is installed, which takes root; axe-core comes from npm into build/. What cannot be had is named on
# stderr, and its tests skip; the status is 0 all the same, and without axe-core nothing is printed.
set -eu
cd "$(dirname "$0")/.."
version=4.14.1
sum=29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c # sha256 of its axe.min.js
folder=build/axe-core-$version
axe=$folder/package/axe.min.js

lack() { # WHAT WHICH-TESTS WHAT-WAS-SAID
  echo "No $1, so $2 of tests/runs/report/test_browser.py skip: $(printf '%s' "$3" | tail -n 1)" >&2
}

install_chromium() {
  DEBIAN_FRONTEND=noninteractive timeout 600 \
    apt-get install --quiet --quiet --yes --no-install-recommends chromium 2>&1 </dev/null
}

is_right() { echo "$sum  $axe" | sha256sum --check --status 2>/dev/null; }

fetch_axe() {
  mkdir -p "$folder"
  timeout 300 npm pack --silent --ignore-scripts --pack-destination "$folder" "axe-core@$version" 2>&1 </dev/null || return
  tar -xzf "$folder/axe-core-$version.tgz" -C "$folder" package/axe.min.js 2>&1 || return
  is_right || { echo "the SHA-256 of its axe.min.js is not the known one"; return 1; }
}

has_browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

read_lists() { timeout 300 apt-get update --quiet --quiet 2>&1 </dev/null; }

has_browser >/dev/null || said=$(install_chromium) || said=$(read_lists; install_chromium) ||
  lack chromium "all tests" "$said"
is_right || said=$(fetch_axe) || { lack "axe-core $version" "the tests with axe" "$said"; exit 0; }
echo "$PWD/$axe"
