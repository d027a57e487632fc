#!/bin/bash
# usage: terraform/traffic.sh PROJECT REGION hold | percent N | back
# Splits the requests of callers between the newest revision of each service and the one before:
#   hold        keeps all on the revision that serves now: the next apply (-var traffic=held) sends none to its own
#   percent N   sends N % to the newest revision, and the rest to the one before; with 100, and to later ones, all
#   back        sends all to the revision before
set -euo pipefail

usage() { sed -n '2,6s/^# //p' "$0" >&2; exit 64; }
project=${1:-} region=${2:-} act=${3:-} share=${4:-}
[ -n "$region" ] || usage
case $act in
  hold | back) [ -z "$share" ] || usage ;;
  percent) [[ $share =~ ^([1-9]|[1-9][0-9]|100)$ ]] || usage ;;
  *) usage ;;
esac

run() { gcloud --quiet run "$@" --project="$project" --region="$region"; }
for service in health jsonrpc webhook ws; do
  # The companion may be left out.
  newest=$(run revisions list --service="$service" --sort-by='~metadata.creationTimestamp' --limit=2 \
    --format='value(metadata.name)')
  [ -n "$newest" ] || continue
  # Percent and revision, the largest share first.
  serving=$(run services describe "$service" --flatten='status.traffic[]' \
    --format='csv[no-heading,separator=" "](status.traffic.percent,status.traffic.revisionName)' | sort -rn)
  new=$(sed -n 1p <<<"$newest") second=$(sed -n 2p <<<"$newest")
  current=$(awk '$1 > 0 { print $2; exit }' <<<"$serving")
  # What served before the newest: still does, or has made way for it.
  old=$(awk -v new="$new" '$1 > 0 && $2 != new { print $2; exit }' <<<"$serving")
  old=${old:-$second}
  case $act in
    hold) split="--to-revisions=$current=100" ;;
    back) split="--to-revisions=$old=100" ;;
    percent)
      split="--to-revisions=$new=$share,$old=$((100 - share))"
      [ "$share" != 100 ] || split=--to-latest
      ;;
  esac
  # A service with one revision has nothing to split.
  if [ -z "$old" ] && [ "$act" != hold ]; then continue; fi
  run services update-traffic "$service" "$split" >/dev/null
  echo "$service $split"
done
