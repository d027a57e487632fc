#!/bin/bash
# usage: terraform/init.sh BUCKET ENVIRONMENT
# Initialises Terraform with its state in a Cloud Storage bucket, one prefix per environment. Create the bucket once:
#   gcloud storage buckets create gs://BUCKET --location=REGION --uniform-bucket-level-access --public-access-prevention
#   gcloud storage buckets update gs://BUCKET --versioning
set -euo pipefail
bucket=${1:?usage: terraform/init.sh BUCKET ENVIRONMENT} environment=${2:?usage: terraform/init.sh BUCKET ENVIRONMENT}
cd "$(dirname "$0")"
# Not committed: a laptop without it has its state in a local file.
cp envs/backend.tf.example backend_override.tf
# A lock file that was committed is not changed (OPERATIONS.md).
locked=; [ ! -f .terraform.lock.hcl ] || locked=-lockfile=readonly
terraform init -input=false -reconfigure $locked -backend-config="bucket=$bucket" -backend-config="prefix=$environment"
