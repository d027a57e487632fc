#!/bin/bash
# Builds the container of the sandbox service (bubblewrap, Codex) in Cloud Build, without a local Docker, and prints the
# line for the .tfvars file. Run it after `npm run build` and a first `terraform apply`, which creates the registry,
# the build account and the bucket. BASE_IMAGE=IMAGE@sha256:... sets the base image, for example of a mirror, and
# BUILDER_IMAGE that of the builder.
set -euo pipefail
cd "$(dirname "$0")"

fail() { printf 'build-sandbox-image: %s\n' "$1" >&2; exit 1; }
[ -f ../dist/sandbox/Dockerfile ] || fail 'no ../dist/sandbox: run `npm run build` first'
# The later names are those of states that an earlier release applied: an upgrade builds the image before it plans.
for name in sandbox_image_build companion_image_build ws_image_build; do
  build=$(terraform output -json "$name" 2>/dev/null) && break
done || fail 'run `terraform apply` first'
# Flat JSON of plain names: each value is what follows its key.
value() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" <<<"$(tr ',' '\n' <<<"$build")"; }
image=$(value image) project=$(value project) staging=$(value staging)
image=${image%/*}/sandbox staging=${staging%/*}/sandbox-image

base=${BASE_IMAGE:-} builder=${BUILDER_IMAGE:-gcr.io/cloud-builders/docker}
for given in "$base" "${BUILDER_IMAGE:-}"; do
  [[ $given =~ ^([a-z0-9./:_-]+@sha256:[0-9a-f]{64})?$ ]] || fail "an image is named by digest, not $given"
done

config=$(mktemp)
trap 'rm -f "$config"' EXIT
cat >"$config" <<YAML
steps:
  - name: '$builder'
    args: [build, ${base:+--build-arg, 'BASE_IMAGE=$base',} --tag, '$image:latest', .]
images: ['$image:latest']
serviceAccount: '$(value account)'
options:
  logging: CLOUD_LOGGING_ONLY
timeout: 1200s
YAML

gcloud builds submit ../dist/sandbox --project="$project" --config="$config" --gcs-source-staging-dir="$staging" >&2
digest=$(gcloud artifacts docker images describe "$image:latest" --project="$project" \
  --format='value(image_summary.digest)')
echo "sandbox_image = \"$image@$digest\""
