# Copy to my.tfvars and apply with `terraform -chdir=terraform apply -var-file=envs/my.tfvars`.
# Only project_id must be given.
project_id = "my-project"

# region      = "us-central1"
# alert_email = "me@example.com"   # without it no alert is sent, and each plan warns
# limits      = "100/minute,1000/hour,10000/day"
# model       = "anthropic/claude-sonnet-5-5"

# Where the organisation forbids allUsers (terraform/preflight.sh reports it):
# invoker_check = "disabled"

# Prompts run on the companion; "function" is charged per request (COST.md):
# turns = "function"

# After `gcloud secrets versions add anthropic-api-key --data-file=-`:
# secret_environment = { ANTHROPIC_API_KEY = "1" }

# After terraform/build-sandbox-image.sh:
# sandbox_image = "us-central1-docker.pkg.dev/my-project/gateway/sandbox@sha256:..."

# subscribers = {
#   releases = { endpoint = "https://hooks.example.com/releases", events = ["deployment.*"] }
# }
