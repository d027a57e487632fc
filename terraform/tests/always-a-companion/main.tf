# The resources of the configuration that always had a companion, as far as their addresses have changed since, and
# the resources that a plan on it must keep. upgrade.tftest.hcl plans the present configuration on this state.

terraform {
  required_providers {
    google      = { source = "hashicorp/google" }
    google-beta = { source = "hashicorp/google-beta" }
  }
}

variable "project_id" {
  type = string
}

resource "google_service_account" "companion" {
  account_id = "gateway-ws"
}

resource "google_cloud_run_v2_service" "companion" {
  provider             = google-beta
  name                 = "ws"
  location             = "us-central1"
  deletion_protection  = false
  invoker_iam_disabled = true
  template {
    service_account = google_service_account.companion.email
    containers {
      image = "scratch"
    }
  }
}

resource "google_firestore_database" "gateway" {
  name        = "(default)"
  location_id = "us-central1"
  type        = "FIRESTORE_NATIVE"
}

resource "google_pubsub_topic" "events" {
  name = "gateway-events"
}

resource "google_pubsub_subscription" "subscription" {
  for_each = toset(["deployments"])
  name     = "gateway-${each.key}"
  topic    = google_pubsub_topic.events.id
  push_config {
    push_endpoint = "https://deployments-abc-uc.a.run.app"
  }
}

output "ids" {
  value = [
    google_service_account.companion.id,
    google_cloud_run_v2_service.companion.id,
    google_firestore_database.gateway.id,
    google_pubsub_topic.events.id,
    google_pubsub_subscription.subscription["deployments"].id,
  ]
}
