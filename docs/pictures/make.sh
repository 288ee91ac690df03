#!/usr/bin/env bash
# Makes the pictures of docs/inside.md: the pages as a browser shows them. Needs chromium; takes six minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
place="$(mktemp -d)"
.venv/bin/memorycell lab --minutes 3 --out "$place/lab.html"
.venv/bin/memorycell lab story --out "$place/story.html"
.venv/bin/memorycell inspect demo/glucose.safetensors --out "$place/inside.html"
for page in inside:2750 lab:2420 story:2520; do
  chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --virtual-time-budget=8000 \
    --window-size="1100,${page#*:}" --screenshot="docs/pictures/${page%:*}.png" "file://$place/${page%:*}.html"
done
