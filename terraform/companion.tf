# The WebSocket companion on Cloud Run: `/ws`, calls forwarded by jsonrpc, `/health`. The bundle's archive on Google's
# Node.js base image, without a build. It starts no process: what needs one goes to the sandbox service (sandbox.tf).

locals {
  companion_uses = ["firestore", "keys", "kms", "models"]
  # Not its URL, which only exists once the service does.
  companion_audience = "codex-gateway-ws.${var.project_id}"
  companion_env = merge(
    local.common_env,
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
  # source_code is beta.
  provider    = google-beta
  name        = "ws"
  location    = var.region
  description = "Codex Gateway: WebSocket companion"
  # Holds no data: all of it is in Firestore.
  deletion_protection = false
  # It checks keys, tickets and jsonrpc's token by itself: a browser cannot send IAM a token with a WebSocket, and from
  # jsonrpc's Cloud Run would take the signature that the code has to see.
  invoker_iam_disabled = true
  # With a domain no request may bypass Cloud Armor: from outside only the load balancer reaches it, and jsonrpc through
  # a network of this project.
  ingress          = local.companion_internal ? "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER" : "INGRESS_TRAFFIC_ALL"
  custom_audiences = [local.companion_audience]

  template {
    service_account       = google_service_account.companion.email
    execution_environment = "EXECUTION_ENVIRONMENT_GEN2"
    # The longest Cloud Run allows; the companion itself closes its sockets at 55 minutes, with a hint to come back.
    timeout = "3600s"
    # Any instance serves any session; where a client's last one was, its turn is still in memory.
    session_affinity = true
    # Sockets count, each as long as it is open; idle ones cost next to nothing.
    max_instance_request_concurrency = 250

    scaling {
      min_instance_count = 0
      max_instance_count = coalesce(var.companion.max_instances, var.scaling.max_instances)
    }

    # Its way to the sandbox service, which counts as internal only what comes from a network of this project. What has
    # a public address does not go through it.
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
      # "scratch" with a base image is how Cloud Run spells source without a build.
      image          = "scratch"
      base_image_uri = "${var.region}-docker.pkg.dev/serverless-runtimes/google-24/runtimes/nodejs24"
      command        = ["node"]
      args           = ["main.js"]

      source_code {
        cloud_storage_source {
          # Without a generation, as Google's own clients name it: the object's name has the hash of its content.
          bucket = google_storage_bucket.source.name
          object = google_storage_bucket_object.bundle["companion"].name
        }
      }

      ports {
        container_port = 8080
      }

      resources {
        limits = { cpu = "1", memory = "512Mi" }
        # CPU also between requests: a turn continues when its client's socket is cut. An instance is paid for while it
        # lives, which without clients is some 15 minutes.
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

      # A process that no longer answers is replaced. Sockets keep it busy, but /health does no work.
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
    # A canary and a way back are set by `gcloud run services update-traffic` (OPERATIONS.md).
    ignore_changes = [traffic]
  }
}
