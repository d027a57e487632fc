# The addresses of the services. Besides the URL with a random part, Cloud Run serves each service at a deterministic
# URL, which is known before the service exists. So no resource has to wait for a service only to get its URL, and a
# service that cannot be deployed does not block others.

# Read during the plan, so its API must be enabled before the first plan (README.md, deploy).
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
  # Where turns run: without a companion, in the function.
  turns = var.companion.enabled ? coalesce(var.turns, "companion") : "function"
  # With a load balancer, external requests reach the companion only through Cloud Armor, and jsonrpc reaches it through
  # a VPC network.
  companion_internal = var.companion.enabled && var.domain != null
}
