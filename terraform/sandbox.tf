# The sandbox service on Cloud Run, if `sandbox_image` is set: commands of callers, terminals, MCP servers and Codex.
# Its account has no role, it has no secret, and only the companion may call it. Its network is in networks.tf.

locals {
  sandbox_count = var.sandbox_image == null ? 0 : 1
  # The audience is not the URL of the service, because that is known only after the service exists.
  sandbox_audience = "codex-gateway-sandbox.${var.project_id}"
  # The registered MCP servers that are programs, which run in this service. The companion connects to those with a URL.
  sandbox_servers = {
    for name, server in try(jsondecode(coalesce(var.sandbox_mcp_servers, var.environment["MCP_SERVERS"])), {}) :
    name => server if can(server.command)
  }
  # Host, port and data directory are set in the image.
  sandbox_env = merge(
    {
      SANDBOX_AUDIENCE = local.sandbox_audience
      SANDBOX_CALLERS  = google_service_account.companion.email
    },
    length(local.sandbox_servers) == 0 ? {} : { MCP_SERVERS = jsonencode(local.sandbox_servers) },
  )
}

# The account has no role, because a process that breaks out of its sandbox can get a token of the account from the
# metadata server.
resource "google_service_account" "sandbox" {
  count        = local.sandbox_count
  account_id   = "gateway-sandbox"
  display_name = "Codex Gateway: sandbox, without roles"
  depends_on   = [time_sleep.apis]
}

resource "google_cloud_run_v2_service" "sandbox" {
  count       = local.sandbox_count
  name        = "sandbox"
  location    = var.region
  description = "Codex Gateway: commands, terminals, MCP servers and Codex"
  # Deleting the service loses no data that would otherwise be kept, because workspaces end with their instance.
  deletion_protection = false
  # Cloud Run admits only the account of sandbox_invoker. It checks the token in X-Serverless-Authorization, and leaves
  # the one in Authorization unchanged; the program verifies the signature and the account (SANDBOX_CALLERS) of the
  # latter.
  invoker_iam_disabled = false
  custom_audiences     = [local.sandbox_audience]
  # Only requests from VPC networks of this project are accepted; the companion sends its requests through one.
  ingress = "INGRESS_TRAFFIC_INTERNAL_ONLY"

  template {
    service_account = google_service_account.sandbox[0].email
    # The second generation is a Linux kernel with the namespaces that bubblewrap needs.
    execution_environment = "EXECUTION_ENVIRONMENT_GEN2"
    # The maximum of Cloud Run. A companion moves its connection to a new WebSocket before.
    timeout = "3600s"
    # A connection of a companion counts as a request while it is open.
    max_instance_request_concurrency = 1000

    scaling {
      min_instance_count = 0
      max_instance_count = var.sandbox_instances
    }

    # Without this block, the service would have the direct internet access of Cloud Run.
    dynamic "vpc_access" {
      for_each = var.sandbox_egress ? [] : ["sandbox"]
      content {
        egress = "ALL_TRAFFIC"
        network_interfaces {
          network    = google_compute_network.gateway[vpc_access.value].id
          subnetwork = google_compute_subnetwork.gateway[vpc_access.value].id
        }
      }
    }

    containers {
      image = var.sandbox_image

      ports {
        container_port = 8080
      }

      resources {
        limits = { cpu = tostring(var.sandbox_cpu), memory = "${var.sandbox_memory_gib}Gi" }
        # CPU is also allocated between requests, so that processes continue. An instance is charged for while a
        # companion is connected to it.
        cpu_idle          = false
        startup_cpu_boost = true
      }

      startup_probe {
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 60
        http_get {
          path = "/health"
          port = 8080
        }
      }

      # A process that does not respond is replaced. The deadline is generous, because commands may use all CPUs for a
      # while.
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
        for_each = local.sandbox_env
        content {
          name  = env.key
          value = env.value
        }
      }
    }
  }

  lifecycle {
    # Without this check, the service would be deployed and fail to start.
    precondition {
      condition = alltrue([
        for server in local.sandbox_servers : length(try(server.env, {})) == 0 || try(server.in_sandbox, false)
      ])
      error_message = <<-EOT
        A program in MCP_SERVERS has "env", which everything that breaks out in the sandbox service could read: mark it
        with "in_sandbox": true, or take the secret away.
      EOT
    }
    precondition {
      condition = var.sandbox_egress || alltrue([
        for server in local.sandbox_servers : !try(server.network, false)
      ])
      error_message = <<-EOT
        A program in MCP_SERVERS has "network": true, and there is no network in the sandbox service: set
        sandbox_egress = true, or take "network" away.
      EOT
    }
  }

  # The firewall is created first, because an instance without it would have internet access.
  depends_on = [time_sleep.apis, google_compute_firewall.closed]
}

# The companion does not wait until this grant is effective (up to a minute): a call that is refused meanwhile reports
# that, and the next one connects again.
resource "google_cloud_run_v2_service_iam_member" "sandbox_invoker" {
  count    = local.sandbox_count
  location = google_cloud_run_v2_service.sandbox[0].location
  name     = google_cloud_run_v2_service.sandbox[0].name
  role     = "roles/run.invoker"
  member   = google_service_account.companion.member
}
