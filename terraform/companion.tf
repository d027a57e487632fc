# The companion on Cloud Run: `/ws`, calls that jsonrpc forwards, `/health`. Cloud Run runs the archive of the bundle on
# Google's Node.js base image, without a build. The companion starts no process; calls that need one are sent to the
# sandbox service (sandbox.tf).

locals {
  companion_uses = ["firestore", "keys", "kms", "models"]
  # The audience is not the URL of the service, because that is known only after the service exists.
  companion_audience = "codex-gateway-ws.${var.project_id}"
  companion_env = merge(
    local.common_env,
    local.model_env,
    {
      HOST               = "0.0.0.0"
      GATEWAY_DATA_DIR   = "/tmp/gateway"
      COMPANION_AUDIENCE = local.companion_audience
      COMPANION_CALLER   = google_service_account.function["jsonrpc"].email
      KMS_KEY            = google_kms_crypto_key.credentials.id
    },
    var.sandbox_image == null ? {} : {
      SANDBOX_URL      = local.service_urls.sandbox
      SANDBOX_AUDIENCE = local.sandbox_audience
    },
  )
}

resource "google_service_account" "companion" {
  account_id   = "gateway-ws"
  display_name = "Codex Gateway: ws"
  depends_on   = [time_sleep.apis]
}

resource "google_cloud_run_v2_service" "companion" {
  count = local.companion_count
  # The argument source_code exists only in the beta provider.
  provider    = google-beta
  name        = "ws"
  location    = var.region
  description = "Codex Gateway: WebSocket companion"
  # The service contains no data; all data is in Firestore.
  deletion_protection = false
  # The program itself checks keys, tickets and the token of jsonrpc, so IAM does not: a browser cannot send a token for
  # IAM with a WebSocket, and Cloud Run would remove the signature of jsonrpc's token, which the program verifies.
  invoker_iam_disabled = true
  # With a domain, no request may bypass Cloud Armor: external requests come only through the load balancer, and those
  # of jsonrpc through a VPC network of this project.
  ingress          = local.companion_internal ? "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER" : "INGRESS_TRAFFIC_ALL"
  custom_audiences = [local.companion_audience]

  template {
    service_account       = google_service_account.companion.email
    execution_environment = "EXECUTION_ENVIRONMENT_GEN2"
    # The maximum of Cloud Run. The companion closes its sockets after 55 minutes and notifies clients to reconnect.
    timeout = "3600s"
    # Every instance can serve every session, but the turns of a client are in memory on the instance of its last
    # connection.
    session_affinity = true
    # An open socket counts as a request; idle sockets use almost no resources.
    max_instance_request_concurrency = 250

    scaling {
      min_instance_count = 0
      max_instance_count = coalesce(var.companion.max_instances, var.scaling.max_instances)
    }

    # The route to the sandbox service, which accepts only requests from a VPC network of this project. Traffic to
    # public addresses does not use this network.
    dynamic "vpc_access" {
      for_each = var.sandbox_image == null ? [] : ["ws"]
      content {
        egress = "PRIVATE_RANGES_ONLY"
        network_interfaces {
          network    = google_compute_network.gateway[vpc_access.value].id
          subnetwork = google_compute_subnetwork.gateway[vpc_access.value].id
        }
      }
    }

    containers {
      # The image "scratch" with a base image is the notation of Cloud Run for a deployment from source without a build.
      image          = "scratch"
      base_image_uri = "${var.region}-docker.pkg.dev/serverless-runtimes/google-24/runtimes/nodejs24"
      command        = ["node"]
      args           = ["main.js"]

      source_code {
        cloud_storage_source {
          # The generation of the object is not set, because the name of the object contains the hash of its content.
          bucket = google_storage_bucket.source.name
          object = google_storage_bucket_object.bundle["companion"].name
        }
      }

      ports {
        container_port = 8080
      }

      resources {
        limits = { cpu = "1", memory = "512Mi" }
        # CPU is also allocated between requests, so that a turn continues when its client disconnects. An instance is
        # charged for while it exists; without clients, that is about 15 minutes.
        cpu_idle          = false
        startup_cpu_boost = true
      }

      startup_probe {
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 30
        http_get {
          path = "/health"
          port = 8080
        }
      }

      # A process that does not respond is replaced. /health does no work, so it also responds while many sockets are
      # open.
      liveness_probe {
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 6
        http_get {
          path = "/health"
          port = 8080
        }
      }

      dynamic "env" {
        for_each = local.companion_env
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = {
          for name, secret in local.environment_secrets :
          name => secret if contains(local.companion_uses, secret.use) && secret.version != null
        }
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = google_secret_manager_secret.environment[env.key].secret_id
              version = env.value.version
            }
          }
        }
      }
    }
  }

  depends_on = [time_sleep.grants]

  lifecycle {
    # A canary and a rollback are set by `gcloud run services update-traffic` (OPERATIONS.md).
    ignore_changes = [traffic]
  }
}
