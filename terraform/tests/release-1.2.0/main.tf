# The resources of release 1.2.0 with `ws_image` that contain data or have a public URL, with their addresses and names.
# upgrade.tftest.hcl plans the present configuration on this state.

terraform {
  required_providers {
    google      = { source = "hashicorp/google" }
    google-beta = { source = "hashicorp/google-beta" }
    random      = { source = "hashicorp/random" }
  }
}

variable "project_id" {
  type = string
}

locals {
  region    = "us-central1"
  functions = toset(["health", "jsonrpc", "webhook", "deployments"])
}

resource "google_service_account" "function" {
  for_each   = local.functions
  account_id = "gateway-${each.key}"
}

resource "google_service_account" "ws" {
  account_id = "gateway-ws"
}

resource "google_cloudfunctions2_function" "function" {
  for_each = local.functions
  name     = each.key
  location = local.region
  service_config {
    service_account_email = google_service_account.function[each.key].email
  }
}

resource "google_cloud_run_v2_service" "ws" {
  provider             = google-beta
  name                 = "ws"
  location             = local.region
  deletion_protection  = false
  invoker_iam_disabled = true
  template {
    service_account = google_service_account.ws.email
    containers {
      image = "us-central1-docker.pkg.dev/${var.project_id}/gateway/ws@sha256:${sha256("1.2.0")}"
    }
    scaling {
      max_instance_count = 1
    }
  }
}

resource "google_firestore_database" "gateway" {
  name        = "(default)"
  location_id = local.region
  type        = "FIRESTORE_NATIVE"
}

resource "random_id" "key_ring" {
  byte_length = 4
  keepers     = { project = var.project_id }
}

resource "google_kms_key_ring" "gateway" {
  name     = "gateway-${random_id.key_ring.hex}"
  location = local.region
}

resource "google_kms_crypto_key" "credentials" {
  name     = "credentials"
  key_ring = google_kms_key_ring.gateway.id
}

resource "google_secret_manager_secret" "api_key" {
  secret_id = "gateway-api-key"
  replication {
    auto {}
  }
}

resource "google_secret_manager_secret_version" "first_key" {
  secret                 = google_secret_manager_secret.api_key.id
  secret_data_wo         = "gateway-key"
  secret_data_wo_version = 1
}

resource "google_secret_manager_secret" "environment" {
  for_each = {
    ANTHROPIC_API_KEY = "anthropic-api-key"
    OPENAI_API_KEY    = "openai-api-key"
    WEBHOOK_SECRETS   = "gateway-webhook-secrets"
  }
  secret_id = each.value
  replication {
    auto {}
  }
}

resource "google_pubsub_topic" "events" {
  name = "gateway-events"
}

resource "google_pubsub_topic" "dead_letters" {
  name = "gateway-dead-letters"
}

resource "google_pubsub_subscription" "subscription" {
  for_each = toset(["deployments"])
  name     = "gateway-${each.key}"
  topic    = google_pubsub_topic.events.id
}

resource "google_pubsub_subscription" "dead_letters" {
  name  = "gateway-dead-letters"
  topic = google_pubsub_topic.dead_letters.id
}

resource "google_compute_global_address" "gateway" {
  count = 1
  name  = "gateway"
}

output "ids" {
  value = concat(
    [for account in google_service_account.function : account.id],
    [for function in google_cloudfunctions2_function.function : function.id],
    [for secret in google_secret_manager_secret.environment : secret.id],
    [for subscription in google_pubsub_subscription.subscription : subscription.id],
    [
      google_service_account.ws.id,
      google_cloud_run_v2_service.ws.id,
      google_firestore_database.gateway.id,
      random_id.key_ring.id,
      google_kms_key_ring.gateway.id,
      google_kms_crypto_key.credentials.id,
      google_secret_manager_secret.api_key.id,
      google_secret_manager_secret_version.first_key.id,
      google_pubsub_topic.events.id,
      google_pubsub_topic.dead_letters.id,
      google_pubsub_subscription.dead_letters.id,
      google_compute_global_address.gateway[0].id,
    ],
  )
}

output "names" {
  value = concat(
    [for function in google_cloudfunctions2_function.function : function.name],
    [for secret in google_secret_manager_secret.environment : secret.secret_id],
    [for subscription in google_pubsub_subscription.subscription : subscription.name],
    [
      google_service_account.ws.account_id,
      google_cloud_run_v2_service.ws.name,
      google_firestore_database.gateway.name,
      google_kms_key_ring.gateway.name,
      google_kms_crypto_key.credentials.name,
      google_secret_manager_secret.api_key.secret_id,
      google_pubsub_topic.events.name,
      google_pubsub_topic.dead_letters.name,
      google_pubsub_subscription.dead_letters.name,
      google_compute_global_address.gateway[0].name,
    ],
  )
}
