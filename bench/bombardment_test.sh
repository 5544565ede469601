#!/usr/bin/env bash
# The article's bombardment: 50 curls at once at one page, each one's time, then a summary.
#
#   bench/bombardment_test.sh [URL] [COUNT]
#
# Needs bash, curl, sort and awk. Exit status 1 if any request failed.
set -u

url=${1:-http://localhost:8000/api/properties/cached/}
count=${2:-50}

case $count in
    '' | *[!0-9]* | 0*) echo "error: COUNT must be a number from 1 on, not '$count'" >&2; exit 2 ;;
esac
command -v curl >/dev/null || { echo "error: curl is not installed" >&2; exit 2; }

folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "$count at once: GET $url"
for number in $(seq "$count"); do
    # X-Cache comes by way of the headers: curl's own %header{} is too new for many machines.
    {
        timing=$(curl --silent --output /dev/null --dump-header "$folder/$number.head" --max-time 60 \
            --write-out '%{time_total} %{http_code}' "$url")
        echo "$number ${timing:-0 000} $(awk 'tolower($1) == "x-cache:" { sub(/\r$/, ""); print $2 }' \
            "$folder/$number.head" 2>/dev/null)" > "$folder/$number.time"
    } &
done
wait

sort -k2,2n "$folder"/*.time | awk '
    {
        milliseconds = $2 * 1000
        cache = $4 == "" ? "-" : $4
        printf "  request %-4d %9.1f ms   %s   %s\n", $1, milliseconds, $3, cache
        statuses[$3]++; caches[cache]++
        if ($3 < 200 || $3 >= 400) failed++; else times[++answered] = milliseconds
    }
    # The nearest rank: the smallest time that the share of all requests did not exceed.
    function rank(share,   at) { at = int(share * answered); if (at < share * answered) at++; return times[at] }
    END {
        if (answered)
            printf "\n  min %.1f ms   median %.1f ms   p95 %.1f ms   max %.1f ms\n", \
                times[1], rank(0.5), rank(0.95), times[answered]
        printf "  status: "; for (name in statuses) printf " %d x %s", statuses[name], name
        printf "\n  X-Cache:"; for (name in caches) printf " %d x %s", caches[name], name
        printf "\n"
        if (failed) { printf "  %d of %d failed\n", failed, NR; exit 1 }
    }'
