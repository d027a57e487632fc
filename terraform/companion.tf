# The WebSocket companion on Cloud Run: `/ws`, calls forwarded by jsonrpc, `/health`. Light form: the bundle's zip on
# Google's Node.js base image. With `ws_image`: the container with bubblewrap and Codex, which is what workspace methods
# and the codex engine need.

locals {
  companion_uses = ["firestore", "keys", "kms", "models"]
  # Not its URL, which only exists once the service does.
  companion_audience = "codex-gateway-ws.${var.project_id}"
  companion_light    = var.ws_image == null
  companion_env = merge(local.common_env, {
    HOST = "0.0.0.0"
    # Workspaces, gone with the instance. In the image, a directory of the user it runs as; Google's base image has only
    # /tmp.
    GATEWAY_DATA_DIR   = local.companion_light ? "/tmp/gateway" : "/var/lib/gateway"
    COMPANION_AUDIENCE = local.companion_audience
    COMPANION_CALLER   = google_service_account.function["jsonrpc"].email
    KMS_KEY            = google_kms_crypto_key.credentials.id
  })
}

resource "google_service_account" "companion" {
  account_id   = "gateway-ws"
  display_name = "Codex Gateway: ws"
  depends_on   = [time_sleep.apis]
}

resource "google_cloud_run_v2_service" "companion" {
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
  # jsonrpc reaches it at its public address, so the load balancer cannot be the only way in.
  ingress          = "INGRESS_TRAFFIC_ALL"
  custom_audiences = [local.companion_audience]

  template {
    service_account       = google_service_account.companion.email
    execution_environment = "EXECUTION_ENVIRONMENT_GEN2"
    # The longest Cloud Run allows; the companion itself closes its sockets at 55 minutes, with a hint to come back.
    timeout = "3600s"
    # Files, terminals and MCP servers are on one instance: by default there is only that one (see the variable
    # `companion`), and with more a client that keeps the cookie comes back to its own.
    session_affinity = true
    # Sockets count, each as long as it is open; idle ones cost next to nothing.
    max_instance_request_concurrency = local.companion_light ? 250 : 1000

    scaling {
      min_instance_count = 0
      max_instance_count = coalesce(var.companion.max_instances, local.companion_light ? var.scaling.max_instances : 1)
    }

    containers {
      # "scratch" with a base image is how Cloud Run spells a zip without a build.
      image = local.companion_light ? "scratch" : var.ws_image
      base_image_uri = (
        local.companion_light ? "${var.region}-docker.pkg.dev/serverless-runtimes/google-24/runtimes/nodejs24" : null
      )
      command = local.companion_light ? ["node"] : null
      args    = local.companion_light ? ["main.js"] : null

      dynamic "source_code" {
        for_each = local.companion_light ? [google_storage_bucket_object.bundle["companion"]] : []
        content {
          cloud_storage_source {
            bucket     = google_storage_bucket.source.name
            object     = source_code.value.name
            generation = source_code.value.generation
          }
        }
      }

      ports {
        container_port = 8080
      }

      resources {
        limits = local.companion_light ? { cpu = "1", memory = "512Mi" } : {
          cpu = tostring(var.companion.cpu), memory = "${var.companion.memory_gib}Gi"
        }
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
}
