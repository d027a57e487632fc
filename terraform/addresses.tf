# Addresses of the services, known before anything exists: Cloud Run answers for each service at this one, beside the
# one with a random part. So nothing has to wait for a service only to learn where it is, and a service that cannot be
# deployed keeps nothing else from being deployed.

# Read while planning: its API is enabled before the first plan (README.md, deploy).
data "google_project" "this" {
  project_id = var.project_id
}

locals {
  # https://cloud.google.com/run/docs/triggering/https-request#deterministic
  service_urls = {
    for name in concat(keys(local.functions), ["ws", "sandbox"]) :
    name => "https://${name}-${data.google_project.this.number}.${var.region}.run.app"
  }
  functions_url = "https://${var.region}-${var.project_id}.cloudfunctions.net"

  companion_count = var.companion.enabled ? 1 : 0
  # Where turns run. Without a companion there is no other place.
  turns = var.companion.enabled ? coalesce(var.turns, "companion") : "function"
  # With the load balancer, the only way in from outside leads past Cloud Armor, and jsonrpc comes through a network.
  companion_internal = var.companion.enabled && var.domain != null
}
