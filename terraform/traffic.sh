#!/bin/bash
# usage: terraform/traffic.sh PROJECT REGION hold | percent N | back | restore
# Splits the requests of callers between the newest revision of each service and the one before:
#   hold        keeps all on the revision that serves now: the next apply (-var traffic=held) sends none to its own
#   percent N   sends N % to the newest revision, and the rest to the one before; with 100, and to later ones, all.
#               Below 100, a service whose newest revision has all requests already is not changed
#   back        sends all to the revision before
#   restore     sends all to the revisions that served at `hold`; reads the output of `hold` on standard input
set -euo pipefail

usage() { sed -n '2,8s/^# //p' "$0" >&2; exit 64; }
project=${1:-} region=${2:-} act=${3:-} share=${4:-}
[ -n "$region" ] || usage
case $act in
  hold | back | restore) [ -z "$share" ] || usage ;;
  percent) [[ $share =~ ^([1-9]|[1-9][0-9]|100)$ ]] || usage ;;
  *) usage ;;
esac
held=
[ "$act" != restore ] || held=$(cat)

run() { gcloud --quiet run "$@" --project="$project" --region="$region"; }

# Prints the argument that splits the requests of a service; nothing where the service stays as it is.
choose() {
  local newest serving new second current old
  if [ "$act" = restore ]; then
    awk -v service="$1" '$1 == service { print $2 }' <<<"$held"
    return
  fi
  newest=$(run revisions list --service="$1" --sort-by='~metadata.creationTimestamp' --limit=2 \
    --format='value(metadata.name)') || return
  # The companion may be left out.
  [ -n "$newest" ] || return 0
  # Percent and revision, the largest share first.
  serving=$(run services describe "$1" --flatten='status.traffic[]' \
    --format='csv[no-heading,separator=" "](status.traffic.percent,status.traffic.revisionName)') || return
  serving=$(sort -rn <<<"$serving")
  new=$(sed -n 1p <<<"$newest") second=$(sed -n 2p <<<"$newest")
  current=$(awk '$1 > 0 { print $2; exit }' <<<"$serving")
  # What served before the newest: still does, or has made way for it.
  old=$(awk -v new="$new" '$1 > 0 && $2 != new { print $2; exit }' <<<"$serving")
  case $act in
    # A service that never became ready serves nothing.
    hold) [ -z "$current" ] || echo "--to-revisions=$current=100" ;;
    # A service with one revision has nothing to split.
    back) [ -z "${old:-$second}" ] || echo "--to-revisions=${old:-$second}=100" ;;
    percent)
      if [ "$share" = 100 ]; then echo --to-latest
      # Where the newest revision has all requests, the apply has changed nothing: the one before is an earlier release.
      elif [ -n "$old" ]; then echo "--to-revisions=$new=$share,$old=$((100 - share))"; fi
      ;;
  esac
}

# A service that fails does not keep the others from a way back.
failed=0
for service in health jsonrpc webhook ws; do
  if split=$(choose "$service") && { [ -z "$split" ] || run services update-traffic "$service" "$split" >/dev/null; }
  then
    [ -z "$split" ] || echo "$service $split"
  else
    echo "traffic.sh: $service was not changed" >&2
    failed=1
  fi
done
exit "$failed"
