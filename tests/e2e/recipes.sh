#!/bin/sh
# The recipes hold no mistake, on a model and data that are there: recipes.sh GRAFT ROOT
set -eu
for recipe in "$2"/examples/recipes/*.ini; do
    echo "$recipe"
    "$1" check "$recipe" --set model.path="$2/examples/quickstart/model" --set data.path="$2/examples/quickstart/train.jsonl" \
        --set output.path="$(mktemp -u)"
done
