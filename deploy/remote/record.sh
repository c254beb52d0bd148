# A line of JSON on standard input, for the list of what was deployed.
cat >>"$ROOT/shared/deploys.jsonl"
