#!/usr/bin/env bash
# Makes the pictures of docs/inside.md and docs/language.md: the pages as a browser shows them. Needs chromium and, in
# MEMORYCELL_DATA, multi30k; takes half an hour, most of it to learn German.
set -euo pipefail
cd "$(dirname "$0")/../.."
place="$(mktemp -d)"
.venv/bin/memorycell lab --minutes 3 --out "$place/lab.html"
.venv/bin/memorycell lab story --out "$place/story.html"
.venv/bin/memorycell inspect demo/glucose.safetensors --out "$place/inside.html"
.venv/bin/memorycell train translation multi30k-de-en --minutes 20 --out "$place/de-en.safetensors"
.venv/bin/memorycell predict "$place/de-en.safetensors" --out "$place/attention.html" \
  $'Ein kleines Mädchen in einem rosa Kleid klettert auf einen Baum.\nZwei Männer sitzen vor einem Geschäft und spielen Schach.'
for page in attention:1230 inside:2750 lab:2420 story:2520; do
  chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --virtual-time-budget=8000 \
    --window-size="1100,${page#*:}" --screenshot="docs/pictures/${page%:*}.png" "file://$place/${page%:*}.html"
done
