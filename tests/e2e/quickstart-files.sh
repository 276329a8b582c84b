#!/bin/sh
# The generated files of the quickstart are those that its generator makes: quickstart-files.sh GENERATOR FOLDER
set -eu
"$1" tokenizer | cmp - "$2/model/tokenizer.json"
"$1" task train | cmp - "$2/train.jsonl"
"$1" task eval | cmp - "$2/eval.jsonl"
