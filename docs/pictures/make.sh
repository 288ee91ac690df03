#!/usr/bin/env bash
# Makes the pictures of the docs: the pages as a browser shows them. Needs
# chromium and, in MEMORYCELL_DATA, multi30k, asterisk-en, omniglot and skab; takes an hour, most of it to learn German and English.
set -euo pipefail
cd "$(dirname "$0")/../.."
place="$(mktemp -d)"
.venv/bin/memorycell lab --out "$place/lab.html"
.venv/bin/memorycell lab story --out "$place/story.html"
.venv/bin/memorycell inspect demo/glucose.safetensors --out "$place/inside.html"
.venv/bin/memorycell train translation multi30k-de-en --minutes 20 --out "$place/de-en.safetensors"
.venv/bin/memorycell predict "$place/de-en.safetensors" --out "$place/attention.html" \
  $'Ein kleines Mädchen in einem rosa Kleid klettert auf einen Baum.\nZwei Männer sitzen vor einem Geschäft und spielen Schach.'
.venv/bin/memorycell train speech asterisk-en --minutes 19 --out "$place/prompts.safetensors" --set direction=both \
  --set hidden=192 --set stack=3 --set lr=5e-3 --set budget=1000
.venv/bin/memorycell predict "$place/prompts.safetensors" "${MEMORYCELL_DATA%%:*}/speech/asterisk-en/conf-userwilljoin.wav" \
  --out "$place/speech.html"
.venv/bin/memorycell train handwriting omniglot --minutes 4 --out "$place/signs.safetensors"
.venv/bin/memorycell predict "$place/signs.safetensors" omniglot --set only=_16.txt --out "$place/strokes.html"
.venv/bin/memorycell train drawing omniglot --minutes 5 --out "$place/hand.safetensors"
.venv/bin/memorycell predict "$place/hand.safetensors" $'Latin/01\nGreek/03\nKorean/10' --set count=6 \
  --out "$place/drawn.svg"
.venv/bin/memorycell train anomaly skab --minutes 3 --out "$place/loop.safetensors"
.venv/bin/memorycell predict "$place/loop.safetensors" skab --out "$place/anomaly.html"
cp "$place/drawn.svg" "$place/drawn.html"
for page in speech:660 strokes:1020 drawn:470 anomaly:800 attention:1230 inside:2750 lab:2420 story:2560; do
  chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --virtual-time-budget=8000 \
    --window-size="1100,${page#*:}" --screenshot="docs/pictures/${page%:*}.png" "file://$place/${page%:*}.html"
done
