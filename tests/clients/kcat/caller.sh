#!/usr/bin/env bash
# kcat's caller for `headrace conformance`: plain headers, two processes for each request.
# Arguments: the brokers and the reply topic.
brokers=$1 replies=$2
export LC_ALL=C

# ask NUMBER TOPIC TIMEOUT_MS KEY BODY
ask() {
    local id="$$-$1" since=$(($(date +%s%3N) - 60000)) seconds found
    seconds=$(($3 / 1000)).$(printf %03d $(($3 % 1000)))
    if ! printf '%s' "$5" | kcat -b "$brokers" -P -t "$2" -k "$4" -X partitioner=murmur2_random \
        -H "reply_to=$replies" -H "correlation_id=$id"; then
        printf '%s\terror\tnot sent\n' "$1"
    # From a time on, not from the end: the end is looked up after the reply has come.
    elif found=$(grep -a -m 1 "^$id " < <(timeout "$seconds" \
        kcat -b "$brokers" -C -q -u -t "$replies" -o "s@$since" -f '%k %s\n' 2>/dev/null)); then
        printf '%s\treply\t%s\n' "$1" "${found#* }"
    else
        printf '%s\ttimeout\n' "$1"
    fi
}

echo ready
while IFS=$'\t' read -r number topic timeout key body; do
    ask "$number" "$topic" "$timeout" "$key" "$body" </dev/null &
done
wait
