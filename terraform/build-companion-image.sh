#!/bin/bash
# Builds the companion's container (bubblewrap, Codex) in Cloud Build, without a local Docker, and prints the line for
# the .tfvars file. After `npm run build` and a first `terraform apply`, which makes the registry, the build account and
# the bucket.
set -euo pipefail
cd "$(dirname "$0")"

fail() { printf 'build-companion-image: %s\n' "$1" >&2; exit 1; }
[ -f ../dist/companion/Dockerfile ] || fail 'no ../dist/companion: run `npm run build` first'
build=$(terraform output -json companion_image_build) || fail 'run `terraform apply` first'
# Flat JSON of plain names: each value is what follows its key.
value() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" <<<"$(tr ',' '\n' <<<"$build")"; }
image=$(value image) project=$(value project)

config=$(mktemp)
trap 'rm -f "$config"' EXIT
cat >"$config" <<YAML
steps:
  - name: gcr.io/cloud-builders/docker
    args: [build, --tag, '$image:latest', .]
images: ['$image:latest']
serviceAccount: '$(value account)'
options:
  logging: CLOUD_LOGGING_ONLY
timeout: 1200s
YAML

gcloud builds submit ../dist/companion --project="$project" --config="$config" \
  --gcs-source-staging-dir="$(value staging)" >&2
digest=$(gcloud artifacts docker images describe "$image:latest" --project="$project" \
  --format='value(image_summary.digest)')
echo "ws_image = \"$image@$digest\""
