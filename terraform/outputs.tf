# The outputs that an operator needs after an apply.

locals {
  host     = coalesce(var.domain, "${var.region}-${var.project_id}.cloudfunctions.net")
  base_url = "https://${local.host}"
  websocket_url = !var.companion.enabled ? null : var.domain == null ? "${replace(
    local.service_urls.ws, "https://", "wss://"
  )}/ws" : "wss://${var.domain}/ws"
}

output "base_url" {
  description = "GATEWAY_URL: /health, /jsonrpc and /webhook are under it."
  value       = local.base_url
}

output "websocket_url" {
  description = "The WebSocket endpoint; null without a companion."
  value       = local.websocket_url
}

output "alerts" {
  description = "Address that receives the alerts."
  value = (
    var.alert_email == null
    ? "NO ALERT IS SENT: set alert_email and apply. Until then incidents are only in the console."
    : var.alert_email
  )
}

output "curl" {
  description = "Paste it: the first prompt."
  value       = <<-EOT
    export GATEWAY_URL=${local.base_url}
    export GATEWAY_KEY=$(gcloud secrets versions access "$(gcloud secrets versions list \
      ${google_secret_manager_secret.api_key.secret_id} --project=${var.project_id} --filter=state=enabled \
      --limit=1 --format='value(name.basename())')" \
      --secret=${google_secret_manager_secret.api_key.secret_id} --project=${var.project_id})
    curl -sS "$GATEWAY_URL/jsonrpc" -H "X-API-Key: $GATEWAY_KEY" -H "Content-Type: application/json" \
%{~if !var.public_access}
      -H "X-Serverless-Authorization: Bearer $(gcloud auth print-identity-token)" \
%{~endif}
      -d '{"jsonrpc":"2.0","method":"conversation.prompt","params":{"prompt":"Hello"},"id":1}'
  EOT
}

output "domain_address" {
  description = "Address for the domain's A record; null without a domain."
  value       = one(google_compute_global_address.gateway[*].address)
}

output "events_topic" {
  description = "Topic of the events."
  value       = google_pubsub_topic.events.id
}

output "push_account" {
  description = <<-EOT
    Whose OIDC tokens the push subscribers get: they check this e-mail address and their own URL as audience.
  EOT
  value       = google_service_account.push.email
}

output "service_accounts" {
  description = "Account of each deployable."
  value = merge(
    { for name, account in google_service_account.function : name => account.email },
    var.companion.enabled ? { ws = google_service_account.companion.email } : {},
    { for account in google_service_account.sandbox : "sandbox" => account.email },
  )
}

output "sandbox_image_build" {
  description = "Values that build-sandbox-image.sh needs."
  value = {
    project = var.project_id
    image = join("/", [
      "${var.region}-docker.pkg.dev/${var.project_id}",
      google_artifact_registry_repository.gateway.repository_id,
      "sandbox",
    ])
    account = google_service_account.build.id
    staging = "gs://${google_storage_bucket.source.name}/sandbox-image"
  }
}
